"""Failure shares: the interval, the window, the peers, and who is ejected for too large a share."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubelb.core import Phase
from kubelb.core.events import Ejected, EjectionSpared, Returned, ShareBounded
from kubelb.core.health.outliers import OutlierDetection
from kubelb.core.health.shares import Peers, recent, wilson
from kubelb.core.policies import REGISTRY
from kubelb.model import CANCELLED, Outcome

from .kit import Rig, busy, failed, pods

SHARE = "failure-share"


def serve(rig: Rig, number: int, good: int, bad: int) -> None:
    """Have an endpoint answer and fail so often: first what it answers more often, then by turns, a failure last."""
    while good or bad:
        if bad > good:
            rig.fail(number)
            bad -= 1
        else:
            rig.succeed(number)
            good -= 1


def phases(rig: Rig) -> list[str]:
    return [state.phase.value for state in rig.balancer.states()]


@pytest.mark.parametrize(
    ("failures", "requests", "bound"),
    [(0, 0, 0.0), (0, 20, 0.0), (1, 1, 0.2065), (10, 20, 0.2993), (8, 20, 0.2188), (7, 20, 0.1812), (20, 20, 0.8389)],
)
def test_the_lower_end_of_wilsons_interval(failures: int, requests: int, bound: float) -> None:
    """As tables of the interval have it."""
    assert wilson(failures, requests) == pytest.approx(bound, abs=5e-5)


@given(st.integers(1, 500), st.data())
def test_the_bound_is_below_the_share_and_grows_with_it(requests: int, data: st.DataObject) -> None:
    """Between 0 and the share; one failure more raises it; ten times as many requests bring it nearer."""
    failures = data.draw(st.integers(0, requests))
    bound = wilson(failures, requests)
    assert -1e-12 <= bound <= failures / requests
    if failures < requests:
        assert bound < wilson(failures + 1, requests)
    assert wilson(10 * failures, 10 * requests) >= bound - 1e-12


@given(st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]), min_size=1, max_size=9), st.data())
def test_the_median_is_that_of_the_others(shares: list[float], data: st.DataObject) -> None:
    """The endpoint's own share is left out, once."""
    own = data.draw(st.sampled_from(shares))
    others = sorted(shares)
    others.remove(own)
    middle = sorted(others)[(len(others) - 1) // 2 : len(others) // 2 + 1]
    expected = sum(middle) / len(middle) if middle else 0.0
    assert Peers(sorted(shares), 0).median_without(own) == expected


def test_a_share_that_has_changed_since_the_picture_finds_its_place() -> None:
    """Of a large set the picture is a moment old: the nearest above stands for the endpoint's own, or the last."""
    assert Peers([0.0, 0.1, 0.9], 0).median_without(0.95) == pytest.approx(0.05)
    assert Peers([0.0, 0.1, 0.9], 0).median_without(0.5) == pytest.approx(0.05)


def test_the_window_is_ten_seconds_to_within_one() -> None:
    """What is older than the window has left it, what is a tenth of it younger has not."""
    rig = Rig(3)
    for second in range(30):
        rig.fail(0, 2)
        rig.succeed(0)
        failures, requests = recent(rig.state(0), 10.0, rig.clock())
        assert (failures, requests) == (min(second + 1, 10) * 2, min(second + 1, 10) * 3)
        assert len(rig.state(0).notes) <= 10
        rig.clock.advance(1.0)
    rig.clock.advance(20)
    assert recent(rig.state(0), 10.0, rig.clock()) == (0, 0)


def test_too_large_a_share_is_ejected_with_its_numbers() -> None:
    """Half of twenty fail, never five in a row, its peers are well: the twentieth request decides."""
    rig = Rig(4)
    for number in (1, 2, 3):
        serve(rig, number, 30, 0)
    serve(rig, 0, 10, 9)
    assert rig.told(Ejected) == []
    rig.fail(0)
    (event,) = rig.told(Ejected)
    assert (event.endpoint, event.rule, event.failures, event.requests) == ("10.0.0.0:80", SHARE, 10, 20)
    assert event.bound == pytest.approx(0.2993, abs=1e-4)
    assert (event.median, event.times, event.observed) == (0.0, 1, False)
    assert event.reason == (
        "10 of 20 requests failed within 10 s, 29.9% at the least, and 0.0% is the median of its peers"
    )
    assert rig.balancer.view()[0].reasons == (event.reason,)
    assert rig.picks(100)["10.0.0.0"] == 0


@pytest.mark.parametrize(
    ("good", "bad", "why"),
    [(10, 9, "nineteen requests are too few"), (14, 6, "six of twenty may be chance"), (60, 20, "a quarter of eighty")],
)
def test_what_may_be_chance_is_not_ejected(good: int, bad: int, why: str) -> None:
    """Fewer than twenty requests, or a bound of 0.2 at most."""
    rig = Rig(4)
    serve(rig, 0, good, bad)
    assert phases(rig) == ["active"] * 4, why


@pytest.mark.parametrize("outcome", [CANCELLED, busy(), Outcome(reason="404")])
def test_what_is_no_failure_is_no_part_of_the_share(outcome: Outcome) -> None:
    """A 429 and a 404 are answers, a cancelled request is none."""
    rig = Rig(3)
    for _ in range(100):
        rig.lease(0).release(outcome)
    assert recent(rig.state(0), 10.0, rig.clock())[0] == 0
    assert phases(rig) == ["active"] * 3


def test_slow_trickles_are_not_judged() -> None:
    """Half of all requests fail, and there are fewer than twenty in ten seconds."""
    rig = Rig(3)
    for turn in range(60):
        (rig.fail if turn % 2 else rig.succeed)(0)
        rig.clock.advance(0.6)
    assert phases(rig) == ["active"] * 3


def test_a_body_that_breaks_counts() -> None:
    """Its headers were a success and its end a failure, whenever that comes."""
    rig = Rig(3)
    for _ in range(20):
        leases = [rig.lease(0) for _ in range(4)]
        for lease in leases:
            lease.observe(Outcome(open=True))
        rig.clock.advance(1.02)
        for lease in leases:
            lease.release(failed())
            rig.succeed(0)
    assert phases(rig)[0] == "ejected"
    assert rig.told(Ejected)[0].rule == SHARE


@pytest.mark.parametrize("bad", [0.25, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("count", [1, 2, 3, 6, 150])
def test_a_bad_deploy_ejects_nobody(count: int, bad: float) -> None:
    """All fail alike, a part of the time or always: within seconds nobody is away, and nobody is from then on."""
    rig = Rig(count, "random", slow_start=None)
    chance = random.Random(3)
    for turn in range(400 * count):
        rig.clock.advance(0.05 / count)
        rig.balancer.pick().release(failed() if chance.random() < bad else Outcome())
        if turn > 200 * count:
            assert rig.guards.ejector is not None
            assert rig.guards.ejector.away == []


@pytest.mark.parametrize("policy", ["random", "round_robin", "least_request", "peak_ewma"])
@pytest.mark.parametrize("count", [3, 5, 150])
def test_one_that_fails_half_the_time_is_found_in_any_set(policy: str, count: int) -> None:
    """Whatever the policy still sends there, the rule sees it, and nobody else is ejected."""
    rig = Rig(count, policy, slow_start=None)
    chance = random.Random(5)
    for _ in range(600 * count):
        rig.clock.advance(0.02 / count)
        lease = rig.balancer.pick()
        bad = lease.endpoint.ip == "10.0.0.0" and chance.random() < 0.5
        rig.clock.advance(0.001 / count)
        lease.release(failed() if bad else Outcome())
    assert {event.endpoint for event in rig.told(Ejected)} <= {"10.0.0.0:80"}
    if policy != "peak_ewma":  # which soon sends it too little to be judged by
        assert rig.told(Ejected)


def test_more_than_half_by_any_rule_bring_all_back() -> None:
    """Two of five are dead and ejected; a third that fails half the time makes it three: nobody's own fault."""
    rig = Rig(5)
    for number in (3, 4):
        serve(rig, number, 30, 0)
    rig.eject(0)
    rig.eject(1)
    assert phases(rig) == ["ejected", "ejected", "active", "active", "active"]
    serve(rig, 2, 10, 10)
    assert phases(rig) == ["active"] * 5
    assert [event.why for event in rig.told(Returned)] == ["correlated", "correlated"]
    (spared,) = rig.told(EjectionSpared)
    assert (spared.rule, spared.failures, spared.requests) == (SHARE, 10, 20)
    assert spared.reason == "3 of 5 fail alike, so 10.0.0.2:80 is not to blame"
    rig.clock.advance(1.0)
    serve(rig, 2, 10, 10)
    assert len(rig.told(EjectionSpared)) == 1  # said once a window


def test_those_ejected_for_their_share_count_as_failing_while_away() -> None:
    """Long after its window is empty: what brought it there has not been disproved."""
    rig = Rig(3)
    serve(rig, 1, 30, 0)
    serve(rig, 2, 30, 0)
    serve(rig, 0, 10, 10)
    assert phases(rig) == ["ejected", "active", "active"]
    rig.clock.advance(7.4)
    assert rig.state(0).consecutive < 5
    rig.state(0).notes = []
    rig.fail(1, 5)
    assert phases(rig) == ["active"] * 3
    assert rig.told(EjectionSpared)[0].reason.startswith("2 of 3 fail alike")


def test_peers_that_are_half_as_bad_are_an_excuse() -> None:
    """Twice the median is no outlier; and no event says anything, for no rule is broken."""
    rig = Rig(4)
    for number in (1, 2, 3):
        serve(rig, number, 81, 19)
    serve(rig, 0, 55, 45)
    assert phases(rig) == ["active"] * 4
    assert rig.events == []
    only = Rig(4, outliers=OutlierDetection(peer_factor=0.0))
    for number in (1, 2, 3):
        serve(only, number, 81, 19)
    serve(only, 0, 55, 45)
    assert phases(only) == ["ejected", "active", "active", "active"]


def test_the_cap_and_the_last_one_hold_for_shares_too() -> None:
    """An event names which it was."""
    alone = Rig(1)
    serve(alone, 0, 15, 15)
    assert [event.reason for event in alone.told(EjectionSpared)] == ["it is the last endpoint"]
    rig = Rig(5)
    rig.eject(0)
    rig.eject(1)
    for number in (0, 1):
        rig.state(number).forget()
    for number in (3, 4):
        serve(rig, number, 30, 0)
    serve(rig, 2, 15, 15)
    assert [event.reason for event in rig.told(EjectionSpared)] == ["2 of 5 are away already"]


def test_the_way_back_begins_a_new_window() -> None:
    """After its probe an endpoint is judged by what it does from then on, and its next ejection is longer."""
    rig = Rig(4, outliers=OutlierDetection(jitter=0.0, base_ejection=2.0))
    for number in (1, 2, 3):
        serve(rig, number, 30, 0)
    serve(rig, 0, 10, 10)
    rig.clock.advance(2.0)
    probe = rig.balancer.pick()
    assert probe.endpoint.ip == "10.0.0.0"
    probe.release()
    assert rig.state(0).phase is Phase.ACTIVE
    rig.fail(0)
    assert rig.state(0).phase is Phase.ACTIVE
    serve(rig, 0, 10, 10)
    assert [(event.times, event.duration) for event in rig.told(Ejected)] == [(1, 2.0), (2, 4.0)]
    rig.clock.advance(4.0)
    rig.balancer.pick().release(failed())
    assert (rig.told(Ejected)[-1].reason, rig.told(Ejected)[-1].rule) == ("its probe failed", SHARE)


def test_without_the_rule_only_streaks_count() -> None:
    """failure_share=None."""
    rig = Rig(4, outliers=OutlierDetection(failure_share=None))
    serve(rig, 0, 50, 50)
    assert phases(rig) == ["active"] * 4
    rig.eject(0)
    assert phases(rig)[0] == "ejected"


def test_the_picture_of_a_large_set_is_kept_for_a_moment() -> None:
    """Of 150 endpoints it is taken anew after 7.5 ms, not for each failure."""
    rig = Rig(150)
    rig.fail(0, 5)
    ejector = rig.guards.ejector
    assert ejector is not None
    taken = ejector._peers
    rig.fail(1, 5)
    assert ejector._peers is taken
    rig.clock.advance(0.01)
    rig.fail(2, 5)
    assert ejector._peers is not taken
    assert ejector._peers.failing == 3


def test_a_judgement_that_comes_too_late_ejects_nobody() -> None:
    """Between the failure and the lock the endpoint left, or was ejected by another thread."""
    rig = Rig(4)
    ejector = rig.guards.ejector
    assert ejector is not None
    gone, away = rig.state(3), rig.state(0)
    rig.set(pods(3))
    rig.eject(0)
    for state in (gone, away):
        assert ejector.decide(state, rig.balancer.states(), rig.clock(), rig.clock()) == []
    assert ejector.succeeded(rig.state(1), rig.clock(), rig.clock()) == []


def history(rig: Rig, seed: int) -> list[str]:
    """Send requests of which those to two endpoints fail in their ways; return who got them."""
    chance = random.Random(seed)
    picked: list[str] = []
    flying: list[Any] = []
    for turn in range(3000):
        rig.clock.advance(0.02)
        lease = rig.balancer.pick()
        picked.append(lease.endpoint.ip)
        flying.append(lease)
        if len(flying) > 3:
            done = flying.pop(chance.randrange(3))
            ip = done.endpoint.ip
            bad = (ip == "10.0.0.0" and chance.random() < 0.6) or (ip == "10.0.0.1" and 500 < turn < 900)
            done.release(failed() if bad else Outcome())
        if turn == 1500:
            rig.set(pods(5)[1:])
        if turn == 1600:
            rig.set(pods(5))
    return picked


@pytest.mark.parametrize("policy", sorted(REGISTRY))
def test_an_observer_changes_nothing_but_the_reports(policy: str) -> None:
    """The same requests go to the same endpoints as without detection, and the events say what would have been."""
    without = Rig(5, policy, outliers=None)
    observed = Rig(5, policy, outliers=OutlierDetection(observe=True, base_ejection=3.0))
    assert history(observed, 1) == history(without, 1)
    ejected = observed.told(Ejected)
    assert {event.rule for event in ejected} >= {"consecutive-failures"}
    assert all(event.observed for event in observed.events if not isinstance(event, ShareBounded))
    assert observed.balancer._wake == without.balancer._wake
    enforced = Rig(5, policy, outliers=OutlierDetection(base_ejection=3.0))
    assert history(enforced, 1) != history(without, 1)


def test_an_observed_ejection_ends_with_the_first_request_after_it() -> None:
    """A success then is what a probe's would be; a failure would have ejected it for longer."""
    rig = Rig(3, outliers=OutlierDetection(observe=True))
    rig.eject(0)
    (view, *_) = rig.balancer.view()
    assert (view.state, view.ejection) == ("ready", None)
    assert view.reasons == ("observed: it would be ejected, 5 failures in a row",)
    assert rig.balancer.serves(rig.state(0))
    rig.succeed(0)
    rig.fail(0)
    assert [type(event) for event in rig.events] == [Ejected]
    rig.clock.advance(10.0)
    rig.fail(0)
    assert [(event.times, event.duration) for event in rig.told(Ejected)] == [(1, 10.0), (2, 20.0)]
    rig.set(pods(4))
    rig.clock.advance(30.0)
    rig.balancer.pick().release(None)  # a newcomer's slow start is over: time passes for all but the observed
    assert rig.state(0).phase is Phase.EJECTED
    rig.succeed(0)
    assert rig.told(Returned) == [Returned("svc.ns", "10.0.0.0:80", "probe", observed=True, pod="web-0")]
    assert rig.balancer.view()[0].reasons == ()
    rig.eject(0)
    rig.set(pods(3)[1:])
    rig.set(pods(3))
    assert {view.address: view.state for view in rig.balancer.view()}["10.0.0.0:80"] == "warming"
