"""Outlier detection: who is sent away, who never is, and the way back."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubelb.core import Phase
from kubelb.core.events import Ejected, EjectionSpared, Returned
from kubelb.core.health.ejector import Ejector, allowance
from kubelb.core.health.outliers import OutlierDetection
from kubelb.model import CANCELLED, Outcome, Verdict

from .kit import Rig, busy, failed, pod, pods


def phases(rig: Rig) -> list[str]:
    return [state.phase.value for state in rig.balancer.states()]


@pytest.mark.parametrize(
    "options",
    [
        {"consecutive_failures": 0},
        {"base_ejection": 0},
        {"base_ejection": 20.0, "max_ejection": 10.0},
        {"max_ejection": float("inf")},
        {"jitter": 1.0},
        {"jitter": -0.1},
        {"consecutive_failures": 2.5},
        {"minimum_requests": 0},
        {"failure_share": 1.0},
        {"failure_share": -0.2},
        {"failure_share": float("nan")},
        {"window": 0.0},
        {"window": float("nan")},
        {"peer_factor": -1.0},
        {"peer_factor": float("inf")},
        {"base_ejection": float("nan")},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    """The error names the option and what to give."""
    with pytest.raises(ValueError, match=rf"{next(iter(options))}.*give"):
        OutlierDetection(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "allowed"), [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (10, 5)])
def test_allowance_is_half_at_least_one_and_none_of_one(count: int, allowed: int) -> None:
    """max(1, half) of two or more, nobody where there is one."""
    assert allowance(count) == allowed


def test_durations_double_up_to_the_maximum() -> None:
    """10, 20, 40 ... 300 s, for any number in a row."""
    config = OutlierDetection()
    assert [config.duration(times) for times in (1, 2, 3, 5, 6, 10_000)] == [10, 20, 40, 160, 300, 300]


def test_five_failures_in_a_row_eject() -> None:
    """Four do not; the fifth takes the endpoint out of the choice, with jitter around 10 s."""
    rig = Rig(3)
    rig.fail(0, 4)
    assert rig.picks(60)["10.0.0.0"] > 0
    rig.fail(0)
    assert rig.picks(60)["10.0.0.0"] > 0  # the picks between were successes: the streak was over
    rig.fail(0, 5)
    (event,) = rig.told(Ejected)
    assert (event.endpoint, event.times) == ("10.0.0.0:80", 1)
    assert 7.5 <= event.duration <= 12.5
    assert rig.picks(60)["10.0.0.0"] == 0


@pytest.mark.parametrize("outcome", [CANCELLED, Outcome(Verdict.NEUTRAL), busy(), Outcome(reason="404")])
def test_what_is_no_failure_never_ejects(outcome: Outcome) -> None:
    """Cancelled, neutral, 429 and 4xx leave an endpoint where it is."""
    rig = Rig(3)
    for _ in range(50):
        rig.lease(0).release(outcome)
    assert phases(rig) == ["active"] * 3


def test_a_second_bad_one_of_four_goes_too_and_a_third_brings_all_back() -> None:
    """Half may be away; more than half failing alike is nobody's own fault."""
    rig = Rig(4)
    rig.eject(0)
    rig.eject(1)
    assert phases(rig) == ["ejected", "ejected", "active", "active"]
    rig.eject(2)
    assert phases(rig) == ["active"] * 4
    assert {(event.endpoint, event.why) for event in rig.told(Returned)} == {
        ("10.0.0.0:80", "correlated"),
        ("10.0.0.1:80", "correlated"),
    }
    assert "not to blame" in rig.told(EjectionSpared)[0].reason


def test_the_cap_spares_and_says_so_once() -> None:
    """Beyond the allowance an endpoint stays; one line a streak, not a request."""
    rig = Rig(5)
    for number in (0, 1):
        rig.eject(number)
    rig.state(0).forget()  # so that it is the cap that speaks, not the correlation
    rig.fail(2, 15)
    assert phases(rig) == ["ejected", "ejected", "active", "active", "active"]
    assert [event.reason for event in rig.told(EjectionSpared)] == ["2 of 5 are away already"]


def test_the_last_endpoint_stays() -> None:
    """Where there is one, it is kept whatever it does."""
    rig = Rig(1)
    rig.fail(0, 20)
    assert phases(rig) == ["active"]
    assert rig.told(EjectionSpared)[0].reason == "it is the last endpoint"


def test_the_way_back_is_one_probe_and_slow_start() -> None:
    """After its time an endpoint gets one request; that one's success brings it back."""
    rig = Rig(3)
    rig.eject(0)
    rig.clock.advance(9.0)
    assert rig.picks(30)["10.0.0.0"] in (0, 30)  # its jitter decides whether it is due yet
    rig.clock.advance(4.0)
    probe = next(lease for lease in (rig.balancer.pick() for _ in range(50)) if lease.endpoint.ip == "10.0.0.0")
    assert probe.state.phase is Phase.PROBING
    assert rig.picks(50)["10.0.0.0"] == 0
    probe.release()
    assert probe.state.phase is Phase.ACTIVE
    assert probe.state.consecutive == 0
    assert probe.state.warm_since == rig.clock()
    assert [event.why for event in rig.told(Returned)] == ["probe"]
    assert rig.picks(300)["10.0.0.0"] < 60


