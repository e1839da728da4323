"""Spans and durations of HTTP requests, by real requests to real pods: one call, its attempts, and what they say."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import requests
from opentelemetry import context, trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode
from tests.spelled import spelled

import kubelb
from kubelb.adapters.httpx import AsyncTransport, Transport
from kubelb.adapters.requests import mount
from kubelb.testing import Service
from telemetry.kit import Sdk, said

URL = "http://ada:s3cret@reviews.prod/ratings/7?token=s3cret#s3cret"
DURATION = "http.client.request.duration"


def balancer(sdk: Sdk, pods: Service, **options: Any) -> kubelb.LoadBalancer:
    options.setdefault("telemetry", sdk.telemetry())
    target = "static:///" + ",".join(pod.address for pod in pods)
    return kubelb.LoadBalancer(target, policy="round_robin", **spelled(options))


def by_httpx(lb: kubelb.LoadBalancer, method: str = "GET", url: str = URL, **given: Any) -> int:
    with httpx.Client(mounts={"all://": Transport(lb)}) as client:
        return client.request(method, url, **given).status_code


def by_asyncio(lb: kubelb.LoadBalancer, method: str = "GET", url: str = URL, **given: Any) -> int:
    async def main() -> int:
        async with httpx.AsyncClient(mounts={"all://": AsyncTransport(lb)}) as client:
            return (await client.request(method, url, **given)).status_code

    return asyncio.run(main())


def by_requests(lb: kubelb.LoadBalancer, method: str = "GET", url: str = URL, **given: Any) -> int:
    with requests.Session() as session:
        mount(session, lb, hosts=["reviews.prod"])
        return session.request(method, url.replace("ada:s3cret@", ""), timeout=5, **given).status_code


WAYS = [by_httpx, by_asyncio, by_requests]
Way = Callable[..., int]


def arrived(pods: Service) -> list[str]:
    """Trace and span ids that the pods were sent."""
    return [request.headers.get("traceparent", "")[:52] for pod in pods for request in pod.log]


def carried(span: Any) -> str:
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}"


@pytest.mark.parametrize("way", WAYS)
def test_one_attempt(sdk: Sdk, pods: Service, way: Way) -> None:
    """A span for the call, one for its attempt, whose context the pod was sent; one duration."""
    with balancer(sdk, pods) as lb:
        assert way(lb) == 200
    call, (attempt,) = sdk.call()
    assert call.name == "kubelb reviews"
    assert said(call) == {"kubelb.service": "reviews", "kubelb.attempts": 1}
    assert call.status.status_code is StatusCode.UNSET
    assert attempt.name == "GET"
    assert attempt.kind is SpanKind.CLIENT
    attributes = said(attempt)
    peer = f"{attributes.pop('network.peer.address')}:{attributes.pop('network.peer.port')}"
    assert peer in {pod.address for pod in pods}
    assert attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "server.address": "reviews.prod",
        "server.port": 80,
        "url.full": "http://reviews.prod/ratings/7",
        "url.scheme": "http",
    }
    assert arrived(pods) == [carried(attempt)]
    assert sdk.durations(DURATION) == [
        {
            "http.request.method": "GET",
            "http.response.status_code": 200,
            "server.address": "reviews.prod",
            "server.port": 80,
            "url.scheme": "http",
        }
    ]


@pytest.mark.parametrize("way", WAYS)
def test_attempt_after_attempt(sdk: Sdk, pods: Service, way: Way) -> None:
    """Each has a span and a context of its own; the call has one duration, that of them all."""
    for pod in pods:
        pod.fail(503, times=1)
    with balancer(sdk, pods) as lb:
        assert way(lb) == 503
    call, attempts = sdk.call()
    assert [said(attempt).get("http.request.resend_count") for attempt in attempts] == [None, 1, 2]
    assert {said(attempt)["error.type"] for attempt in attempts} == {"503"}
    assert {attempt.status.status_code for attempt in attempts} == {StatusCode.ERROR}
    assert len({said(attempt)["network.peer.address"] for attempt in attempts}) == 3
    assert sorted(arrived(pods)) == sorted(map(carried, attempts))
    assert said(call) == {"kubelb.service": "reviews", "kubelb.attempts": 3, "error.type": "503"}
    assert call.status.status_code is StatusCode.ERROR
    (duration,) = sdk.durations(DURATION)
    assert duration["http.response.status_code"] == 503
    assert duration["error.type"] == "503"


@pytest.mark.parametrize("way", WAYS)
def test_a_better_end(sdk: Sdk, pods: Service, way: Way) -> None:
    """The call's own status is that of its last attempt."""
    pods[0].fail(503)
    pods[1].fail(503)
    with balancer(sdk, pods) as lb:
        assert way(lb) == 200
    call, attempts = sdk.call()
    assert attempts[-1].status.status_code is StatusCode.UNSET
    assert call.status.status_code is StatusCode.UNSET
    assert sdk.durations(DURATION)[0]["http.response.status_code"] == 200


