"""What the application's own telemetry raises breaks nothing: calls are answered, nothing stays in flight.

Kind: a handler, filter, processor, sampler, propagator, exporter or view that raises fails requests, or keeps discovery
from telling the adapters which pods are gone.
"""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import propagate
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

import kubelb
from kubelb.core.events import Retried
from kubelb.model import Endpoint, Snapshot
from kubelb.service import service_of
from kubelb.telemetry import broken
from kubelb.testing import Service
from telemetry.kit import Sdk
from telemetry.test_http_spans import by_asyncio, by_httpx, by_requests
from telemetry.test_rpc_spans import soon, sync

SECRET = "s3cret-of-the-line"


@pytest.fixture(autouse=True)
def nothing_told() -> Iterator[None]:
    broken._told.clear()
    yield
    broken._told.clear()


class Faulty(SpanProcessor):
    def __init__(self, where: str) -> None:
        self.where = where

    def on_start(self, span, parent_context=None) -> None:
        if self.where == "on_start":
            raise RuntimeError(SECRET)

    def on_end(self, span) -> None:
        if self.where == "on_end":
            raise RuntimeError(SECRET)


class FaultySampler(Sampler):
    def should_sample(self, *args: Any, **given: Any) -> Any:
        raise RuntimeError(SECRET)

    def get_description(self) -> str:
        return "faulty"


class FaultyPropagator:
    fields: set[str] = set()

    def inject(self, *args: Any, **given: Any) -> None:
        raise RuntimeError(SECRET)


class FaultyMeters(MeterProvider):
    def get_meter(self, *args: Any, **given: Any) -> Any:
        raise RuntimeError(SECRET)


class FaultyHistogram(MeterProvider):
    def get_meter(self, *args: Any, **given: Any) -> Any:
        meter = super().get_meter(*args, **given)
        create = meter.create_histogram

        def made(*args: Any, **given: Any) -> Any:
            histogram = create(*args, **given)
            histogram.record = FaultyPropagator().inject
            return histogram

        meter.create_histogram = made
        return meter


def by_call(lb: kubelb.LoadBalancer) -> int:
    return lb.call(lambda attempt: 200)


def by_grpc(lb: kubelb.LoadBalancer) -> int:
    return 200 if sync(lb, "unary_unary") == b"a" else 0


def by_grpc_future(lb: kubelb.LoadBalancer) -> int:
    return 200 if sync(lb, "unary_unary", "future") == b"a" else 0


def by_grpc_stream(lb: kubelb.LoadBalancer) -> int:
    return 200 if sync(lb, "stream_stream") else 0


def by_grpc_aio(lb: kubelb.LoadBalancer) -> int:
    return 200 if soon(lb, "unary_unary") == b"a" else 0


PARTS = ["on_start", "on_end", "sampler", "propagator", "meters", "histogram"]
WAYS = [by_httpx, by_asyncio, by_requests, by_call, by_grpc, by_grpc_future, by_grpc_stream, by_grpc_aio]


def faulty(part: str, monkeypatch: pytest.MonkeyPatch) -> kubelb.Telemetry:
    sdk = Sdk(sampler=FaultySampler() if part == "sampler" else ALWAYS_ON)
    sdk.tracer_provider.add_span_processor(Faulty(part))
    if part == "propagator":
        monkeypatch.setattr(propagate, "_HTTP_TEXT_FORMAT", FaultyPropagator(), raising=False)
        monkeypatch.setattr(propagate, "inject", FaultyPropagator().inject)
    meters = {"meters": FaultyMeters, "histogram": FaultyHistogram}.get(part)
    return kubelb.Telemetry("reviews", sdk.tracer_provider, meters() if meters else sdk.meter_provider)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("way", WAYS)
def test_calls_go_on(way: Any, part: str, pods: Service, rpc_pods: Service, monkeypatch, caplog) -> None:
    """Answered as ever, nothing in flight; what was raised is told once, by its type alone."""
    service = rpc_pods if "grpc" in way.__name__ else pods
    target = "static:///" + ",".join(pod.address for pod in service)
    with kubelb.LoadBalancer(target, telemetry=faulty(part, monkeypatch)) as lb:
        assert [way(lb) for _ in range(3)] == [200] * 3
        assert {view.in_flight for view in lb.endpoints()} == {0}
    told = [record.getMessage() for record in caplog.records if "telemetry:" in record.getMessage()]
    assert len(told) == len(set(told))
    assert all("raised RuntimeError" in text for text in told)
    if not (part == "propagator" and way is by_call):  # which sends nothing
        assert told
    assert SECRET not in caplog.text