def test_a_probe_that_fails_doubles_the_time() -> None:
    """One failure is enough while probing."""
    rig = Rig(3, outliers=OutlierDetection(jitter=0.0))
    rig.eject(0)
    for expected in (20.0, 40.0, 80.0):
        rig.clock.advance(expected / 2)
        probe = rig.balancer.pick()
        assert probe.endpoint.ip == "10.0.0.0"
        probe.release(failed())
        assert rig.told(Ejected)[-1].duration == expected
    assert rig.told(Ejected)[-1].reason == "its probe failed"


def test_healthy_time_takes_back_doublings() -> None:
    """Each stretch as long as the base after its return takes back one."""
    rig = Rig(3, outliers=OutlierDetection(jitter=0.0))
    rig.eject(0)
    rig.clock.advance(10)
    rig.balancer.pick().release(failed())
    rig.clock.advance(20)
    rig.balancer.pick().release()
    assert rig.state(0).ejections == 2
    rig.clock.advance(11)
    rig.eject(0)
    assert rig.told(Ejected)[-1].times == 2
    rig.clock.advance(20)
    rig.balancer.pick().release()
    rig.clock.advance(1000)
    rig.eject(0)
    assert rig.told(Ejected)[-1].times == 1


@pytest.mark.parametrize("end", [failed(), Outcome()])
def test_a_straggler_decides_nothing(end: Outcome) -> None:
    """A request begun before the ejection is no probe, whether it ends while away or during the probe."""
    rig = Rig(3)
    early, late = rig.lease(0), rig.lease(0)
    rig.eject(0)
    early.release(end)
    assert rig.state(0).phase is Phase.EJECTED
    rig.clock.advance(13)
    probe = rig.balancer.pick()
    assert probe.endpoint.ip == "10.0.0.0"
    late.release(end)
    assert rig.state(0).phase is Phase.PROBING
    probe.release()
    assert rig.state(0).phase is Phase.ACTIVE


def probed_a_second_later(rig: Rig) -> None:
    """The first endpoint, whose probe has been lost, gets another one and is back."""
    assert rig.state(0).phase is Phase.PROBING
    rig.clock.advance(1.0)
    again = rig.balancer.pick()
    assert again.endpoint.ip == "10.0.0.0"
    again.release()
    assert rig.state(0).phase is Phase.ACTIVE


@pytest.mark.parametrize("end", [None, CANCELLED])
def test_a_probe_without_a_verdict_is_given_to_another_request(end: Outcome | None) -> None:
    """Cancelled or lost: a second later the next request is the probe."""
    rig = Rig(3)
    rig.eject(0)
    rig.clock.advance(13)
    rig.balancer.pick().release(end)
    probed_a_second_later(rig)


def test_a_stream_from_before_the_ejection_does_not_hide_a_lost_probe() -> None:
    """It may stay open for hours; the endpoint is not away for as long."""
    rig = Rig(3)
    stream = rig.lease(0)
    rig.eject(0)
    rig.clock.advance(13)
    rig.balancer.pick().release(CANCELLED)
    probed_a_second_later(rig)
    stream.release()


def test_headers_of_a_long_stream_bring_an_endpoint_back() -> None:
    """A probe that answers counts at its headers: a stream may stay open for hours."""
    rig = Rig(3)
    rig.eject(0)
    rig.clock.advance(13)
    rig.balancer.pick().observe(Outcome(open=True))
    assert rig.state(0).phase is Phase.ACTIVE


def test_a_probe_in_flight_is_not_repeated() -> None:
    """While it runs no other request is sent there, however long it takes."""
    rig = Rig(3)
    rig.eject(0)
    rig.clock.advance(13)
    probe = rig.balancer.pick()
    for _ in range(100):
        rig.clock.advance(1)
        assert rig.balancer.pick().endpoint.ip != "10.0.0.0"
    probe.release()


@pytest.mark.parametrize("phase", ["ejected", "probing"])
def test_leaving_the_set_leaves_the_ejection_behind(phase: str) -> None:
    """An ejected or probing pod that is parked comes back as a newcomer, and its late probe does no harm."""
    rig = Rig(4)
    rig.eject(0)
    probe = None
    if phase == "probing":
        rig.clock.advance(13)
        probe = rig.balancer.pick()
    everyone = pods(4)
    rig.set(everyone[1:], everyone[:1])
    if probe:
        probe.release()
    rig.set(everyone)
    assert rig.state(0).phase is Phase.ACTIVE
    rig.clock.advance(60)
    assert rig.picks(100)["10.0.0.0"] > 10
    rig.eject(0)
    assert rig.state(0).phase is Phase.EJECTED


