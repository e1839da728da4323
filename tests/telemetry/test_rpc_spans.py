"""Spans and durations of gRPC calls, whatever their kind and world."""

import asyncio
import gc
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from opentelemetry.trace import SpanKind, StatusCode
from tests.spelled import spelled

import kubelb
from kubelb.adapters import grpc as balanced
from kubelb.adapters.grpc import aio as balanced_aio
from kubelb.service import service_of
from kubelb.testing import Service
from telemetry.kit import Sdk, said

DURATION = "rpc.client.call.duration"
KINDS = {
    "unary_unary": "/kubelb.testing.Echo/Unary",
    "unary_stream": "/kubelb.testing.Echo/ServerStream",
    "stream_unary": "/kubelb.testing.Echo/ClientStream",
    "stream_stream": "/kubelb.testing.Echo/BidiStream",
}
METADATA = (("x-mine", "yes"), ("traceparent", "00-" + "1" * 32 + "-" + "2" * 16 + "-01"))


def balancer(sdk: Sdk, pods: Service, **options: Any) -> kubelb.LoadBalancer:
    target = "static:///" + ",".join(pod.address for pod in pods)
    return kubelb.LoadBalancer(target, policy="round_robin", telemetry=sdk.telemetry(), **spelled(options))


def asked(kind: str) -> Any:
    return iter([b"a", b"b"]) if kind.startswith("stream") else b"a"


def sync(lb: kubelb.LoadBalancer, kind: str, how: str = "") -> Any:
    with balanced.insecure_channel(lb, idempotent=True) as channel:
        grpc.channel_ready_future(channel).result(timeout=10)
        callable_ = getattr(channel, kind)(KINDS[kind])
        if how == "with_call":
            return callable_.with_call(asked(kind), timeout=10, metadata=METADATA)[0]
        if how == "future":
            return callable_.future(asked(kind), timeout=10, metadata=METADATA).result(timeout=10)
        answer = callable_(asked(kind), timeout=10, metadata=METADATA)
        return list(answer) if kind.endswith("stream") else answer


def soon(lb: kubelb.LoadBalancer, kind: str, how: str = "") -> Any:
    async def main() -> Any:
        async with balanced_aio.insecure_channel(lb, idempotent=True) as channel:
            await channel.channel_ready()
            call = getattr(channel, kind)(KINDS[kind])(asked(kind), timeout=10, metadata=METADATA)
            return [message async for message in call] if kind.endswith("stream") else await call

    return asyncio.run(main())


WAYS = [
    *[(sync, kind, "") for kind in KINDS],
    *[(sync, kind, how) for kind in ("unary_unary", "stream_unary") for how in ("with_call", "future")],
    *[(soon, kind, "") for kind in KINDS],
]
every_way = pytest.mark.parametrize(
    ("way", "kind", "how"), WAYS, ids=lambda part: part.__name__ if callable(part) else part
)


def when_over(sdk: Sdk) -> Any:
    """The call and its attempts; a stream's last words may come a moment after its messages."""
    until = time.monotonic() + 5
    while not any(span.name.startswith("kubelb ") for span in sdk.spans()) and time.monotonic() < until:
        time.sleep(0.002)
    return sdk.call()


def received(pods: Service) -> list[dict[str, str]]:
    return [call.headers for pod in pods for call in pod.log]


def check_contexts(attempts: list[Any], pods: Service) -> None:
    """Each attempt was sent its own, and what else the caller wanted to say."""
    sent = received(pods)
    assert sorted(headers["traceparent"][:52] for headers in sent) == sorted(
        f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}" for span in attempts
    )
    assert {headers["x-mine"] for headers in sent} == {"yes"}