@pytest.mark.parametrize("way", WAYS)
def test_no_connection(sdk: Sdk, way: Way) -> None:
    """An exception is told by its type; its text stays where it is."""
    lb = kubelb.LoadBalancer("static:///127.0.0.1:9", retry=None, telemetry=sdk.telemetry())
    with lb, pytest.raises((httpx.ConnectError, requests.ConnectionError)) as caught:
        way(lb)
    call, attempts = sdk.call()
    name = f"{caught.type.__module__}.{caught.type.__qualname__}"
    assert said(call)["error.type"] == name
    assert said(attempts[0])["error.type"].endswith(caught.type.__name__)  # httpcore's own below httpx's
    assert sdk.durations(DURATION)[0]["error.type"] == name
    assert not call.events
    assert call.status.description is None


@pytest.mark.parametrize("way", WAYS)
def test_a_refusal_is_a_call_without_attempts(sdk: Sdk, pods: Service, way: Way) -> None:
    """kubelb's own no is an error of the call."""
    lb = balancer(sdk, pods)
    lb.close()
    with pytest.raises(kubelb.Closed):
        way(lb)
    call, attempts = sdk.call()
    assert attempts == []
    assert "Closed" in said(call)["error.type"]
    assert said(call)["kubelb.attempts"] == 0


@pytest.mark.parametrize("way", WAYS)
def test_no_secret_is_told(sdk: Sdk, pods: Service, way: Way) -> None:
    """Neither credentials nor a query, nor a header."""
    with balancer(sdk, pods) as lb:
        way(lb, headers={"Authorization": "Bearer s3cret", "Cookie": "s3cret"})
    assert "s3cret" not in "".join(span.to_json() for span in sdk.spans())
    assert "s3cret" not in str(sdk.points())


@pytest.mark.parametrize("way", WAYS)
def test_a_context_of_the_callers_is_replaced(sdk: Sdk, pods: Service, way: Way) -> None:
    """There is one traceparent on the wire, whatever its case; the caller's other headers stay."""
    old = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
    with balancer(sdk, pods) as lb:
        way(lb, headers={"TraceParent": old, "X-Mine": "yes"})
    _, (attempt,) = sdk.call()
    assert arrived(pods) == [carried(attempt)]
    (request,) = [request for pod in pods for request in pod.log]
    assert request.headers["x-mine"] == "yes"


@pytest.mark.parametrize("way", WAYS)
def test_the_callers_span_is_the_parent(sdk: Sdk, pods: Service, way: Way) -> None:
    """The call hangs below whatever the application does, and leaves the context as it was."""
    tracer = sdk.tracer_provider.get_tracer("mine")
    with balancer(sdk, pods) as lb, tracer.start_as_current_span("checkout") as parent:
        way(lb)
        assert trace.get_current_span() is parent
    (call,) = [span for span in sdk.spans() if span.name == "kubelb reviews"]
    assert call.parent == parent.get_span_context()


