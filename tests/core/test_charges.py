"""Failures as peak EWMA sees them: how long an endpoint is left alone, and what brings it back."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubelb.core.policies.peak_ewma import load
from kubelb.core.state import NEVER
from kubelb.model import CANCELLED, Outcome

from .kit import Rig, busy, ended, failed
from .test_peak_ewma import serve

DECAY, PENALTY = 10.0, 5.0
FAIR = pytest.approx(1.0, abs=0.15)


def rig(size: int = 3) -> Rig:
    """Return endpoints that have answered in 5 ms for a while, and none of which is ever ejected."""
    made = Rig(size, "peak_ewma", outliers=None)
    serve(made, 30, 100, quick)
    return made


def quick(ip: str) -> tuple[float, Outcome]:
    return 0.005, Outcome()


def share(made: Rig, seconds: float, answer=quick, rate: float = 100.0) -> float:
    """Return the first one's part of the traffic; 1 is fair."""
    return serve(made, seconds, rate, answer)["10.0.0.0"] / (seconds * rate) * len(made.balancer.states())


def cost(made: Rig) -> float:
    """Return what a request on the first one counts for now; 0 where that is due a probe."""
    state = made.state(0)
    return load(state, made.clock(), DECAY) / (state.in_flight + 1) if hold(made) >= 0 else 0.0


def hold(made: Rig) -> float:
    """Return the seconds until the first one is due a probe."""
    return made.state(0).stamp + DECAY - made.clock()


@pytest.mark.parametrize("size", [2, 3, 10])
@pytest.mark.parametrize("rate", [20, 100, 1000])
def test_one_failure_is_no_exile(size: int, rate: int) -> None:
    """A moving average alone would take two minutes; here the fair share is there after a second."""
    made = rig(size)
    made.fail(0)
    assert share(made, 0.5, rate=rate) == 0.0
    share(made, 1, rate=rate)
    assert share(made, 20, rate=rate) == FAIR


def test_all_that_was_down_has_its_share_again_within_five_seconds() -> None:
    """Everybody fails for half a minute, then everybody answers."""
    made = rig()
    serve(made, 30, 30, lambda ip: (0.001, failed()))
    serve(made, 5, 100, quick)
    seen = serve(made, 5, 100, quick)
    assert [seen[f"10.0.0.{number}"] / 500 * 3 for number in range(3)] == [FAIR] * 3


def test_holds_double_up_to_four_seconds_and_are_forgotten() -> None:
    """Each failure makes the next hold longer; a decay without one takes a failure back."""
    made = rig(1)
    seen = []
    for _ in range(6):
        made.fail(0)
        seen.append(hold(made))
        made.clock.advance(0.001)
    assert seen == pytest.approx([0.5, 1.0, 2.0, 4.0, 4.0, 4.0], rel=1e-3)
    made.clock.advance(2 * DECAY)
    made.fail(0)
    assert hold(made) == pytest.approx(2.0, rel=1e-3)
    made.clock.advance(10 * DECAY)
    made.fail(0)
    assert hold(made) == pytest.approx(0.5)


def test_failures_of_the_same_moment_are_one_trouble() -> None:
    """A pod that dies with ten requests is not ten times as suspicious."""
    made = rig(1)
    held = [made.lease(0) for _ in range(10)]
    made.clock.advance(0.002)
    for lease in held:
        lease.release(failed())
        made.clock.advance(0.001)
    assert made.state(0).doubts == 1.0


@pytest.mark.parametrize(
    ("took", "outcome", "seconds"),
    [
        (0.001, failed(), 0.5),
        (3.0, failed(), 3.0),  # a timeout that cost three seconds is not tried on somebody each half second
        (30.0, failed(), DECAY),
        (0.001, failed(retry_after=2.0), 2.0),
        (0.001, busy(), 0.5),
        (0.001, busy(7.0), 7.0),
        (0.001, busy(60.0), DECAY),
    ],
)
def test_how_long_it_is_left_alone(took: float, outcome: Outcome, seconds: float) -> None:
    """As long as the failure took and as its Retry-After says, and a decay at most."""
    made = rig(1)
    ended(made, took, outcome)
    assert hold(made) == pytest.approx(seconds)


def test_a_charge_is_worth_what_it_says_while_it_is_held() -> None:
    """It lies on the curve of a sample of five seconds: 5 s at once, by exp(-dt/decay) less later."""
    made = rig(1)
    made.fail(0)
    assert cost(made) == pytest.approx(PENALTY)
    made.clock.advance(0.4)
    assert cost(made) == pytest.approx(PENALTY * math.exp(-0.04))
    made.clock.advance(0.2)
    assert cost(made) == 0.0  # due a probe


