"""OpenTelemetry's own instrumentations beside kubelb: they see what they would see without it, and nothing twice."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import pytest
import requests
from opentelemetry import trace
from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient, GrpcInstrumentorClient, client_interceptor
from opentelemetry.instrumentation.grpc.grpcext import intercept_channel
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import kubelb
from kubelb.adapters import grpc as balanced
from kubelb.adapters.grpc import aio as balanced_aio
from kubelb.adapters.httpx import AsyncTransport, Transport
from kubelb.adapters.requests import mount
from kubelb.testing import LocalCluster, Service

URL = "http://reviews.prod/ratings/7"
ECHO = "/kubelb.testing.Echo/Unary"

_exporter = InMemorySpanExporter()
_provider = TracerProvider()
_provider.add_span_processor(SimpleSpanProcessor(_exporter))
_reader = InMemoryMetricReader(preferred_temporality={Histogram: AggregationTemporality.DELTA})
_meters = MeterProvider([_reader])


@pytest.fixture(scope="module", autouse=True)
def process_provider() -> Iterator[None]:
    """gRPC's instrumentation for clients takes no other than the process's.

    It can be set once; all other tests are to run without, so it is put in its place by hand and taken back.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "_TRACER_PROVIDER", _provider)
        yield


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def service(cluster: LocalCluster) -> Service:
    return cluster.service("reviews.prod", replicas=3)


@pytest.fixture(scope="module")
def rpc_service(cluster: LocalCluster) -> Service:
    return cluster.service("rpc.prod:grpc", replicas=3, grpc=True)


@pytest.fixture
def spans(service: Service, rpc_service: Service) -> Iterator[Callable[[], list[ReadableSpan]]]:
    """What was exported in this test."""
    _exporter.clear()
    durations()
    for pod in (*service, *rpc_service):
        pod.heal()
        pod.clear()
    yield lambda: list(_exporter.get_finished_spans())


@pytest.fixture
def instrumented() -> Iterator[Callable[[Any], None]]:
    """Instruments the process, and takes that back."""
    made: list[Any] = []

    def instrument(instrumentor: Any) -> None:
        instrumentor.instrument(tracer_provider=_provider)
        made.append(instrumentor)

    yield instrument
    for instrumentor in made:
        instrumentor.uninstrument()


def balancer(service: Service) -> kubelb.LoadBalancer:
    target = "static:///" + ",".join(pod.address for pod in service)
    return kubelb.LoadBalancer(target, policy="round_robin", telemetry=kubelb.Telemetry(meter_provider=_meters))


def durations() -> dict[str, int]:
    """How often kubelb recorded one since this was last asked."""
    data = _reader.get_metrics_data()
    metrics = data.resource_metrics[0].scope_metrics[0].metrics if data and data.resource_metrics else []
    return {
        metric.name: sum(point.count for point in metric.data.data_points)
        for metric in metrics
        if metric.name.endswith(".duration")
    }


def get_by_httpx(lb: kubelb.LoadBalancer, instrument_client: bool = False) -> int:
    with httpx.Client(mounts={"http://reviews.prod": Transport(lb)}) as client:
        if instrument_client:
            HTTPXClientInstrumentor.instrument_client(client, tracer_provider=_provider)
        return client.get(URL).status_code


def get_by_asyncio(lb: kubelb.LoadBalancer, instrument_client: bool = False) -> int:
    async def main() -> int:
        async with httpx.AsyncClient(mounts={"http://reviews.prod": AsyncTransport(lb)}) as client:
            if instrument_client:
                HTTPXClientInstrumentor.instrument_client(client, tracer_provider=_provider)
            return (await client.get(URL)).status_code

    return asyncio.run(main())


def get_by_requests(lb: kubelb.LoadBalancer) -> int:
    with requests.Session() as session:
        mount(session, lb, hosts=["reviews.prod"])
        return session.get(URL, timeout=5).status_code


def asked(service: Service) -> list[str]:
    """The "IP:PORT" of each attempt's pod, in their order."""
    return [address for _, address in sorted((request.at, pod.address) for pod in service for request in pod.log)]


def check_http(span: ReadableSpan, service: Service) -> None:
    """One CLIENT span that speaks of the service, and whose context reached the pod."""
    assert span.kind is trace.SpanKind.CLIENT
    attributes = dict(span.attributes or {})
    assert URL in {attributes.get("http.url"), attributes.get("url.full")}
    assert "127." not in str({key: value for key, value in attributes.items() if "peer" not in key})
    assert f"{attributes['network.peer.address']}:{attributes['network.peer.port']}" == asked(service)[-1]
    received = [request.headers.get("traceparent", "") for pod in service for request in pod.log]
    assert received
    assert all(format(span.context.trace_id, "032x") in parent for parent in received)


def check_rpc(found: list[ReadableSpan], calls: int, service: Service) -> None:
    """One span of kubelb's for each call, and below them the instrumentation's, one for each attempt.

    Those know no pod, so kubelb's names them.
    """
    ours = [span for span in found if span.instrumentation_scope.name == "kubelb"]
    theirs = [span for span in found if span not in ours]
    assert len(ours) == calls
    assert {span.kind for span in ours} == {trace.SpanKind.INTERNAL}
    assert {span.kind for span in theirs} == {trace.SpanKind.CLIENT}
    assert {span.parent.span_id for span in theirs if span.parent} == {span.context.span_id for span in ours}
    assert sum(dict(span.attributes or {})["kubelb.attempts"] for span in ours) == len(theirs)
    told = [dict(event.attributes or {}) for span in ours for event in span.events if event.name == "kubelb.attempt"]
    places = [f"{each['network.peer.address']}:{each['network.peer.port']}" for each in told]
    assert sorted(places) == sorted(asked(service))
    assert {each["kubelb.attempt"] for each in told} == {1, 2}