@every_way
def test_one_attempt(sdk: Sdk, rpc_pods: Service, way: Callable[..., Any], kind: str, how: str) -> None:
    """A span for the call, one for the RPC, and one duration."""
    with balancer(sdk, rpc_pods) as lb:
        assert way(lb, kind, how)
    call, (attempt,) = when_over(sdk)
    assert said(call) == {"kubelb.service": "reviews", "kubelb.attempts": 1}
    assert attempt.kind is SpanKind.CLIENT
    assert attempt.name == KINDS[kind].lstrip("/")
    attributes = said(attempt)
    assert f"{attributes['network.peer.address']}:{attributes['network.peer.port']}" in {
        pod.address for pod in rpc_pods
    }
    assert attributes["rpc.response.status_code"] == "OK"
    assert attributes["kubelb.attempt"] == 1
    check_contexts([attempt], rpc_pods)
    assert sdk.durations(DURATION) == [
        {"rpc.system.name": "grpc", "rpc.method": attempt.name, "rpc.response.status_code": "OK"}
    ]


@every_way
def test_attempt_after_attempt(sdk: Sdk, rpc_pods: Service, way: Callable[..., Any], kind: str, how: str) -> None:
    """Each has a span and a context of its own; the status is that of the last."""
    for pod in rpc_pods:
        pod.fail(grpc.StatusCode.UNAVAILABLE)
    with balancer(sdk, rpc_pods) as lb, pytest.raises(grpc.RpcError):
        way(lb, kind, how)
    call, attempts = when_over(sdk)
    made = len(attempts)
    assert made == 3 if kind.startswith("unary") else made >= 1
    assert [said(attempt)["kubelb.attempt"] for attempt in attempts] == list(range(1, made + 1))
    assert {said(attempt)["error.type"] for attempt in attempts} == {"UNAVAILABLE"}
    assert {attempt.status.status_code for attempt in attempts} == {StatusCode.ERROR}
    check_contexts(attempts, rpc_pods)
    assert said(call) == {"kubelb.service": "reviews", "kubelb.attempts": made, "error.type": "UNAVAILABLE"}
    (duration,) = sdk.durations(DURATION)
    assert duration["rpc.response.status_code"] == "UNAVAILABLE"


@pytest.mark.parametrize("way", [sync, soon])
def test_the_address_of_a_service(sdk: Sdk, cluster: Any, rpc_pods: Service, way: Callable[..., Any]) -> None:
    """Its name, and its port where that is a number."""
    lb = kubelb.LoadBalancer(
        "rpc.prod:grpc", discovery=kubelb.DiscoveryOptions(kubeconfig=cluster.kubeconfig), telemetry=sdk.telemetry("")
    )
    with lb:
        assert way(lb, "unary_unary") == b"a"
    (duration,) = sdk.durations(DURATION)
    assert duration["server.address"] == "rpc.prod"
    assert "server.port" not in duration
    assert said(sdk.call()[0])["kubelb.service"] == "rpc.prod:grpc"


@pytest.mark.parametrize("way", [sync, soon])
def test_a_refusal(sdk: Sdk, rpc_pods: Service, way: Callable[..., Any]) -> None:
    """kubelb's own no is a status as any."""
    with kubelb.LoadBalancer("static:///127.0.0.1:9", telemetry=sdk.telemetry()) as lb:
        if way is sync:
            with balanced.insecure_channel(lb) as channel, pytest.raises(grpc.RpcError):
                channel.unary_unary(KINDS["unary_unary"])(b"a", timeout=5)
        else:

            async def main() -> None:
                async with balanced_aio.insecure_channel(lb) as channel:
                    with pytest.raises(grpc.RpcError):
                        await channel.unary_unary(KINDS["unary_unary"])(b"a", timeout=5)

            asyncio.run(main())
    call, _ = when_over(sdk)
    assert said(call)["error.type"] == "UNAVAILABLE"
    assert sdk.durations(DURATION)[0]["rpc.response.status_code"] == "UNAVAILABLE"


