"""Silence: a deadline that ended without an answer, and when that is the endpoint's fault."""

import random
from itertools import pairwise
from typing import Any

import pytest

import kubelb
from kubelb.core import EndpointState
from kubelb.core.events import Ejected, EjectionSpared
from kubelb.core.health.silence import PEERS, chance, compare_with, improbable, meaning, note_fault, usual
from kubelb.core.tracking import Tracker
from kubelb.model import CANCELLED, Outcome, Sent, Verdict

from .kit import Rig, ended, failed, pod, pods


def silence(overdue: float | None = 0.0) -> Outcome:
    return Outcome(Verdict.SILENT, sent=Sent.MAYBE, overdue=overdue, reason="timeout")


def hush(rig: Rig, number: int, waited: float = 0.3, **said: Any) -> None:
    """One call on this endpoint ends in silence, while no time passes for the others."""
    lease = rig.lease(number)
    lease.start -= waited
    lease.release(silence(**said))


def turns(rig: Rig, count: int, silent: tuple[int, ...] = (0,), of: int = 3) -> None:
    """So many rounds: one call on each endpoint, these in silence."""
    for _ in range(count):
        for number in range(of):
            hush(rig, number) if number in silent else rig.succeed(number)


def states(rig: Rig) -> str:
    return " ".join(state.phase.value for state in rig.balancer.states())


def until_ejected(rig: Rig, most: int, between: Any = lambda: None) -> int:
    """Let the first endpoint be silent until it is ejected; returns how often that was, `most` + 1 for never."""
    for times in range(1, most + 1):
        hush(rig, 0)
        if rig.told(Ejected):
            return times
        between()
    return most + 1


# What counts


@pytest.mark.parametrize(
    ("waited", "overdue", "counts"),
    [
        (0.3, None, Verdict.FAILED),
        (0.3, 0.0, Verdict.FAILED),
        (0.3, -0.005, Verdict.FAILED),
        (0.3, -0.02, Verdict.CANCELLED),  # before its time: the endpoint's own word
        (0.4, 0.1, Verdict.FAILED),
        (0.5, 0.2, Verdict.NEUTRAL),  # our timer was away
        (12.0, 2.0, Verdict.FAILED),
        (13.0, 3.0, Verdict.NEUTRAL),
        (0.0005, None, Verdict.CANCELLED),  # it had no chance
    ],
)
def test_what_a_silence_counts_as(waited: float, overdue: float | None, counts: Verdict) -> None:
    """A failure, but where it was cut short, said by the endpoint, or noticed so late that it was our own stall."""
    assert meaning(waited, overdue) is counts


def test_a_silence_is_a_failure_that_costs_what_it_took() -> None:
    """It counts and lengthens the streak; peak EWMA takes the wait for a lower bound of latency, and no penalty."""
    rig = Rig(3)
    ended(rig, 0.1, Outcome())
    ended(rig, 0.3, silence())
    state = rig.state(0)
    assert (state.failures, state.faults, state.consecutive, state.silent, state.others) == (1, 1, 1, 1, 0)
    assert state.cost == pytest.approx(0.3)
    assert not state.charge


def test_a_silence_is_no_first_sample() -> None:
    """Of an endpoint that never answered a lower bound would make the best of all: it is charged like any failure."""
    rig = Rig(3)
    ended(rig, 0.3, silence())
    assert (rig.state(0).charge, rig.state(0).failures) == (5.0, 1)
    rig = Rig(3)
    ended(rig, 0.3, silence(overdue=-0.1))
    assert (rig.state(0).cost, rig.state(0).charge, rig.state(0).others) == (0.0, 0.0, 1)


def test_our_own_stall_says_nothing_at_all() -> None:
    """Nobody is blamed, and no latency is learnt from it."""
    rig = Rig(3)
    ended(rig, 0.1, Outcome())
    ended(rig, 2.0, silence(overdue=1.7))
    state = rig.state(0)
    assert (state.failures, state.consecutive, state.others) == (0, 0, 1)
    assert state.cost == pytest.approx(0.1)


def test_what_the_endpoint_said_itself_is_time_spent() -> None:
    """A status of its own before the deadline, or the caller's own cancel: neutral, and it took at least so long."""
    for outcome in (silence(overdue=-1.0), CANCELLED):
        rig = Rig(3)
        ended(rig, 0.1, Outcome())
        ended(rig, 0.5, outcome)
        state = rig.state(0)
        assert (state.failures, state.consecutive, state.others) == (0, 0, 1)
        assert state.cost == pytest.approx(0.5)