def test_what_began_before_the_end_of_the_hold_says_nothing_for_it() -> None:
    """An answer that was on its way, or one that came while nobody had better to offer."""
    made = rig(1)
    early = made.lease(0)
    made.clock.advance(0.01)
    made.fail(0)
    stamp = made.state(0).stamp
    early.release()
    ended(made, 0.01)
    assert (made.state(0).stamp, made.state(0).charge) == (stamp, PENALTY)
    made.clock.advance(0.6)
    ended(made, 0.02, Outcome())
    assert (made.state(0).cost, made.state(0).stamp, made.state(0).charge) == (
        pytest.approx(0.02),
        made.clock(),
        0.0,
    )


def test_slower_than_the_charge_raises_it() -> None:
    """Up at once, as ever: a success of 20 s and a request that was given up after 30."""
    made = rig(1)
    held = [made.lease(0) for _ in range(3)]
    made.clock.advance(20.0)
    made.fail(0)
    held[0].release()
    assert cost(made) == pytest.approx(20.0)
    made.clock.advance(0.4)
    held[1].release(CANCELLED)
    assert cost(made) == pytest.approx(20.4)
    made.clock.advance(3600.0)
    held[2].release()  # it said nothing for an hour: the endpoint has been due a probe for long
    assert (cost(made), made.state(0).charge) == (0.0, PENALTY)


def test_a_probe_that_is_given_up_makes_the_next_one_wait() -> None:
    """Or a pod that hangs would get the next caller at once; and it is no failure either."""
    made = rig(1)
    made.fail(0)
    made.clock.advance(0.6)
    ended(made, 3.0, CANCELLED)
    assert hold(made) == pytest.approx(3.0)
    assert cost(made) == pytest.approx(PENALTY * math.exp(-0.36))
    assert made.state(0).doubts == 1.0


def test_where_most_fail_the_one_that_answers_gets_all_it_can() -> None:
    """Nobody is ejected where more than half would be; but of two candidates it is taken whenever it is one of them."""
    made = rig()
    seen = serve(made, 60, 100, lambda ip: (0.02, Outcome()) if ip == "10.0.0.1" else (0.001, failed()))
    assert seen["10.0.0.1"] >= 0.97 * 6000 * 2 / 3


@pytest.mark.parametrize(("failing", "most"), [(0.05, 0.1), (0.2, 0.04), (0.5, 0.02), (1.0, 0.01)])
def test_who_fails_now_and_then_gets_little(failing: float, most: float) -> None:
    """Each failure brings it a hold: of its fair share there are a few per cent left. Seeded."""
    made, chance = rig(), random.Random(1)
    seen = share(
        made, 100, lambda ip: (0.005, failed() if ip == "10.0.0.0" and chance.random() < failing else Outcome()), 200
    )
    assert 0 < seen <= most


@pytest.mark.parametrize("failing", [0.001, 0.01, 0.05, 0.5])
@pytest.mark.parametrize("size", [2, 3, 10])
def test_where_all_fail_alike_the_work_stays_shared(size: int, failing: float) -> None:
    """A bad deploy: in 60 s at 500 requests a second everybody has between half and one and a half of a fair share."""
    made, chance = rig(size), random.Random(1)
    seen = serve(made, 60, 500, lambda ip: (0.02, failed() if chance.random() < failing else Outcome()))
    parts = [seen[f"10.0.0.{number}"] / 30_000 * size for number in range(size)]
    assert 0.5 < min(parts) <= max(parts) < 1.5


def test_a_body_that_breaks_is_charged_too() -> None:
    """Headers in a millisecond and half a body look quick, and are a failure."""
    made = rig(1)
    lease = made.lease(0)
    made.clock.advance(0.001)
    lease.observe(Outcome(open=True))
    made.clock.advance(0.2)
    lease.release(failed())
    assert (cost(made), hold(made)) == (pytest.approx(PENALTY), pytest.approx(0.5))


def test_what_is_forgotten_owes_nothing() -> None:
    """An endpoint that was out of use begins anew."""
    made = rig(1)
    made.fail(0)
    made.state(0).forget()
    state = made.state(0)
    assert (state.charge, state.charged, state.doubts, state.stamp) == (0.0, NEVER, 0.0, NEVER)


@given(st.lists(st.tuples(st.sampled_from("ofbc"), st.floats(0, 40), st.floats(0, 40)), max_size=30))
def test_laws(steps: list[tuple[str, float, float]]) -> None:
    """Whatever happens: the cost is finite and not negative, a probe is never further away than one decay."""
    made = Rig(1, "peak_ewma", outliers=None)
    outcomes = {"o": Outcome(), "f": failed(), "b": busy(3.0), "c": CANCELLED}
    for what, pause, took in steps:
        made.clock.advance(pause)
        ended(made, took, outcomes[what])
        state = made.state(0)
        assert 0.0 <= state.cost < 1e3
        assert state.stamp == NEVER or hold(made) <= DECAY + 1e-9
        assert bool(state.charge) <= (state.failures > 0)
        if what == "f":
            assert state.charge >= PENALTY
