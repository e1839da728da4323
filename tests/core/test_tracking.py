"""Tracker: what each kind of outcome does to cost, streak and phase."""

import math

import pytest

from kubelb.core.state import NEVER
from kubelb.model import CANCELLED, Outcome, Sent, Verdict

from .kit import Rig, busy, ended, failed


def counts(rig: Rig) -> float:
    """Return what the endpoint's cost amounts to now."""
    state = rig.state(0)
    return state.cost * math.exp((state.stamp - rig.clock()) / 10.0)


@pytest.mark.parametrize("policy", ["peak_ewma", "least_request"])
def test_what_is_not_known_is_no_quick_success(policy: str) -> None:
    """A pod on which everything raises at once drew all traffic. It blames none: no failure, and no ejection."""
    rig = Rig(2, policy)
    bad = rig.balancer.states()[0]
    seen = 0
    for _ in range(200):
        lease = rig.balancer.pick()
        rig.clock.advance(0.001 if lease.state is bad else 0.02)
        seen += lease.state is bad
        lease.release(Outcome(Verdict.ODD) if lease.state is bad else Outcome())
    assert 1 <= seen <= (20 if policy == "peak_ewma" else 130)
    assert (bad.failures, bad.consecutive, bad.phase.value) == (0, 0, "active")
    assert bad.others == seen


def test_the_first_sample_is_the_cost() -> None:
    """An endpoint that answered once costs what that took."""
    rig = Rig(1)
    ended(rig, 0.2, Outcome())
    assert rig.state(0).cost == pytest.approx(0.2)
    assert rig.state(0).stamp == rig.clock()


def test_an_outcome_may_bring_its_own_latency() -> None:
    """Where the adapter measured, its figure counts."""
    rig = Rig(1)
    ended(rig, 5, Outcome(latency=0.1))
    assert rig.state(0).cost == pytest.approx(0.1)


def test_up_at_once_and_down_slowly() -> None:
    """A slower answer replaces the cost, a faster one moves it by exp(-dt/decay)."""
    rig = Rig(1)
    ended(rig, 0.1, Outcome())
    ended(rig, 2.0, Outcome())
    assert rig.state(0).cost == pytest.approx(2.0)
    rig.clock.advance(9.9)
    ended(rig, 0.1, Outcome())
    weight = math.exp(-1)
    assert rig.state(0).cost == pytest.approx(2.0 * weight + 0.1 * (1 - weight))


@pytest.mark.parametrize("hint", [None, 0.0, 1.0])
def test_a_failure_costs_the_penalty_at_least(hint: float | None) -> None:
    """A pod that fails in a millisecond must not look fast, whatever its Retry-After says."""
    rig = Rig(1)
    ended(rig, 0.001, failed(retry_after=hint))
    assert counts(rig) == pytest.approx(5.0)


def test_a_slow_failure_costs_what_it_took() -> None:
    """A timeout of 30 s is worse than the penalty; a hint beyond reason is believed up to 300 s."""
    rig = Rig(1)
    ended(rig, 30, failed())
    assert counts(rig) == pytest.approx(30)
    ended(rig, 1, failed(retry_after=1e9))
    assert counts(rig) == pytest.approx(300.0)


@pytest.mark.parametrize(("hint", "cost"), [(None, 5.0), (0.0, 5.0), (2.0, 2.0), (1e9, 300.0)])
def test_busy_is_load_and_no_failure_in_a_row(hint: float | None, cost: float) -> None:
    """A 429 is charged as its Retry-After, never counted towards an ejection."""
    rig = Rig(1)
    ended(rig, 0.001, busy(hint))
    assert counts(rig) == pytest.approx(cost)
    assert (rig.state(0).consecutive, rig.state(0).failures) == (0, 1)


@pytest.mark.parametrize("outcome", [CANCELLED, Outcome(Verdict.NEUTRAL, sent=Sent.MAYBE)])
def test_a_cancelled_request_only_raises_the_cost(outcome: Outcome) -> None:
    """What was given up after a second took a second at least, against the cost as it stands by then."""
    rig = Rig(1)
    ended(rig, 0.5, Outcome())
    ended(rig, 0.1, outcome)
    assert rig.state(0).cost == pytest.approx(0.5 * math.exp(-0.01))
    assert rig.state(0).stamp == rig.clock()
    ended(rig, 3.0, outcome)
    assert rig.state(0).cost == pytest.approx(3.0)
    assert (rig.state(0).consecutive, rig.state(0).failures, rig.state(0).successes) == (0, 0, 1)


def test_a_cancel_is_no_sample_of_an_endpoint_that_never_answered() -> None:
    """A newcomer whose first request is given up after a millisecond must not look like the fastest of all."""
    rig = Rig(1)
    ended(rig, 0.001, CANCELLED)
    assert (rig.state(0).cost, rig.state(0).stamp) == (0.0, NEVER)


def test_cancels_do_not_let_a_stale_cost_run_out() -> None:
    """A hung endpoint whose callers give up again and again keeps the cost of its hanging."""
    rig = Rig(1)
    ended(rig, 0.001, failed())
    for _ in range(100):
        ended(rig, 2.0, CANCELLED)
    assert counts(rig) == pytest.approx(2.0)


def test_a_success_ends_a_streak_and_open_headers_do_not_yet() -> None:
    """The streak ends with a whole answer; headers alone may be followed by a broken body."""
    rig = Rig(1)
    rig.fail(0, 3)
    lease = rig.lease(0)
    lease.observe(Outcome(open=True))
    assert rig.state(0).consecutive == 3
    lease.release()
    assert rig.state(0).consecutive == 0


def test_without_detection_nothing_is_judged() -> None:
    """With outliers=None failures are counted and nobody is ejected."""
    rig = Rig(3, outliers=None)
    rig.fail(0, 50)
    assert (rig.state(0).consecutive, rig.events) == (50, [])