@pytest.mark.parametrize("way", WAYS)
def test_an_unknown_method_is_one_word(sdk: Sdk, pods: Service, way: Way) -> None:
    """Attributes have few values, whatever callers send."""
    with balancer(sdk, pods) as lb:
        way(lb, "BREW")
    _, (attempt,) = sdk.call()
    assert attempt.name == "HTTP"
    assert said(attempt)["http.request.method"] == "_OTHER"
    assert sdk.durations(DURATION)[0]["http.request.method"] == "_OTHER"


@pytest.mark.parametrize("way", WAYS)
def test_not_sampled(pods: Service, way: Way) -> None:
    """No span, and a context that says so to the pod."""
    sdk = Sdk(sampler=ALWAYS_OFF)
    with balancer(sdk, pods) as lb:
        way(lb)
    assert sdk.spans() == ()
    (request,) = [request for pod in pods for request in pod.log]
    assert int(request.headers["traceparent"][-2:], 16) & 1 == 0
    assert len(sdk.durations(DURATION)) == 1


@pytest.mark.parametrize("way", WAYS)
def test_suppressed(sdk: Sdk, pods: Service, way: Way) -> None:
    """An exporter's own requests are nobody's business."""
    from opentelemetry.instrumentation.utils import suppress_http_instrumentation

    with balancer(sdk, pods) as lb, suppress_http_instrumentation():
        way(lb)
    assert sdk.spans() == ()
    assert sdk.durations(DURATION) == []
    assert arrived(pods) == [""]


@pytest.mark.parametrize("way", WAYS)
def test_metrics_alone(sdk: Sdk, pods: Service, way: Way) -> None:
    """Without a tracer there is no span and no context to send."""
    with balancer(sdk, pods, telemetry=kubelb.Telemetry("reviews", meter_provider=sdk.meter_provider)) as lb:
        way(lb)
    assert len(sdk.durations(DURATION)) == 1
    assert not [span for span in sdk.spans() if span.instrumentation_scope.name == "kubelb"]


@pytest.mark.parametrize("way", WAYS)
def test_spans_alone(sdk: Sdk, pods: Service, way: Way) -> None:
    """Without a meter there is no duration."""
    with balancer(sdk, pods, telemetry=kubelb.Telemetry("reviews", tracer_provider=sdk.tracer_provider)) as lb:
        way(lb)
    assert len(sdk.spans()) == 2
    assert sdk.points() == {}


def test_a_cancelled_request_has_an_end(sdk: Sdk, pods: Service) -> None:
    """Of its call and of its attempt."""
    for pod in pods:
        pod.hang()

    async def main(lb: kubelb.LoadBalancer) -> None:
        async with httpx.AsyncClient(mounts={"all://": AsyncTransport(lb)}) as client:
            task = asyncio.ensure_future(client.get(URL))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with balancer(sdk, pods) as lb:
        asyncio.run(main(lb))
    call, (attempt,) = sdk.call()
    assert said(call)["error.type"] == said(attempt)["error.type"] == "asyncio.exceptions.CancelledError"


def test_two_requests_at_once_keep_their_own_spans(sdk: Sdk, pods: Service) -> None:
    """Each attempt hangs below its own call."""

    async def main(lb: kubelb.LoadBalancer) -> None:
        async with httpx.AsyncClient(mounts={"all://": AsyncTransport(lb)}) as client:
            await asyncio.gather(*(client.get(URL) for _ in range(10)))

    with balancer(sdk, pods) as lb:
        asyncio.run(main(lb))
    calls = {span.context.span_id for span in sdk.spans() if span.name == "kubelb reviews"}
    parents = [span.parent.span_id for span in sdk.spans() if span.name == "GET" and span.parent]
    assert len(calls) == len(parents) == 10
    assert set(parents) == calls
    assert context.get_current() == {}
