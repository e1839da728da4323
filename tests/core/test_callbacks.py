"""What a user's own code raises costs it its turn, not the caller its request.

Kind: a callback that raises, or returns what makes no sense, fails requests. Its faults are events, so they are told.
"""

from typing import Any

import pytest

from core.kit import Rig
from kubelb.core.events import Event, Skipped
from kubelb.core.flow import attempt_flow
from kubelb.core.policies import Picker, Policy
from kubelb.core.retry import Retry
from kubelb.core.steps import Next, Send
from kubelb.errors import Unusable
from kubelb.model import IDEMPOTENT, Outcome, Sent, Verdict


class Odd(Policy, Picker):
    """A policy whose pickers do `what`."""

    def __init__(self, what: Any) -> None:
        self.what = what

    def build(self, members, rng, before=None):
        return self

    def pick(self, request, now):
        return self.what()


def broken() -> None:
    raise ZeroDivisionError("my policy")


@pytest.mark.parametrize("what", [broken, lambda: "10.0.0.1:80", object])
def test_a_picker_that_fails_is_passed_over(what: Any) -> None:
    """It is picked at random, first tries and others, and each is told; nothing is left in flight."""
    rig = Rig(3, Odd(what))
    for number in range(1, 31):
        first = rig.balancer.pick()
        second = rig.balancer.pick(avoid=(first.state,))
        assert second.state is not first.state
        assert rig.balancer.requests == number
        first.release()
        second.release()
    assert {state.in_flight for state in rig.balancer.states()} == {0}
    assert all(state.picks > 5 for state in rig.balancer.states())
    told = [event for event in rig.events if isinstance(event, Skipped)]
    assert len(told) == 60
    assert "picked at random" in told[0].reason


def test_a_failing_picker_respects_what_the_caller_can_use() -> None:
    """Its connections that are not ready are passed over at random too; none at all is Unusable."""
    rig = Rig(3, Odd(broken))
    ready = rig.state(1)
    assert {rig.balancer.pick(usable=lambda state: state is ready).state for _ in range(9)} == {ready}
    with pytest.raises(Unusable):
        rig.balancer.pick(usable=lambda state: False)


def test_nothing_to_pick_is_a_refusal_still() -> None:
    """Where the fault is not the policy's it comes out as it is."""
    rig = Rig(0, Odd(broken))

    def usable(state):
        raise OSError("the caller's own")

    with pytest.raises(Exception, match="no endpoints"):
        rig.balancer.pick()
    rig = Rig(2)
    with pytest.raises(OSError, match="the caller's own"):
        rig.balancer.pick(usable=usable)


def failed() -> Outcome:
    return Outcome(Verdict.FAILED, sent=Sent.MAYBE, retryable=True, reason="503", value="503")


def play(rig: Rig, retry: Retry, events: list[Event], *outcomes: Outcome) -> tuple[Outcome, list[float]]:
    """Run a flow over these outcomes; returns its end and the delays it asked for."""
    flow = attempt_flow(rig.balancer, IDEMPOTENT, retry, ready_until=rig.clock(), emit=events.append)
    left, delays, answer = list(outcomes), [], None
    while True:
        try:
            step = flow.send(answer)
        except StopIteration as stop:
            return stop.value, delays
        answer = None
        if isinstance(step, Send):
            answer = left.pop(0)
            answer.lease = step.lease
            step.lease.release(answer)
        elif isinstance(step, Next):
            delays.append(step.until - rig.clock())
            rig.clock.now = step.until


def broken_strategy(state: Any) -> Any:
    raise KeyError("strategy")


@pytest.mark.parametrize(
    ("name", "strategy"),
    [*((name, broken_strategy) for name in ("wait", "stop", "retry")), ("wait", lambda state: "soon")],
)
def test_a_strategy_that_fails_leaves_kubelbs_own(name: str, strategy: Any) -> None:
    """As many tries, full jitter between them, and a success stays one; what failed is told by its name."""
    rig, events = Rig(3), []
    outcome, delays = play(rig, Retry(**{name: strategy}), events, failed(), failed(), Outcome(value="200"))
    assert outcome.value == "200"
    assert len(delays) == 2
    assert all(0.0 < delay <= 0.25 for delay in delays)
    (first, *_) = [event for event in events if isinstance(event, Skipped)]
    assert first.what == f"the strategy {name}="
    assert {state.in_flight for state in rig.balancer.states()} == {0}


def test_a_wait_that_is_no_number_is_none() -> None:
    """NaN compares with nothing: full jitter stands in for it."""
    _, delays = play(Rig(3), Retry(wait=lambda state: float("nan")), [], failed(), Outcome(value="200"))
    assert 0.0 < delays[0] <= 0.25


def test_what_events_repeat_of_others_is_fit_to_be_printed() -> None:
    """When the event is made: one line, without control characters."""
    made = Skipped("s", "w\x1b[31m", "my\nown")
    assert (made.what, made.reason) == ("w", "my own")


def test_a_picker_that_fails_where_nothing_is_left() -> None:
    """Its own error is all there is to say."""
    rig = Rig(2, Odd(broken))
    rig.picking.eligible = ()
    with pytest.raises(ZeroDivisionError):
        rig.balancer.pick()
