"""qdrant-client: it takes an httpx transport; a gRPC channel only into its pool, which is private."""

import asyncio
import json
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import grpc
import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient
from qdrant_client import grpc as wire
from qdrant_client.connection import header_adder_interceptor
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
from qdrant_client.models import PointStruct
from tests.companions.rpc import serves, serving, target, until

import kubelb
from kubelb.adapters.grpc import aio, insecure_channel
from kubelb.adapters.httpx import AsyncTransport, Transport
from kubelb.testing import Backend, LocalCluster, Received, Reply, Service

URL = "http://companion.prod:6333"
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
LIST = "/qdrant.Collections/List"


def collections(backend: Backend) -> dict[str, Any]:
    """One collection, which has the name of the pod."""

    def show(request: Any, context: Any) -> Any:
        return wire.ListCollectionsResponse(collections=[wire.CollectionDescription(name=backend.name)])

    kind = wire.ListCollectionsRequest
    return {"List": grpc.unary_unary_rpc_method_handler(show, kind.FromString, lambda a: a.SerializeToString())}


def points(backend: Backend) -> dict[str, Any]:
    """It takes what it is given."""
    done = wire.UpdateResult(operation_id=1, status=wire.UpdateStatus.Completed)
    answer = wire.PointsOperationResponse(result=done).SerializeToString()
    return {"Upsert": grpc.unary_unary_rpc_method_handler(lambda request, context: answer)}


register = serves(qdrant_Collections=collections, qdrant_Points=points)
POINTS = [PointStruct(id=number, vector=[0.5]) for number in range(6)]


def by_grpc(channel: grpc.Channel) -> QdrantClient:
    """As the guide has it: a pool of one, which is filled before its first use."""
    client = QdrantClient(url=URL, prefer_grpc=True, pool_size=1, check_compatibility=False)
    client._client._grpc_channel_pool = [channel]
    return client


def first(client: QdrantClient) -> str:
    return client.get_collections().collections[0].name


def test_grpc() -> None:
    """Calls are spread; a pod that is killed or UNAVAILABLE is no matter where a method may be repeated."""
    with serving(register) as (pods, lb):
        channel = insecure_channel(lb, idempotent=[LIST])
        grpc.channel_ready_future(channel).result(timeout=20)
        client = by_grpc(channel)
        assert first(client)
        taken = [first(client) for _ in range(30)]
        assert min(taken.count(pod.name) for pod in pods) >= 5
        pods[0].kill()
        assert {first(client) for _ in range(10)} == {pods[1].name, pods[2].name}
        pods[1].fail(UNAVAILABLE)
        assert {first(client) for _ in range(10)} == {pods[2].name}
        client.close()
        assert channel._channel.closed()


def test_grpc_is_not_tried_again_by_the_library() -> None:
    """It has no tries of its own: what kubelb may not repeat is the caller's. An API key is the channel's business."""
    with serving(register) as (pods, lb):
        key = header_adder_interceptor([("api-key", "secret")])
        client = by_grpc(grpc.intercept_channel(insecure_channel(lb), key))
        assert first(client)
        for pod in pods:
            pod.fail(UNAVAILABLE, times=1)
        with pytest.raises(grpc.RpcError) as caught:
            first(client)
        assert caught.value.code() is UNAVAILABLE
        assert pods.requests == 2
        assert {call.headers["api-key"] for pod in pods for call in pod.log} == {"secret"}
        client.close()


def test_uploads_over_grpc_go_past_it() -> None:
    """Kind: connections beside the client's own. An upload makes its channel anew, to the name in `url`."""
    with serving(register) as (pods, lb), serving(register, replicas=1) as (bare, _):
        host, _, port = bare[0].address.rpartition(":")
        client = QdrantClient(
            url=f"http://{host}:6333", grpc_port=int(port), prefer_grpc=True, pool_size=1, check_compatibility=False
        )
        client._client._grpc_channel_pool = [insecure_channel(lb)]
        client.upload_points("reviews", POINTS, batch_size=1)
        assert (bare.requests, pods.requests) == (6, 0)
        client.upsert("reviews", POINTS)
        assert (bare.requests, pods.requests) == (6, 1)
        client.close()