@pytest.mark.parametrize("part", PARTS)
def test_a_failed_try_is_followed_by_another(part: str, pods: Service, monkeypatch) -> None:
    """The spans of more than one attempt, too."""
    pods[0].fail(503)
    pods[1].reset()
    target = "static:///" + ",".join(pod.address for pod in pods)
    with kubelb.LoadBalancer(target, telemetry=faulty(part, monkeypatch)) as lb:
        for way in (by_httpx, by_asyncio, by_requests):
            assert [way(lb) for _ in range(3)] == [200] * 3
        assert {view.in_flight for view in lb.endpoints()} == {0}


class FaultyHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise LookupError(SECRET)


def faulty_filter(record: logging.LogRecord) -> bool:
    raise LookupError(SECRET)


class FaultyFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        raise LookupError(SECRET)


class Strict(logging.StreamHandler):
    """One whose formatter's errors come through."""

    def handleError(self, record: logging.LogRecord) -> None:
        raise  # noqa: PLE0704 - called while the error is handled


@pytest.fixture(params=["handler", "filter", "formatter"])
def broken_logging(request: pytest.FixtureRequest) -> Iterator[None]:
    logger = logging.getLogger("kubelb")
    handler: logging.Handler = FaultyHandler() if request.param == "handler" else Strict()
    handler.setFormatter(FaultyFormatter())
    level = logger.level
    logger.setLevel(logging.DEBUG)
    if request.param == "filter":
        logger.addFilter(faulty_filter)
    else:
        logger.addHandler(handler)
    yield
    logger.removeFilter(faulty_filter)
    logger.removeHandler(handler)
    logger.setLevel(level)


class Listener:
    """What an adapter is to a load balancer: it closes the pools of pods that are gone."""

    def __init__(self, raises: bool = False) -> None:
        self.gone: list[str] = []
        self.raises = raises

    def heard(self, difference: Any) -> None:
        self.gone += [state.endpoint.ip for state in difference.removed]
        if self.raises:
            raise RuntimeError("a listener's own")


def test_broken_logging_keeps_nothing_from_going_on(broken_logging, capfd) -> None:
    """Adapters are told which pods are gone, retries go on; standard error hears of it once, by its type."""
    with kubelb.LoadBalancer("static:///127.0.0.1:1,127.0.0.1:2") as lb:
        listener = Listener()
        service_of(lb).on_change(listener.heard)
        service_of(lb)._publish(Snapshot(2, (Endpoint("127.0.0.1", 2),)))
        assert listener.gone == ["127.0.0.1"]
        for _ in range(3):
            service_of(lb).tell(Retried("s", "e", 2, "503", 0.0))
    said = capfd.readouterr().err
    assert said == "kubelb: a line was lost: a filter or handler of logging raised LookupError\n"


def test_broken_logging_says_nothing_where_logging_must_not(broken_logging, capfd, monkeypatch) -> None:
    """``logging.raiseExceptions`` is how a program says so."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    with kubelb.LoadBalancer("static:///127.0.0.1:1"):
        pass
    assert capfd.readouterr().err == ""


def test_an_interrupt_is_no_fault_of_logging() -> None:
    """Ctrl-C in a handler ends the program as anywhere else."""

    def interrupted(record: logging.LogRecord) -> bool:
        raise KeyboardInterrupt

    logger = logging.getLogger("kubelb")
    logger.addFilter(interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            broken.say(logging.WARNING, "a line")
    finally:
        logger.removeFilter(interrupted)


def test_one_listener_that_raises_keeps_nothing_from_the_others() -> None:
    """All are told; the error comes out after, where a thread's errors are reported."""
    with kubelb.LoadBalancer("static:///127.0.0.1:1,127.0.0.1:2") as lb:
        listeners = [Listener(raises=True), Listener(), Listener(raises=True), Listener()]
        for listener in listeners:
            service_of(lb).on_change(listener.heard)
        with pytest.raises(RuntimeError, match="a listener's own"):
            service_of(lb)._publish(Snapshot(2, (Endpoint("127.0.0.1", 2),)))
        assert [listener.gone for listener in listeners] == [["127.0.0.1"]] * 4
