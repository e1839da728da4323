"""Calls over kubelb's channels under an agent that patches gRPC for the whole process; prints its spans as JSON.

    python -m tests.companions.agents_program ddtrace|elastic

Each span is `[method, "host:port" of what it says it went to, whether it says that it failed]`. First those of sync
calls in the order of `KINDS`, then those of calls while one pod is UNAVAILABLE, then the same for asyncio.
"""

import asyncio
import json
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

Spans = list[list[Any]]
ECHO = "/kubelb.testing.Echo/"


def ddtrace() -> Callable[[], Spans]:
    """Datadog's, with nothing but its gRPC integration."""
    os.environ |= {
        "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
        "DD_REMOTE_CONFIGURATION_ENABLED": "false",
        "DD_TRACE_STARTUP_LOGS": "false",
    }
    from ddtrace import patch
    from ddtrace.trace import TraceFilter, tracer

    kept: list[Any] = []

    class Keep(TraceFilter):
        def process_trace(self, trace: Any) -> None:
            kept.extend(span for span in trace if span.get_tag("span.kind") == "client")

    tracer.configure(trace_processors=[Keep()])
    patch(grpc=True)

    def taken() -> Spans:
        tags = [
            (span.resource, span.get_tag("grpc.host"), span.get_tag("network.destination.port"), span.error)
            for span in kept
        ]
        kept.clear()
        return [[method, f"{host}:{port}", bool(error)] for method, host, port, error in tags]

    return taken


def elastic() -> Callable[[], Spans]:
    """Elastic's, with nothing but its instrumentation of gRPC's clients: it has none for asyncio, and of streams."""
    # It loads eventlet where that is installed, which loads dnspython with a socket module that trio cannot stand.
    os.environ["EVENTLET_NO_GREENDNS"] = "yes"
    import elasticapm
    from elasticapm.instrumentation.packages.grpc import GRPCClientInstrumentation

    kept: list[Any] = []
    elasticapm.utils.getfqdn = lambda: "companion"  # it would ask the machine's nameserver
    client = elasticapm.Client(
        service_name="companion",
        disable_send=True,
        central_config=False,
        cloud_provider=False,
        metrics_interval="0s",
    )
    client.tracer.queue_func = lambda kind, event, flush=False: kept.append(event) if kind == "span" else None
    GRPCClientInstrumentation().instrument()
    client.begin_transaction("request")

    def taken() -> Spans:
        client.end_transaction("request", "success")
        client.begin_transaction("request")
        places = [(event, event["context"]["destination"]) for event in kept]
        kept.clear()
        return [
            [event["name"], f"{place['address']}:{place['port']}", event["outcome"] == "failure"]
            for event, place in places
        ]

    return taken


def connected(channel: Any) -> int:
    """How many pods there is a connection to."""
    return sum(sub.check(False) == 2 for sub in tuple(channel.subs._subs.values()))


def main(agent: str) -> None:
    warnings.simplefilter("ignore")
    taken = {"ddtrace": ddtrace, "elastic": elastic}[agent]()

    import grpc
    from tests.companions.rpc import in_flight, serving, target, until

    from kubelb import LoadBalancer
    from kubelb.adapters.grpc import aio, insecure_channel

    told: dict[str, Any] = {}

    def settled(count: int) -> Spans:
        """Some of an agent's spans end a moment after their calls."""
        spans: Spans = []
        until(lambda: spans.extend(taken()) or len(spans) >= count, 5.0)
        return spans

    async def by_asyncio(lb: Any, pods: Any) -> None:
        async with aio.insecure_channel(lb, idempotent=True) as channel:
            await channel.channel_ready()
            while connected(channel) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            taken()
            unary = channel.unary_unary(ECHO + "Unary")
            assert await unary(b"x", timeout=20) == b"x"
            stream = channel.unary_stream(ECHO + "ServerStream")(b"x", timeout=20)
            assert [each async for each in stream] == [b"x"] * 3
            assert await channel.stream_unary(ECHO + "ClientStream")(iter([b"x", b"y"]), timeout=20) == b"xy"
            bidi = channel.stream_stream(ECHO + "BidiStream")(iter([b"x", b"y"]), timeout=20)
            assert [each async for each in bidi] == [b"x", b"y"]
            told["asyncio"] = settled(4 if agent == "ddtrace" else 0)
            before = pods.requests
            pods[0].fail(grpc.StatusCode.UNAVAILABLE)
            for _ in range(6):
                assert await unary(b"x", timeout=20) == b"x"
            told["asyncio failing"] = settled(pods.requests - before if agent == "ddtrace" else 0)

    with serving(grpc=True) as (pods, lb):
        with insecure_channel(lb, idempotent=True) as channel:
            assert channel._channel.check_connectivity_state(True) is not None
            assert until(lambda: connected(channel) == 3)
            taken()
            unary = channel.unary_unary(ECHO + "Unary")
            assert unary(b"x", timeout=20) == b"x"
            assert unary.with_call(b"x", timeout=20)[0] == b"x"
            assert unary.future(b"x", timeout=20).result() == b"x"
            assert list(channel.unary_stream(ECHO + "ServerStream")(b"x", timeout=20)) == [b"x"] * 3
            assert channel.stream_unary(ECHO + "ClientStream")(iter([b"x", b"y"]), timeout=20) == b"xy"
            assert list(channel.stream_stream(ECHO + "BidiStream")(iter([b"x", b"y"]), timeout=20)) == [b"x", b"y"]
            told["sync"] = settled(6 if agent == "ddtrace" else 3)
            before = pods.requests
            pods[0].fail(grpc.StatusCode.UNAVAILABLE)
            for _ in range(6):
                assert unary(b"x", timeout=20) == b"x"
            told["sync failing"] = settled(pods.requests - before)
            before = pods.requests
            for _ in range(3):
                assert list(channel.unary_stream(ECHO + "ServerStream")(b"x", timeout=20)) == [b"x"] * 3
            told["streams failing"] = settled(pods.requests - before if agent == "ddtrace" else 0)
            pods[0].heal()
            stream = channel.unary_stream(ECHO + "ServerStream")(b"x", metadata=[("x-delay", "60")])
            assert until(lambda: sum(pod.in_flight for pod in pods))
            assert stream.cancel()
            assert until(lambda: in_flight(lb) == 0)
        with LoadBalancer(target(pods), policy="round_robin") as unbiased:  # the other one knows what has failed
            asyncio.run(by_asyncio(unbiased, pods))
            assert until(lambda: in_flight(unbiased) == 0)
        told["pods"] = [pod.address for pod in pods]
        told["traced"] = sum("traceparent" in call.headers for pod in pods for call in pod.log)
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
