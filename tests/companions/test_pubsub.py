"""Google's Pub/Sub clients over a channel of kubelb's keep what they promise: to try again, and to resume a stream."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import pytest
from google.api_core.exceptions import GoogleAPICallError, ResourceExhausted, ServiceUnavailable
from google.cloud import pubsub_v1
from google.protobuf.any_pb2 import Any as AnyMessage
from google.pubsub_v1 import PublisherAsyncClient, PublisherClient, SubscriberAsyncClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport, PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport, SubscriberGrpcTransport
from google.pubsub_v1.types import pubsub as wire
from google.rpc.code_pb2 import RESOURCE_EXHAUSTED
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status.rpc_status import to_status
from opentelemetry.instrumentation.grpc import GrpcInstrumentorClient
from tests.companions.rpc import in_flight, serves, serving, target, until

import kubelb
from kubelb.adapters.grpc import aio, insecure_channel
from kubelb.testing import Backend, Service

TOPIC, SUBSCRIPTION = "projects/p/topics/t", "projects/p/subscriptions/s"
PUBLISH = "/google.pubsub.v1.Publisher/Publish"
PULL = "/google.pubsub.v1.Subscriber/StreamingPull"
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
acknowledged: list[str] = []
breaks: list[grpc.StatusCode] = []
"""How the next streams end, after a message."""


def publisher(backend: Backend) -> dict[str, Any]:
    """Message ids are the name of the pod and the message."""

    def publish(request: Any, context: Any) -> Any:
        if request.messages[0].data == b"too much":
            info = AnyMessage()
            info.Pack(ErrorInfo(reason="QUOTA", domain="pubsub"))
            context.abort_with_status(to_status(Status(code=RESOURCE_EXHAUSTED, message="full", details=[info])))
        ids = [f"{backend.name}/{message.data.decode()}" for message in request.messages]
        return wire.PublishResponse(message_ids=ids)

    kind, answer = wire.PublishRequest, wire.PublishResponse
    return {"Publish": grpc.unary_unary_rpc_method_handler(publish, kind.deserialize, answer.serialize)}


def subscriber(backend: Backend) -> dict[str, Any]:
    """Each stream begins with one message, which says the pod and the number of the stream."""
    streams: list[int] = []

    def message() -> Any:
        name = f"{backend.name}/{len(streams)}"
        inner = wire.PubsubMessage(data=name.encode(), message_id=name)
        return wire.ReceivedMessage(ack_id=name, message=inner)

    def streaming_pull(requests: Iterator[Any], context: Any) -> Iterator[Any]:
        over = threading.Event()
        context.add_callback(over.set)
        next(requests)
        streams.append(0)
        yield wire.StreamingPullResponse(received_messages=[message()])
        if breaks:
            context.abort(breaks.pop(), "The service was unable to fulfill your request")
        over.wait()

    def acknowledge(request: Any, context: Any) -> Any:
        acknowledged.extend(request.ack_ids)
        return b""

    def pull(request: Any, context: Any) -> Any:
        return wire.PullResponse(received_messages=[message()])

    unary, asked = grpc.unary_unary_rpc_method_handler, wire.StreamingPullRequest
    return {
        "StreamingPull": grpc.stream_stream_rpc_method_handler(
            streaming_pull, asked.deserialize, wire.StreamingPullResponse.serialize
        ),
        "Pull": unary(pull, wire.PullRequest.deserialize, wire.PullResponse.serialize),
        "Acknowledge": unary(acknowledge, wire.AcknowledgeRequest.deserialize),
        "ModifyAckDeadline": unary(lambda request, context: b""),
    }


register = serves(google_pubsub_v1_Publisher=publisher, google_pubsub_v1_Subscriber=subscriber)


@pytest.fixture(params=[False, True], ids=["as it is", "instrumented"])
def instrumented(request: Any) -> Iterator[bool]:
    """OpenTelemetry's instrumentation makes bare generators of streams."""
    if request.param:
        GrpcInstrumentorClient().instrument()
    yield request.param
    if request.param:
        GrpcInstrumentorClient().uninstrument()


def client(channel: grpc.Channel) -> pubsub_v1.PublisherClient:
    """One call for each message."""
    return pubsub_v1.PublisherClient(
        pubsub_v1.types.BatchSettings(max_messages=1), transport=PublisherGrpcTransport(channel=channel)
    )


def published(publisher: pubsub_v1.PublisherClient, words: range) -> list[str]:
    """Return the names of pods that took them; each message was taken once, and by one."""
    futures = [publisher.publish(TOPIC, str(number).encode()) for number in words]
    ids = [future.result(timeout=20).partition("/") for future in futures]
    assert [word for _, _, word in ids] == [str(number) for number in words]
    return [pod for pod, _, _ in ids]


def test_messages_are_spread(instrumented: bool) -> None:
    """Over all pods, in turn; one that is killed is no matter."""
    with serving(register) as (pods, lb), insecure_channel(lb) as channel:
        grpc.channel_ready_future(channel).result(timeout=20)
        publisher = client(channel)
        published(publisher, range(3))
        taken = published(publisher, range(30))
        assert min(taken.count(pod.name) for pod in pods) >= 5
        pods[0].kill()
        assert set(published(publisher, range(30))) == {pods[1].name, pods[2].name}
        publisher.stop()


def test_the_library_tries_again() -> None:
    """UNAVAILABLE of a call that kubelb may not repeat comes to the library, which repeats it: on another pod."""
    with serving(register, replicas=2) as (pods, lb), insecure_channel(lb) as channel:
        for pod in pods:
            pod.fail(UNAVAILABLE, times=1)
        publisher = client(channel)
        assert published(publisher, range(1))
        assert pods.requests == 3
        publisher.stop()