def test_where_nobody_is_ejected_nothing_is_remembered() -> None:
    """Without outlier detection a silence is counted, and no more."""
    rig = Rig(3, outliers=None)
    turns(rig, 50)
    assert rig.state(0).failures == 50
    assert rig.state(0).recent_calls == (0.0, 0.0, 0)
    assert rig.state(0).comparison is None


# Streaks


def test_five_silences_in_a_row_while_the_peers_answer() -> None:
    """The kind: a pod that hangs. With two peers that answer, the fifth silence ejects, and says so."""
    rig = Rig(3)
    turns(rig, 10, silent=())
    turns(rig, 4)
    assert states(rig) == "active active active"
    turns(rig, 1)
    assert states(rig) == "ejected active active"
    (event,) = rig.told(Ejected)
    assert event.reason == "5 failures in a row, 5 of them without an answer"


@pytest.mark.parametrize("size", [2, 3, 10, 100])
def test_a_pod_that_hangs_is_found_within_ten_calls(size: int) -> None:
    """Of any set, also where nothing was known before."""
    rig = Rig(size)

    def peers() -> None:
        for number in range(1, size):
            rig.succeed(number)

    assert until_ejected(rig, 20, peers) <= 7


def test_peers_without_calls_let_nine_suffice() -> None:
    """One key of a ring: nothing is known of the others, and trying one of them is better than a tenth silence."""
    rig = Rig(3)
    for _ in range(50):
        rig.succeed(0)
    assert until_ejected(rig, 20) == 9


def test_a_deadline_too_short_for_half_of_the_calls() -> None:
    """Streaks of five come to everybody then; a pod that hangs among such peers takes about twenty."""
    rig, rng = Rig(3), random.Random(5)

    def half(number: int) -> None:
        hush(rig, number) if rng.random() < 0.5 else rig.succeed(number)

    for _ in range(3000):
        for number in range(3):
            half(number)
    assert not rig.told(Ejected)
    assert 15 <= until_ejected(rig, 60, lambda: (half(1), half(2))) <= 35


def test_all_become_silent_at_the_same_moment() -> None:
    """An overloaded service: however well it did before, nobody is ejected, not even for a moment."""
    rig = Rig(3)
    turns(rig, 100, silent=())
    turns(rig, 50, silent=(0, 1, 2))
    assert not rig.told(Ejected)


def test_more_than_half_are_silent() -> None:
    """Correlated: two of three hang, and stay."""
    rig = Rig(3)
    turns(rig, 100, silent=())
    turns(rig, 40, silent=(0, 1))
    assert states(rig) == "active active active"


def test_the_last_endpoint_stays_and_that_is_said_once_a_window() -> None:
    """Silence of the only one is reported, and not with every call."""
    rig = Rig(1)
    for _ in range(30):
        hush(rig, 0)
    assert [event.reason for event in rig.told(EjectionSpared)] == ["it is the last endpoint"]
    rig.clock.advance(11)
    for _ in range(5):
        hush(rig, 0)
    assert len(rig.told(EjectionSpared)) == 2


def test_a_success_ends_the_streak_and_the_next_one_has_a_jury_of_its_own() -> None:
    """What the peers did during an earlier streak is no evidence in this one."""
    rig = Rig(3)
    turns(rig, 4)
    first = rig.state(0).comparison
    rig.succeed(0)
    hush(rig, 0)
    assert rig.state(0).silent == 1
    assert rig.state(0).comparison is not first


def test_loud_failures_count_as_ever() -> None:
    """Five errors in a row eject without a look at the peers, silences among them or not."""
    rig = Rig(3)
    rig.fail(0, 4)
    hush(rig, 0)
    assert not rig.told(Ejected)
    rig.fail(0)
    assert len(rig.told(Ejected)) == 1


def test_a_silent_probe_has_failed() -> None:
    """The ejection doubles."""
    rig = Rig(3)
    turns(rig, 10, silent=())
    turns(rig, 5)
    rig.clock.advance(13)
    lease = rig.balancer.pick()
    assert lease.endpoint.ip == pod(0).ip
    rig.clock.advance(0.3)
    lease.release(silence())
    assert [event.times for event in rig.told(Ejected)] == [1, 2]


def test_one_that_is_not_in_use_is_not_judged() -> None:
    """A parked endpoint's calls go on, and their silence is its own affair."""
    rig = Rig(0)
    rig.set(pods(3)[1:], parked=pods(3)[:1])
    assert until_ejected(rig, 20) == 21
    assert rig.state(0).comparison is None


def test_without_the_share_rule_a_streak_is_judged_again() -> None:
    """What was spared as correlated is ejected when its peers are well again."""
    rig = Rig(3, outliers=kubelb.OutlierDetection(failure_share=None))
    turns(rig, 100, silent=())
    turns(rig, 40, silent=(0, 1))
    assert rig.told(EjectionSpared)
    assert not rig.told(Ejected)
    turns(rig, 60)
    assert states(rig) == "ejected active active"