def test_grpc_asyncio() -> None:
    """The same for asyncio."""

    async def main(pods: Service, lb: kubelb.LoadBalancer) -> None:
        channel = aio.insecure_channel(lb, idempotent=[LIST])
        await channel.channel_ready()
        client = AsyncQdrantClient(url=URL, prefer_grpc=True, pool_size=1, check_compatibility=False)
        client._client._grpc_channel_pool = [channel]
        ask: Callable[[], Any] = lambda: client.get_collections()  # noqa: E731
        taken = [(await ask()).collections[0].name for _ in range(30)]
        assert min(taken.count(pod.name) for pod in pods) >= 5
        pods[0].kill()
        pods[1].fail(UNAVAILABLE)
        assert {(await ask()).collections[0].name for _ in range(10)} == {pods[2].name}
        await client.close()

    with serving(register) as (pods, lb):
        asyncio.run(main(pods, lb))


def answer(request: Received) -> Reply:
    result: Any = {"collections": [{"name": "reviews"}]}
    if request.method == "PUT":
        result = {"operation_id": 1, "status": "acknowledged"}
    body = {"result": result, "status": "ok", "time": 0.0}
    return Reply(200, json.dumps(body), {"content-type": "application/json"})


def test_http() -> None:
    """A transport is handed through: requests are spread, dead and failing pods are passed over."""
    with LocalCluster() as cluster:
        pods = cluster.service("companion.prod", replicas=3, handler=answer)
        with kubelb.LoadBalancer(target(pods), policy="round_robin") as lb:
            client = QdrantClient(url=URL, transport=Transport(lb), check_compatibility=False)
            assert {first(client) for _ in range(30)} == {"reviews"}
            assert {pod.requests for pod in pods} == {10}
            client.upload_points("reviews", POINTS, batch_size=1)
            assert {pod.requests for pod in pods} == {12}
            pods[0].kill()
            pods[1].fail(503)
            assert {first(client) for _ in range(4)} == {"reviews"}
            assert pods[2].requests == 16
            pods[2].fail(500)
            with pytest.raises(UnexpectedResponse, match="500"):
                first(client)
            client.close()


def test_http_asyncio() -> None:
    """The same for asyncio; what kubelb refuses is the cause of the library's error."""

    async def main(pods: Service) -> None:
        with kubelb.LoadBalancer(target(pods), policy="round_robin") as lb:
            client = AsyncQdrantClient(url=URL, transport=AsyncTransport(lb), check_compatibility=False)
            for _ in range(30):
                assert (await client.get_collections()).collections[0].name == "reviews"
            assert {pod.requests for pod in pods} == {10}
            pods[0].kill()
            assert (await client.get_collections()).collections[0].name == "reviews"
            await client.close()
        with kubelb.LoadBalancer(
            "kube:///companion.prod", discovery=kubelb.DiscoveryOptions(kubeconfig="/nonexistent"), ready_timeout=0.1
        ) as lb:
            client = AsyncQdrantClient(url=URL, transport=AsyncTransport(lb), check_compatibility=False)
            with pytest.raises(ResponseHandlingException) as caught:
                await client.get_collections()
            assert isinstance(caught.value.source, kubelb.NotReady)
            await client.close()

    with LocalCluster() as cluster:
        asyncio.run(main(cluster.service("companion.prod", replicas=3, handler=answer)))


def test_the_question_for_a_version_goes_past_it() -> None:
    """Kind: requests beside the client's own. Its check asks by a bare httpx, so the guide turns that off."""
    told = json.dumps({"title": "qdrant", "version": version("qdrant-client")})
    with LocalCluster() as cluster:
        pods = cluster.service("companion.prod", replicas=1, handler=answer)
        bare = cluster.service("named.prod", replicas=1, handler=lambda request: Reply(200, told))
        with kubelb.LoadBalancer(target(pods)) as lb:
            client = QdrantClient(url=f"http://{bare[0].address}", transport=Transport(lb))
            assert first(client) == "reviews"
            assert until(lambda: bare[0].by_path == {"/": 1})
            assert pods[0].by_path == {"/collections": 1}
            client.close()