def test_tries_multiply() -> None:
    """Where kubelb may repeat it, too, each try of the library's is up to three calls."""
    with serving(register) as (pods, lb), insecure_channel(lb, idempotent=[PUBLISH]) as channel:
        grpc.channel_ready_future(channel).result(timeout=20)
        assert until(lambda: connected(channel) == 3)
        for pod in pods:
            pod.fail(UNAVAILABLE, times=2)
        publisher = client(channel)
        assert published(publisher, range(1))
        assert pods.requests == 3 + 3 + 1
        publisher.stop()


def connected(channel: Any) -> int:
    return sum(sub.check(False) == 2 for sub in tuple(channel.subs._subs.values()))


def test_details_of_an_error() -> None:
    """What a server says beside the status is found where the library looks for it, for asyncio too."""
    with serving(register) as (_, lb), insecure_channel(lb) as channel:
        generated = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        with pytest.raises(ResourceExhausted, match="full") as caught:
            generated.publish(topic=TOPIC, messages=[{"data": b"too much"}], retry=None)
        assert (caught.value.reason, caught.value.domain) == ("QUOTA", "pubsub")

        async def main() -> GoogleAPICallError:
            async with aio.insecure_channel(lb) as channel:
                publisher = PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(channel=channel))
                with pytest.raises(ResourceExhausted, match="full") as caught:
                    await publisher.publish(topic=TOPIC, messages=[{"data": b"too much"}], retry=None)
                return caught.value

        error = asyncio.run(main())
        assert (error.reason, error.domain) == ("QUOTA", "pubsub")


def test_a_refusal() -> None:
    """Where no pod can be connected to, the library's own error says so in kubelb's words, for asyncio too."""
    with serving(register, replicas=1) as (pods, _):
        gone = target(pods)
        pods[0].kill()
        with kubelb.LoadBalancer(gone) as lb, insecure_channel(lb) as channel:
            with pytest.raises(ServiceUnavailable, match="no connection to") as caught:
                PublisherClient(transport=PublisherGrpcTransport(channel=channel)).publish(
                    topic=TOPIC, messages=[{"data": b"x"}], retry=None
                )
            assert isinstance(caught.value.__cause__, kubelb.LoadBalancerError)

            async def main() -> BaseException | None:
                async with aio.insecure_channel(lb) as channel:
                    publisher = PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(channel=channel))
                    with pytest.raises(ServiceUnavailable, match="no connection to") as caught:
                        await publisher.publish(topic=TOPIC, messages=[{"data": b"x"}], retry=None)
                    return caught.value.__cause__

            assert isinstance(asyncio.run(main()), kubelb.LoadBalancerError)


def holder(pods: Service) -> Backend | None:
    """The pod that the stream is open on."""
    return next((pod for pod in pods if pod.alive and pod.by_path.get(PULL) and pod.in_flight), None)


def test_a_subscription_is_resumed(instrumented: bool) -> None:
    """After UNAVAILABLE, and on another pod after its own was killed; it ends at once when it is cancelled."""
    acknowledged.clear()
    breaks[:] = [UNAVAILABLE]
    with serving(register, replicas=2) as (pods, lb), insecure_channel(lb) as channel:
        got: list[str] = []
        subscriber = pubsub_v1.SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))

        def callback(message: Any) -> None:
            got.append(message.data.decode())
            message.ack()

        subscription = subscriber.subscribe(SUBSCRIPTION, callback)
        assert until(lambda: len(got) == 2)
        assert until(lambda: connected(channel) == 2)
        lost = holder(pods)
        assert lost is not None
        lost.kill()
        assert until(lambda: len(got) == 3)
        assert {pod.name for pod in pods if pod is not lost} == {got[-1].partition("/")[0]}
        assert until(lambda: sorted(acknowledged) == sorted(got))
        assert not subscription.done()
        begun = time.monotonic()
        subscription.cancel()
        assert subscription.result(timeout=20)
        assert until(lambda: in_flight(lb) == 0)
        assert time.monotonic() - begun < 0.9  # a consumer that does not hear of it is waited for a second
        subscriber.close()


def test_asyncio() -> None:
    """Messages are spread, a killed pod is no matter, and a stream ends as the generated client's do."""

    async def requests() -> AsyncIterator[Any]:
        yield wire.StreamingPullRequest(subscription=SUBSCRIPTION, stream_ack_deadline_seconds=60)
        await asyncio.sleep(60)

    async def main(pods: Service, lb: kubelb.LoadBalancer) -> None:
        async with aio.insecure_channel(lb) as channel:
            await channel.channel_ready()
            publisher = PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(channel=channel))
            publish: Callable[[], Any] = lambda: publisher.publish(topic=TOPIC, messages=[{"data": b"x"}])  # noqa: E731
            taken = [(await publish()).message_ids[0].partition("/")[0] for _ in range(30)]
            assert min(taken.count(pod.name) for pod in pods) >= 5
            pods[0].kill()
            assert len([await publish() for _ in range(10)]) == 10
            pods[1].fail(UNAVAILABLE, times=1)
            assert len([await publish() for _ in range(4)]) == 4
            subscriber = SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=channel))
            pulled = await subscriber.pull(subscription=SUBSCRIPTION, max_messages=1)
            assert len(pulled.received_messages) == 1
            breaks[:] = [UNAVAILABLE]
            stream = await subscriber.streaming_pull(requests=requests())
            with pytest.raises(ServiceUnavailable):
                _ = [answer async for answer in stream]

    with serving(register) as (pods, lb):
        asyncio.run(main(pods, lb))