def test_a_removed_endpoint_is_past_judging() -> None:
    """Failures of what is gone eject nobody."""
    rig = Rig(4)
    lost = rig.state(0)
    leases = [rig.lease(0) for _ in range(10)]
    rig.set(pods(4)[1:])
    for lease in leases:
        lease.release(failed())
    assert (lost.phase, rig.told(Ejected)) == (Phase.ACTIVE, [])


@pytest.mark.parametrize("left", [1, 2, 3])
def test_a_set_that_shrinks_takes_back_its_surplus(left: int) -> None:
    """With two of four away and fewer left, those that return soonest come back until the allowance is kept."""
    rig = Rig(4)
    rig.eject(0)
    rig.clock.advance(1)
    rig.eject(1)
    rig.set(pods(4)[:left])
    away = [state for state in rig.balancer.states() if state.phase is not Phase.ACTIVE]
    assert len(away) <= allowance(left)
    assert len(rig.told(Returned)) == min(2, left) - len(away)
    assert all(event.why == "too few are left" for event in rig.told(Returned))
    rig.balancer.pick().release()


def test_an_ejection_cut_short_by_an_interrupt_is_forgotten() -> None:
    """Noted as away and still active: dropped at the next look, or ejected once and not twice."""
    rig = Rig(5)
    ejector = rig.guards.ejector
    assert ejector is not None
    ejector.away.append(rig.state(0))
    rig.eject(0)
    assert ejector.away == [rig.state(0)]
    ejector.away.append(rig.state(1))
    rig.clock.advance(13)
    rig.balancer.pick().release()
    assert ejector.away == []


def test_a_probe_is_claimed_once() -> None:
    """Of two requests that reach for it, one is the probe."""
    rig = Rig(3)
    rig.eject(0)
    rig.clock.advance(13)
    ejector = rig.guards.ejector
    assert ejector is not None
    ejector.advance(rig.clock())
    assert [ejector.claim(rig.state(0)) for _ in range(2)] == [True, False]


def test_a_success_in_between_spares() -> None:
    """Where a success came between the count and the judgement, nobody is ejected."""
    rig = Rig(3)
    ejector = Ejector("svc", OutlierDetection(), random.Random(1))
    rig.fail(0, 4)
    assert ejector.breached(rig.state(0), 5, 0.0, rig.clock())
    assert ejector.decide(rig.state(0), rig.balancer.states(), 0.0, rig.clock()) == []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("fail"), st.integers(0, 7), st.integers(1, 12)),
        st.tuples(st.just("ok"), st.integers(0, 7), st.just(1)),
        st.tuples(st.just("wait"), st.integers(0, 40), st.just(1)),
        st.tuples(st.just("scale"), st.integers(1, 8), st.just(1)),
        st.tuples(st.just("pick"), st.sampled_from([0, 1]), st.integers(1, 5)),
    ),
    max_size=40,
)


@given(st.integers(1, 8), STEPS)
def test_the_laws_hold_under_any_history(count: int, steps: list[tuple[str, int, int]]) -> None:
    """Never more than max(1, half) away, never the last one, nobody where most breach, and `away` is what it says."""
    rig = Rig(count)
    for what, number, times in steps:
        if what == "scale":
            count = number
            rig.set(pods(count))
        elif what == "wait":
            rig.clock.advance(number)
        elif what == "pick":
            for _ in range(times):
                rig.balancer.pick().release(failed() if number else Outcome())
        elif number < count:
            for _ in range(times):
                (rig.fail if what == "fail" else rig.succeed)(number)
        states = rig.balancer.states()
        away = [state for state in states if state.phase is not Phase.ACTIVE]
        assert len(away) <= allowance(count)
        assert len(away) < count
        ejector = rig.guards.ejector
        assert ejector is not None
        assert set(ejector.away) == set(away)
        just_ejected = [event for event in rig.events if isinstance(event, Ejected) and "in a row" in event.reason]
        if what == "fail" and just_ejected:
            breaching = sum(state.consecutive >= 5 for state in states)
            assert breaching * 2 <= count or not away or rig.events[-1] is not just_ejected[-1]
        rig.events.clear()
    rig.clock.advance(1000)
    for _ in range(3 * count):  # everybody comes back once it answers
        rig.clock.advance(1.5)
        rig.balancer.pick().release()
    assert all(state.phase is Phase.ACTIVE for state in rig.balancer.states())


def test_where_most_fail_at_once_nobody_is_away() -> None:
    """A dead database: all endpoints fail for a while, and after it all are in use."""
    rig = Rig(9)
    for _ in range(30):
        for number in range(9):
            rig.fail(number)
    assert phases(rig) == ["active"] * 9


def test_a_new_pod_at_an_ejected_address_is_not_ejected() -> None:
    """Another uid is another endpoint."""
    rig = Rig(3)
    rig.eject(0)
    rig.set((pod(0, 1), *pods(3)[1:]))
    assert rig.state(0).phase is Phase.ACTIVE