# Shares


def test_a_pod_that_is_silent_now_and_then() -> None:
    """Every second call, while its peers always answer: no streak, but a share that is no chance."""
    rig = Rig(3)
    for _ in range(30):
        turns(rig, 1)
        turns(rig, 1, silent=())
        rig.clock.advance(0.1)
    (event,) = rig.told(Ejected)
    assert event.rule == "failure-share"


def test_a_share_of_silences_that_may_be_chance() -> None:
    """Nine of twenty where the peers have three: too many for an error, by the 95 % rule, not for a deadline."""
    for outcome, ejected in ((silence(), 0), (failed(), 1)):
        rig = Rig(3)
        for number, bad in ((1, 3), (2, 3), (0, 11)):
            for call in range(20):
                lease = rig.lease(number)
                lease.start -= 0.3
                lease.release(outcome if (call * bad) % 20 < bad else Outcome())
            rig.clock.advance(1.1)
        assert len(rig.told(Ejected)) == ejected


def test_the_chance_of_a_share() -> None:
    """The Chernoff bound: for all of them it is the share to that power, for less than usual it is 1."""
    assert chance(5, 5, 0.1) == pytest.approx(1e-5)
    assert chance(1, 20, 0.1) == 1.0
    assert chance(21, 20, 0.1) == pytest.approx(1e-20)  # two counters of threads, not read in the same moment
    assert 1e-6 < chance(10, 20, 0.1) < 1e-3


# The comparison


def alone(count: int) -> list[EndpointState]:
    """Return states of no balancer."""
    return [EndpointState(endpoint, Tracker(lambda: 0.0, 10.0, 5.0)) for endpoint in pods(count)]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 8, 9, 10, 1000])
def test_a_jury_is_small_and_spread_and_without_the_accused(count: int) -> None:
    """Eight at most, each once, all over the set, others at the next streak."""
    peers = alone(count)
    accused = peers[0] if peers else alone(1)[0]
    members = [member for member, _, _ in compare_with(accused, peers).members]
    assert accused not in members
    assert len(set(members)) == len(members)
    assert len(members) == max(0, min(count - 1, PEERS))
    if count == 1000:
        places = sorted(peers.index(member) for member in members)
        assert max(b - a for a, b in pairwise(places)) < 200
        note_fault(accused)
        accused.faults += 1
        assert set(members).isdisjoint(member for member, _, _ in compare_with(accused, peers).members)


def test_about_a_hundred_calls_are_remembered() -> None:
    """A failure of a thousand calls ago is forgotten, and successes are counted by nobody."""
    one, other = alone(2)
    assert usual(one, [one, other]) == pytest.approx(0.2)
    other.failures = 1
    note_fault(other)
    assert usual(one, [one, other]) == pytest.approx(1.4 / 3)
    other.successes = 1000
    assert usual(one, [one, other]) == pytest.approx(0.4 / 102, rel=0.01)


def test_what_has_left_is_forgotten() -> None:
    """An endpoint that comes back begins anew; one that is gone keeps no peers alive, which may be gone as well."""
    rig = Rig(3)
    turns(rig, 3)
    assert rig.state(0).recent_calls[0] == pytest.approx(3, rel=0.1)
    assert rig.state(0).comparison
    gone = rig.state(0)
    rig.set(pods(3)[1:], parked=pods(3)[:1])
    rig.set(pods(3))
    assert gone is rig.state(0)
    assert gone.recent_calls == (0.0, 0.0, 3)
    turns(rig, 3)
    rig.set(pods(3)[1:])
    assert gone.removed
    assert gone.comparison is None


def test_counters_that_lost_an_increment_are_no_evidence() -> None:
    """Under threads a counter may go back by one: the odds stay in range."""
    one, other = alone(2)
    other.successes = 5
    comparison = compare_with(one, [one, other])
    other.successes = 3
    assert not improbable(comparison, 5)
    assert improbable(comparison, 9)


# Circuits: each by itself


def test_a_circuit_takes_every_silence_for_a_failure() -> None:
    """It knows no peers: where all deadlines end it opens; our own stall and an answer before its time do not count."""
    breaker = kubelb.CircuitBreaker(minimum_calls=4, per_endpoint=False)
    rig = Rig(1, outliers=None, breaker=breaker)
    for _ in range(10):
        hush(rig, 0, waited=3.0, overdue=2.5)
        hush(rig, 0, overdue=-0.1)
    assert rig.balancer.circuit == "closed"
    for _ in range(4):
        hush(rig, 0)
    assert rig.balancer.circuit == "open"