def test_a_dropped_stream_has_an_end(sdk: Sdk, rpc_pods: Service) -> None:
    """Nothing that watches it keeps it, or its RPC, alive."""
    for pod in rpc_pods:
        pod.hang()
    with balancer(sdk, rpc_pods) as lb, balanced.insecure_channel(lb) as channel:
        grpc.channel_ready_future(channel).result(timeout=10)
        gc.disable()
        try:
            stream = channel.unary_stream(KINDS["unary_stream"])(b"a", timeout=30)
            del stream
            call, (attempt,) = when_over(sdk)
        finally:
            gc.enable()
        assert said(attempt)["rpc.response.status_code"] == "CANCELLED"
        assert said(call)["error.type"] == "CANCELLED"
        assert sum(state.in_flight for state in service_of(lb).balancer.states()) == 0


def test_a_cancelled_call_has_an_end(sdk: Sdk, rpc_pods: Service) -> None:
    """Of asyncio: by its own status."""
    for pod in rpc_pods:
        pod.hang()

    async def main(lb: kubelb.LoadBalancer) -> None:
        async with balanced_aio.insecure_channel(lb) as channel:
            await channel.channel_ready()
            call = channel.unary_unary(KINDS["unary_unary"])(b"a", timeout=30)
            await asyncio.sleep(0.05)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    with balancer(sdk, rpc_pods) as lb:
        asyncio.run(main(lb))
    call, (attempt,) = when_over(sdk)
    assert said(attempt)["rpc.response.status_code"] == "CANCELLED"
    assert said(call)["error.type"] == "CANCELLED"


def test_a_request_that_cannot_be_serialized(sdk: Sdk, rpc_pods: Service) -> None:
    """The caller's own exception ends the call that was to be."""

    def refuse(_: object) -> bytes:
        raise KeyError("s3cret")

    with balancer(sdk, rpc_pods) as lb, balanced.insecure_channel(lb) as channel:
        grpc.channel_ready_future(channel).result(timeout=10)
        with pytest.raises(grpc.RpcError):
            channel.unary_unary(KINDS["unary_unary"], refuse).future(b"a")
    call, (attempt,) = when_over(sdk)
    assert said(call)["error.type"] == said(attempt)["error.type"] == "INTERNAL"
    assert "s3cret" not in "".join(span.to_json() for span in sdk.spans())


class Refuses(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    """A user's own, on the channels to the pods."""

    async def intercept_unary_unary(self, *_: Any) -> Any:
        raise KeyError("s3cret")


def test_an_interceptor_that_raises(sdk: Sdk, rpc_pods: Service) -> None:
    """Its exception ends the attempt, and is told by its type; the call's status is what gRPC makes of that."""

    async def main(lb: kubelb.LoadBalancer) -> None:
        async with balanced_aio.insecure_channel(lb, interceptors=[Refuses()]) as channel:
            await channel.channel_ready()
            with pytest.raises(KeyError):
                await channel.unary_unary(KINDS["unary_unary"])(b"a", timeout=5)

    with balancer(sdk, rpc_pods) as lb:
        asyncio.run(main(lb))
    call, (attempt,) = when_over(sdk)
    assert said(attempt)["error.type"] == "KeyError"
    assert said(call)["error.type"] == "UNKNOWN"
    assert "s3cret" not in "".join(span.to_json() for span in sdk.spans())


class _Slim:
    """A future of an interceptor's own: no call, and nothing refers to it weakly."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def code(self) -> Any:
        return self._inner.code()

    def result(self, timeout: float | None = None) -> Any:
        return self._inner.result(timeout)

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        self._inner.add_done_callback(lambda _: fn(self))


def test_a_future_that_is_no_call(sdk: Sdk, rpc_pods: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kind: what an interceptor has put around the RPC. It has no `add_callback`, and its status is told."""

    class Slims(grpc.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
        def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            return _Slim(continuation(details, request))

    make = grpc.insecure_channel
    monkeypatch.setattr(
        grpc, "insecure_channel", lambda *said, **named: grpc.intercept_channel(make(*said, **named), Slims())
    )
    with balancer(sdk, rpc_pods) as lb, balanced.insecure_channel(lb) as channel:
        assert channel.unary_unary(KINDS["unary_unary"]).future(b"a", timeout=10).result(timeout=10)
    _, (attempt,) = when_over(sdk)
    assert said(attempt)["rpc.response.status_code"] == "OK"