@pytest.mark.parametrize("get", [get_by_httpx, get_by_asyncio])
@pytest.mark.parametrize("failing", [False, True])
def test_httpx_instrumented_as_a_whole(
    spans: Any, instrumented: Any, service: Service, get: Any, failing: bool
) -> None:
    """One span for a request, however many tries it took."""
    instrumented(HTTPXClientInstrumentor())
    if failing:
        for pod in service:
            pod.fail(503, times=1)
    with balancer(service) as lb:
        assert get(lb) in {200, 503}
    (span,) = spans()
    check_http(span, service)
    assert sum(pod.requests for pod in service) == (3 if failing else 1)
    assert [dict(event.attributes or {})["kubelb.attempt"] for event in span.events] == ([2, 3] if failing else [])
    assert not durations()


@pytest.mark.parametrize("get", [get_by_httpx, get_by_asyncio])
def test_one_httpx_client_instrumented(spans: Any, service: Service, get: Any) -> None:
    """The same for a client alone."""
    with balancer(service) as lb:
        assert get(lb, instrument_client=True) == 200
    (span,) = spans()
    check_http(span, service)
    assert not durations()


def test_httpx_without_instrumentation(spans: Any, service: Service, instrumented: Any) -> None:
    """Nothing remains of one that was taken back, and kubelb's own spans are there."""
    instrumentor = HTTPXClientInstrumentor()
    instrumentor.instrument(tracer_provider=_provider)
    instrumentor.uninstrument()
    with balancer(service) as lb:
        assert get_by_httpx(lb) == 200
    attempt, call = spans()
    assert {span.instrumentation_scope.name for span in (attempt, call)} == {"kubelb"}
    assert call.kind is trace.SpanKind.INTERNAL
    assert attempt.parent == call.context
    check_http(attempt, service)
    assert durations() == {"http.client.request.duration": 1}


@pytest.mark.parametrize("failing", [False, True])
def test_requests(spans: Any, instrumented: Any, service: Service, failing: bool) -> None:
    """One span for a request, however many tries it took."""
    instrumented(RequestsInstrumentor())
    if failing:
        for pod in service:
            pod.fail(503, times=1)
    with balancer(service) as lb:
        assert get_by_requests(lb) == (503 if failing else 200)
    (span,) = spans()
    check_http(span, service)
    assert [dict(event.attributes or {})["kubelb.attempt"] for event in span.events] == ([2, 3] if failing else [])
    assert not durations()


def test_grpc(spans: Any, instrumented: Any, rpc_service: Service) -> None:
    """A span for each try, below that of its call; the quick question for a connection's state is found below."""
    instrumented(GrpcInstrumentorClient())
    rpc_service[0].fail(grpc.StatusCode.UNAVAILABLE)
    before = threading.active_count()
    with balancer(rpc_service) as lb, balanced.insecure_channel(lb, idempotent=True) as channel:
        grpc.channel_ready_future(channel).result(timeout=10)
        echo = channel.unary_unary(ECHO)
        for _ in range(9):
            assert echo(b"x", timeout=10) == b"x"
        assert echo.future(b"x", timeout=10).result(timeout=10) == b"x"
        assert list(channel.unary_stream("/kubelb.testing.Echo/ServerStream")(b"x", timeout=10))
        assert threading.active_count() <= before + 10  # no thread for each connection
    assert durations() == {"rpc.client.call.duration": 11}
    check_rpc(spans(), calls=11, service=rpc_service)
    assert len(spans()) - 11 == sum(pod.requests for pod in rpc_service) > 11
    parents = [call.headers.get("traceparent") for pod in rpc_service for call in pod.log]
    assert len(set(parents)) == len(parents)
    assert None not in parents


def test_grpc_intercepted_as_a_whole(spans: Any, rpc_service: Service) -> None:
    """Around the channel the instrumentation makes one span for a call: it names the pod that has answered."""
    rpc_service[0].fail(grpc.StatusCode.UNAVAILABLE)
    interceptor = client_interceptor(tracer_provider=_provider)
    with balancer(rpc_service) as lb, balanced.insecure_channel(lb, idempotent=True) as channel:
        grpc.channel_ready_future(channel).result(timeout=10)
        echo = intercept_channel(channel, interceptor).unary_unary(ECHO)
        for _ in range(9):
            assert echo(b"x", timeout=10) == b"x"
            span = spans()[-1]
            attributes = dict(span.attributes or {})
            assert span.kind is trace.SpanKind.CLIENT
            assert f"{attributes['network.peer.address']}:{attributes['network.peer.port']}" == asked(rpc_service)[-1]
    assert len(spans()) == 9
    assert any(span.events for span in spans())


def test_grpc_asyncio(spans: Any, instrumented: Any, rpc_service: Service) -> None:
    """The same for asyncio."""
    instrumented(GrpcAioInstrumentorClient())
    rpc_service[0].fail(grpc.StatusCode.UNAVAILABLE)

    async def main() -> None:
        with balancer(rpc_service) as lb:
            async with balanced_aio.insecure_channel(lb, idempotent=True) as channel:
                echo = channel.unary_unary(ECHO)
                for _ in range(9):
                    assert await echo(b"x", timeout=10) == b"x"

    asyncio.run(main())
    assert durations() == {"rpc.client.call.duration": 9}
    check_rpc(spans(), calls=9, service=rpc_service)
    assert len(spans()) - 9 == sum(pod.requests for pod in rpc_service) > 9
    parents = [call.headers.get("traceparent") for pod in rpc_service for call in pod.log]
    assert len(set(parents)) == len(parents)
