"""pymilvus over a channel of kubelb's. After UNAVAILABLE it makes its own, unless that is made kubelb's, too."""

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from pymilvus import AsyncMilvusClient, MilvusClient, MilvusException
from pymilvus.grpc_gen import common_pb2, milvus_pb2
from tests.companions.rpc import serves, serving, until

import kubelb
from kubelb.adapters.grpc import aio, insecure_channel
from kubelb.testing import Backend, Service

NOWHERE = "http://127.0.0.1:9"
"""What pymilvus would dial by itself."""
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
LIMITS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
"""pymilvus sets these on channels of its own."""
READS = [f"/milvus.proto.milvus.MilvusService/{name}" for name in ("Connect", "ShowCollections")]
"""What may be repeated; `Connect` is the handshake on each channel, which pymilvus does not try again."""


def milvus(backend: Backend) -> dict[str, Any]:
    """One collection, which has the name of the pod."""
    names = [backend.name]
    answers = {
        "Connect": (milvus_pb2.ConnectRequest, lambda: milvus_pb2.ConnectResponse(identifier=7)),
        "ShowCollections": (
            milvus_pb2.ShowCollectionsRequest,
            lambda: milvus_pb2.ShowCollectionsResponse(status=common_pb2.Status(), collection_names=names),
        ),
        "DropCollection": (milvus_pb2.DropCollectionRequest, common_pb2.Status),
    }
    return {
        name: grpc.unary_unary_rpc_method_handler(
            lambda request, context, made=made: made(), kind.FromString, lambda answer: answer.SerializeToString()
        )
        for name, (kind, made) in answers.items()
    }


register = serves(milvus_proto_milvus_MilvusService=milvus)


@pytest.fixture(autouse=True)
def nothing_is_kept() -> Iterator[None]:
    """Clients that are not `dedicated` share a handler for the life of the process."""
    yield
    gc.collect()


def connected(lb: kubelb.LoadBalancer, **options: Any) -> tuple[MilvusClient, Any]:
    """As the guide has it, and its first channel."""
    channel = insecure_channel(lb, options=LIMITS, **options)
    client = MilvusClient(NOWHERE, channel=channel, dedicated=True, token="root:Milvus")
    return client, channel


def balanced(lb: kubelb.LoadBalancer, **options: Any) -> tuple[MilvusClient, Any]:
    """And the channels that it makes by itself are kubelb's, too."""
    client, channel = connected(lb, **options)
    client._handler._create_grpc_channel = lambda address=None: insecure_channel(lb, options=LIMITS, **options)
    return client, channel


def warm(channel: Any) -> None:
    assert until(lambda: sum(sub.check(False) == 2 for sub in tuple(channel.subs._subs.values())) == 3)


def listed(client: MilvusClient, times: int) -> list[str]:
    return [client.list_collections()[0] for _ in range(times)]


def test_calls_are_spread() -> None:
    """Over all pods, with what its interceptors add; a pod that is killed is no matter."""
    with serving(register) as (pods, lb):
        client, channel = connected(lb, idempotent=READS)
        warm(channel)
        taken = listed(client, 30)
        assert {taken.count(pod.name) for pod in pods} == {10}
        assert {call.headers.get("identifier") for pod in pods for call in pod.log if "Show" in call.path} == {"7"}
        assert all("authorization" in call.headers for pod in pods for call in pod.log)
        pods[0].kill()
        assert set(listed(client, 20)) == {pods[1].name, pods[2].name}
        assert client._handler._channel is channel
        client.close()


def test_unavailable_leaves_the_channel() -> None:
    """The fault that the guide names: after UNAVAILABLE pymilvus dials its `uri`, and not what it was given."""
    with serving(register) as (pods, lb):
        client, channel = connected(lb)
        warm(channel)
        for pod in pods:
            pod.fail(UNAVAILABLE, times=1)
        with pytest.raises(MilvusException, match=r"Fail connecting to server on 127\.0\.0\.1:9"):
            client.drop_collection("x")
        client.close()


def test_unavailable_is_survived() -> None:
    """By the library's own tries, where its new channels are kubelb's."""
    with serving(register) as (pods, lb):
        client, channel = balanced(lb, idempotent=READS)
        warm(channel)
        for pod in pods:
            pod.fail(UNAVAILABLE, times=1)
        client.drop_collection("x")
        assert client._handler._channel is not channel
        assert set(listed(client, 30)) == {pod.name for pod in pods}
        client.close()


def test_tries_multiply() -> None:
    """Reads that kubelb may repeat do not come to that: the library sees nothing of what another pod makes good."""
    with serving(register) as (pods, lb):
        client, channel = balanced(lb, idempotent=READS)
        warm(channel)
        pods[0].fail(UNAVAILABLE, times=1)
        pods[1].fail(UNAVAILABLE, times=1)
        assert len(listed(client, 3)) == 3
        assert client._handler._channel is channel
        before = pods.requests
        for pod in pods:
            pod.fail(UNAVAILABLE, times=1)
        assert listed(client, 1)
        assert client._handler._channel is not channel
        assert pods.requests - before == 3 + 1 + 1  # three by kubelb, a new handshake, and the library's second
        client.close()


def test_asyncio() -> None:
    """The same: spread, a dead pod, and UNAVAILABLE with a way to make channels."""

    async def main(pods: Service, lb: kubelb.LoadBalancer) -> None:
        make: Any = lambda address=None: aio.insecure_channel(lb, options=LIMITS, idempotent=READS)  # noqa: E731
        channel = make()
        async with AsyncMilvusClient(NOWHERE, channel=channel, dedicated=True, token="root:Milvus") as client:
            client._handler._create_channel = make
            await channel.channel_ready()
            taken = [(await client.list_collections())[0] for _ in range(30)]
            assert set(taken) == {pod.name for pod in pods}
            shown = [call.headers for pod in pods for call in pod.log if "Show" in call.path]
            assert {each.get("identifier") for each in shown} == {"7"}
            assert all("authorization" in each for each in shown)
            pods[0].kill()
            for _ in range(20):
                assert (await client.list_collections())[0] != pods[0].name
            for pod in pods:
                pod.fail(UNAVAILABLE, times=1)
            await client.drop_collection("x")
            assert client._handler._async_channel is not channel
            assert {(await client.list_collections())[0] for _ in range(10)} == {pods[1].name, pods[2].name}

    with serving(register) as (pods, lb):
        asyncio.run(main(pods, lb))
