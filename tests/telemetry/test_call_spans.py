"""`call` and `acall`: any function's attempts are spans, inside which it may make its own."""

import asyncio
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind

import kubelb
from kubelb import LoadBalancer
from telemetry.kit import Sdk, said

TARGET = "static:///10.0.0.1:80,10.0.0.2:80,10.0.0.3:80"
DURATION = "kubelb.call.duration"


def run(lb: LoadBalancer, fn: Any, soon: bool, **options: Any) -> Any:
    """Call `fn` either way."""
    if not soon:
        return lb.call(fn, **options)

    async def asked(attempt: kubelb.Attempt) -> Any:
        await asyncio.sleep(0)
        return fn(attempt)

    return asyncio.run(lb.acall(asked, **options))


@pytest.mark.parametrize("soon", [False, True])
def test_call(sdk: Sdk, soon: bool) -> None:
    """What the function does is below its attempt."""
    tracer = sdk.tracer_provider.get_tracer("mine")

    def ask(attempt: kubelb.Attempt) -> str:
        with tracer.start_as_current_span("inside"):
            if attempt.number < 3:
                raise ConnectionRefusedError("s3cret")
            return "ok"

    with LoadBalancer(TARGET, telemetry=sdk.telemetry()) as lb:
        assert run(lb, ask, soon, key="k", idempotent=True) == "ok"
    spans = sdk.spans()
    (call,) = [span for span in spans if span.name == "kubelb reviews"]
    attempts = [span for span in spans if span.name == "attempt"]
    inside = [span for span in spans if span.name == "inside"]
    assert [span.kind for span in attempts] == [SpanKind.INTERNAL] * 3
    assert [said(span)["kubelb.attempt"] for span in attempts] == [1, 2, 3]
    assert [said(span).get("error.type") for span in attempts] == ["ConnectionRefusedError"] * 2 + [None]
    assert [span.parent for span in attempts] == [call.context] * 3
    assert [span.parent for span in inside] == [span.context for span in attempts]
    assert said(call) == {"kubelb.service": "reviews", "kubelb.attempts": 3}
    assert sdk.points()[DURATION].keys() == {()}
    assert "s3cret" not in "".join(span.to_json() for span in (call, *attempts))
    assert trace.get_current_span() is trace.INVALID_SPAN


@pytest.mark.parametrize("soon", [False, True])
def test_an_attempt_that_was_never_sent(sdk: Sdk, soon: bool) -> None:
    """Its span tells what it came of, as the caller's exception does."""

    def ask(attempt: kubelb.Attempt) -> str:
        if attempt.number < 2:
            raise kubelb.NeverSent from ConnectionRefusedError("s3cret")
        if attempt.number < 3:
            raise kubelb.NeverSent("s3cret")
        return "ok"

    with LoadBalancer(TARGET, telemetry=sdk.telemetry()) as lb:
        assert run(lb, ask, soon) == "ok"
    attempts = [span for span in sdk.spans() if span.name == "attempt"]
    kinds = ["ConnectionRefusedError", "kubelb.errors.NeverSent", None]
    assert [said(span).get("error.type") for span in attempts] == kinds
    assert "s3cret" not in "".join(span.to_json() for span in attempts)


@pytest.mark.parametrize("soon", [False, True])
def test_what_the_call_ends_with(sdk: Sdk, soon: bool) -> None:
    """The caller's own exception, by its type."""

    def ask(attempt: kubelb.Attempt) -> None:
        raise KeyError("mine")

    with LoadBalancer(TARGET, telemetry=sdk.telemetry()) as lb, pytest.raises(KeyError):
        run(lb, ask, soon)
    assert sdk.durations(DURATION) == [{"error.type": "KeyError"}]


def test_one_inside_another(sdk: Sdk) -> None:
    """A call that makes a call by another load balancer is not taken for its attempt, even where that is silent."""
    other = Sdk()

    def ask(attempt: kubelb.Attempt) -> str:
        return inner.call(lambda _: silent.call(lambda again: again.endpoint.ip))

    with (
        LoadBalancer(TARGET, telemetry=sdk.telemetry()) as lb,
        LoadBalancer(TARGET, telemetry=other.telemetry("ratings")) as inner,
        LoadBalancer(TARGET, telemetry=False) as silent,
    ):
        assert lb.call(ask).startswith("10.0.0.")
    assert [span.name for span in sdk.spans()] == ["attempt", "kubelb reviews"]
    assert [span.name for span in other.spans()] == ["attempt", "kubelb ratings"]
