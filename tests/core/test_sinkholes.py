"""A pod that refuses at once (404, 401) what its peers work for: it is not to draw more than its fair share.

The fault: by requests in flight it is always the emptiest, by latency always the quickest, and as a 4xx is an answer
nothing ejects it. Of two pods behind `least_request` it had nine requests of ten.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubelb.core import EndpointState
from kubelb.core.events import ShareBounded
from kubelb.core.health.fair_share import FairSharePicker
from kubelb.core.health.sinkholes import BURST, WINDOW, Contrast, Sinkhole, Sinkholes, best
from kubelb.core.members import Members
from kubelb.core.policies import LeastRequest, Needs, PeakEwma, Picker, Policy
from kubelb.model import ANY, CANCELLED, SUCCESS, Outcome, Request, Verdict

from .kit import Rig, busy, failed, pod, pods
from .queues import NOT_FOUND, SERVERS, WORK, Queues

Load = Callable[[Queues, int], Counter[int]]
"""Sends about so many requests; returns where they went."""
REQUESTS = 1500
"""Of a run: a pod's fair share is thirty of them at the least."""
FAIR = 1.25
"""Of its fair share, at the most: of fifty pods it has had ten requests more when they are told from chance."""


@dataclass(frozen=True, slots=True)
class DrawnLeast(LeastRequest):
    """Without the bound."""

    needs = Needs()  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class DrawnEwma(PeakEwma):
    """Without the bound."""

    needs = Needs()  # type: ignore[assignment]


def open_loop(utilisation: float) -> Load:
    return lambda queues, requests: queues.open(utilisation, requests / (utilisation * queues.count * SERVERS / WORK))


def closed_loop(workers: int) -> Load:
    return lambda queues, requests: queues.closed(workers, requests * WORK / min(workers, queues.count * SERVERS))


LOADS = {
    "open 0.2": open_loop(0.2),
    "open 0.7": open_loop(0.7),
    "open 0.95": open_loop(0.95),
    "closed 8": closed_loop(8),
    "closed 64": closed_loop(64),
}
SETS = [(2, 1), (3, 1), (3, 2), (10, 1), (10, 2), (50, 1), (50, 2)]


def bounds(queues: Queues) -> int:
    return len(queues.guards.sinkholes.bounded)


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize(("count", "broken"), SETS)
@pytest.mark.parametrize("policy", ["least_request", "peak_ewma"])
def test_a_pod_that_refuses_everything_has_its_fair_share(policy: str, count: int, broken: int, load: str) -> None:
    """At any load, in either loop, once that is no chance; and twice that with what it drew before, at the most."""
    queues = Queues(count, policy, lambda number, _: number < broken)
    before = LOADS[load](queues, REQUESTS // 3)
    picks = LOADS[load](queues, REQUESTS)
    for seen, most in ((picks, FAIR), (before + picks, 2.0)):
        assert 0.75 <= max(seen[number] for number in range(broken)) / seen.total() * count <= most
    assert bounds(queues) == broken


def test_without_the_bound_it_draws_nearly_everything() -> None:
    """The fault itself, so that the simulation shows what it is to show."""
    least = Queues(2, DrawnLeast(), lambda number, _: number < 1).open(0.7, 20)
    quickest = Queues(2, DrawnEwma(), lambda number, _: number < 1).open(0.7, 20)
    assert least[0] / least.total() > 0.8
    assert quickest[0] / quickest.total() > 0.9


ENDS = {"500": failed(reason="500"), "429": busy(), "odd": Outcome(Verdict.ODD, reason="ValueError")}


@pytest.mark.parametrize("how", ENDS)
def test_whatever_ends_at_once_and_ejects_nothing_is_bounded(how: str) -> None:
    """The kind: failures without ejection (switched off, the cap), a 429 that names no time, an unknown exception."""
    queues = Queues(4, "least_request", lambda number, _: number < 1, how=ENDS[how], outliers=None)
    picks = queues.open(0.5, 20)
    assert 0.75 <= picks[0] / picks.total() * 4 <= FAIR


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("count", [2, 3, 10, 50])
@pytest.mark.parametrize(("policy", "drawn"), [(LeastRequest(), DrawnLeast()), (PeakEwma(), DrawnEwma())])
def test_what_all_refuse_alike_changes_nothing(policy: Any, drawn: Any, count: int, share: float) -> None:
    """The caller's own mistake (all of them), or a cache that is asked for what may be missing (some): same picks."""
    runs = []
    for each in (policy, drawn):
        chance = random.Random(5)
        queues = Queues(count, each, lambda *_, chance=chance: chance.random() < share)
        runs.append(queues.closed(16, 0.1 if share == 1.0 else 3))
        assert not bounds(queues)
    assert runs[0] == runs[1]


@pytest.mark.parametrize("count", [2, 3, 10])
def test_a_mistake_that_begins_for_all_at_once_is_nobodys(count: int) -> None:
    """From one moment on everything is a 404, also on the pod that is the first to say so five times: same picks."""
    events: list[Any] = []
    policies = LeastRequest(), DrawnLeast()
    runs = [Queues(count, each, lambda _, now: now > 2, emit=events.append).open(0.7, 4) for each in policies]
    assert runs[0] == runs[1]
    assert events == []


@pytest.mark.parametrize("count", [2, 3, 10])
def test_a_mistake_is_nobodys_by_latency_either(count: int) -> None:
    """There a peer may have had nothing for a while, and be taken for what it was: for a second or two, evenly."""
    events: list[Any] = []
    queues = Queues(count, "peak_ewma", lambda _, now: now > 2, emit=events.append)
    queues.open(0.7, 6)
    assert sum(event.over for event in events) <= 2
    assert not bounds(queues)


@pytest.mark.parametrize("policy", ["least_request", "peak_ewma"])
@pytest.mark.parametrize("count", [2, 3, 10])
def test_a_pod_that_is_well_again_has_its_share_within_seconds(policy: str, count: int) -> None:
    """And is bounded no longer, as the log says."""
    events: list[Any] = []
    queues = Queues(count, policy, lambda number, now: number < 1 and now < 5, emit=events.append)
    queues.open(0.7, 5)
    assert bounds(queues) == 1
    queues.open(0.7, 3)
    picks = queues.open(0.7, 6)
    assert 0.8 <= picks[0] / picks.total() * count <= 1.2
    assert bounds(queues) == 0
    assert [event.over for event in events] == [True, False]


def test_a_quick_pod_that_is_like_the_others_keeps_more_than_its_share() -> None:
    """A third of all requests is refused on each of three pods, one of which is twice as quick: it is no sinkhole."""
    chance = random.Random(2)
    queues = Queues(
        3,
        "least_request",
        lambda *_: chance.random() < 1 / 3,
        works=lambda number: WORK / 2 if number == 0 else WORK,
    )
    picks = queues.closed(24, 10)
    assert picks[0] / picks.total() * 3 > 1.3
    assert not bounds(queues)


def test_a_pod_that_refuses_most_beside_peers_that_refuse_some() -> None:
    """Nine of ten on one, three of ten on the others, which is legitimate: bounded all the same."""
    chance = random.Random(3)
    queues = Queues(4, "least_request", lambda number, _: chance.random() < (0.3 if number else 0.9))
    picks = queues.open(0.7, 30)
    assert 0.75 <= picks[0] / picks.total() * 4 <= FAIR


@pytest.mark.parametrize("policy", ["round_robin", "random", "weighted_round_robin", "ring_hash"])
def test_policies_that_do_not_go_by_load_hear_nothing(policy: str) -> None:
    """A ring's keys stay where they are, a weight is what it was."""
    rig = Rig(4, policy)
    before = [rig.balancer.pick(Request(key=str(number))).endpoint.ip for number in range(50)]
    for _ in range(300):
        lease = rig.balancer.pick(Request(key="0"))
        lease.release(NOT_FOUND if lease.endpoint.ip == pod(0).ip else SUCCESS)
    assert not rig.told(ShareBounded)
    after = [rig.balancer.pick(Request(key=str(number))).endpoint.ip for number in range(50)]
    assert before == after or policy != "ring_hash"


# Where it begins and ends


def refuse(rig: Rig, number: int, times: int) -> None:
    for _ in range(times):
        rig.lease(number).release(NOT_FOUND)


def sinkhole(count: int = 3, **options: Any) -> Rig:
    """A set whose first pod refuses what the others answer."""
    rig = Rig(count, **options)
    refuse(rig, 0, 1)
    for _ in range(100):
        for number in range(1, count):
            rig.succeed(number)
    refuse(rig, 0, 4)
    return rig


def test_five_refusals_beside_a_hundred_answers_are_enough() -> None:
    """And are said once, with the numbers; four are not."""
    rig = sinkhole()
    refuse(rig, 0, 20)
    (event,) = rig.told(ShareBounded)
    assert (event.endpoint, event.over) == ("10.0.0.0:80", True)
    assert event.reason == "5 of 5 requests were refused or failed, and at most 3.7% of those to its best peer"
    view = rig.balancer.view()[0]
    assert view.state == "ready"
    assert view.reasons == (f"bounded to its fair share: {event.reason}",)


def test_peers_that_have_answered_nothing_since_are_no_witnesses() -> None:
    """A set that has been idle, one endpoint alone, calls that were cancelled: nothing to compare with."""
    rig = Rig(3)
    refuse(rig, 0, 300)
    for number in (1, 2):
        rig.lease(number).release(CANCELLED)
        rig.fail(number)
    refuse(rig, 0, 300)
    alone = Rig(1)
    refuse(alone, 0, 300)
    assert not rig.told(ShareBounded) + alone.told(ShareBounded)


def test_a_comparison_that_finds_nothing_begins_anew() -> None:
    """Or what was good for an hour would hide what is bad now."""
    rig = Rig(2)
    refuse(rig, 0, 1)
    for _ in range(2 * WINDOW):
        rig.succeed(0)
        rig.succeed(1)
    refuse(rig, 0, 4)
    assert rig.state(0).contrast.bad == 0
    rig.clock.advance(1)
    refuse(rig, 0, 5)
    assert rig.state(0).contrast is None
    refuse(rig, 0, 1)
    assert rig.state(0).contrast.bad == 10


def test_peers_that_get_nothing_are_taken_for_what_they_were() -> None:
    """By latency everything goes to the one that refuses; so the others' last ends count, as soon as these are late."""
    rig = Rig(3)
    for number in (1, 2):
        for _ in range(30):
            rig.succeed(number)
    refuse(rig, 0, 45)
    assert not rig.told(ShareBounded)
    refuse(rig, 0, 5)
    assert rig.told(ShareBounded)
    late = Rig(3)
    for number in (1, 2):
        for _ in range(30):
            lease = late.lease(number)
            late.clock.advance(0.1)
            lease.release()
    refuse(late, 0, 100)
    assert not late.told(ShareBounded)
    late.clock.advance(0.2)
    refuse(late, 0, 50)
    assert late.told(ShareBounded)


def test_what_was_under_way_on_a_peer_says_nothing() -> None:
    """It was picked before whatever has begun, and a refusal overtakes it: ten good ends of ten that were in flight."""
    rig = Rig(2)
    leases = [rig.lease(1) for _ in range(10)]
    refuse(rig, 0, 4)
    for lease in leases:
        lease.release()
    refuse(rig, 0, 26)
    assert not rig.told(ShareBounded)


def test_a_little_more_than_the_peers_is_let_alone() -> None:
    """One of ten and none of ten: no chance after a thousand, and no draw to speak of."""
    rig = Rig(2)
    for _ in range(100):
        refuse(rig, 0, 1)
        for _ in range(9):
            rig.succeed(0)
            rig.succeed(1)
    assert not rig.told(ShareBounded)


def test_peers_that_left_are_compared_with_no_more() -> None:
    """After a restart of all others the comparison is one with those that there are."""
    rig = Rig(2)
    refuse(rig, 0, 1)
    rig.set((pod(0), pod(1, generation=1)))
    refuse(rig, 0, 4)
    assert rig.state(0).contrast is None
    refuse(rig, 0, 1)
    assert [peer for peer, _, _ in rig.state(0).contrast.peers] == [rig.state(1)]


def test_what_left_the_set_is_forgotten() -> None:
    """Removed, parked or back in use: it begins anew, and a refusal that comes late says nothing."""
    rig = sinkhole()
    old = rig.state(0)
    late = rig.lease(0)
    rig.set(pods(3)[1:])
    assert not rig.guards.sinkholes.bounded
    late.release(NOT_FOUND)
    assert old.contrast is None
    rig = sinkhole(slow_start=None)
    rig.set(pods(3)[1:], (pod(0),))
    rig.set(pods(3))
    assert not rig.guards.sinkholes.bounded
    assert rig.picks(300)["10.0.0.0"] > 50


def test_an_update_that_an_interrupt_cut_short_is_survived() -> None:
    """The state has forgotten its past, and the table of those that are bounded has not heard of it."""
    rig = sinkhole()
    rig.state(0).forget()
    rig.clock.advance(2)
    rig.picks(1)
    assert not rig.guards.sinkholes.bounded


def test_two_threads_that_see_the_same_refusals_bound_it_once() -> None:
    """Both have found it too much; the second finds it bounded, a third one finds it gone."""
    rig = sinkhole()
    sinkholes = rig.guards.sinkholes
    assert sinkholes.begin(rig.state(0), rig.clock()) == []
    gone = rig.state(1)
    rig.set((pod(0), pod(2)))
    assert sinkholes.begin(gone, rig.clock()) == []
    assert list(sinkholes.bounded) == [rig.state(0)]


def test_a_bound_is_looked_at_once_a_second_and_lifted_on_evidence() -> None:
    """Nine answers are none; ten are, and it is said."""
    rig = sinkhole()
    assert rig.balancer._wake == rig.clock() + 1
    for _ in range(9):
        rig.succeed(0)
    rig.clock.advance(1)
    rig.picks(1)
    assert len(rig.told(ShareBounded)) == 1
    rig.succeed(0)
    rig.picks(1)
    assert len(rig.told(ShareBounded)) == 1
    rig.clock.advance(1)
    rig.picks(1)
    assert [event.over for event in rig.told(ShareBounded)] == [True, False]
    assert rig.balancer._wake == float("inf")


def test_a_bound_is_lifted_where_all_have_come_to_refuse() -> None:
    """Its peers answer no longer: there is nothing to prefer them for."""
    rig = sinkhole()
    for number in (0, 1, 2):
        refuse(rig, number, 40)
    rig.clock.advance(1)
    rig.picks(1)
    assert rig.told(ShareBounded)[-1].endpoint == "10.0.0.0:80"
    assert not rig.told(ShareBounded)[-1].over


def test_a_bound_is_lifted_where_it_gets_little_itself_and_its_peers_refuse() -> None:
    """One refusal of its own says nothing, ten of the only peer do."""
    rig = sinkhole(2)
    refuse(rig, 0, 1)
    refuse(rig, 1, 9)
    rig.clock.advance(1)
    rig.balancer.pick().release(None)
    assert [event.over for event in rig.told(ShareBounded)] == [True]
    refuse(rig, 1, 1)
    rig.clock.advance(1)
    rig.balancer.pick().release(None)
    assert [event.over for event in rig.told(ShareBounded)] == [True, False]


def test_of_two_that_are_bounded_the_one_that_is_well_again_is_let_go() -> None:
    """The other keeps its bound, and its comparison goes on."""
    rig = sinkhole(4)
    refuse(rig, 1, 1)
    for _ in range(100):
        rig.succeed(2)
    refuse(rig, 1, 99)
    assert len(rig.guards.sinkholes.bounded) == 2
    for _ in range(50):
        rig.succeed(0)
        rig.succeed(2)
        rig.succeed(3)
        refuse(rig, 1, 1)
    rig.clock.advance(1)
    rig.picks(1)
    assert list(rig.guards.sinkholes.bounded) == [rig.state(1)]


def test_one_that_is_away_is_not_bounded_beside_that() -> None:
    """Five failures in a row eject it, and that is enough said."""
    rig = Rig(3)
    rig.fail(0)
    for _ in range(100):
        rig.succeed(1)
        rig.succeed(2)
    rig.fail(0, 10)
    assert not rig.told(ShareBounded)
    assert rig.picks(30)["10.0.0.0"] == 0


def test_where_only_bounded_ones_are_left_they_serve() -> None:
    """The one peer that answers is ejected: what refuses is better than nothing."""
    rig = sinkhole(2)
    rig.eject(1)
    assert rig.picks(30) == {"10.0.0.0": 30, "10.0.0.1": 0}


def test_a_newcomer_is_not_flooded_by_what_a_bounded_one_may_not_have() -> None:
    """What is diverted goes to the others as they are: one of them is in its slow start."""
    rig = sinkhole(3)
    rig.set(pods(4))
    busy = [rig.lease(number) for number in (1, 2) for _ in range(3)]
    picks = rig.picks(4000)
    assert picks["10.0.0.0"] <= 1000 + BURST
    assert picks["10.0.0.3"] < 600
    assert len(busy) == 6


def test_a_policy_of_ones_own_that_goes_by_load_says_so() -> None:
    """Its needs say so, then it bounds; and its own search for a second try is still the one that is used."""
    asked: list[int] = []

    class Emptiest(Policy):
        needs = Needs(by_load=True)  # type: ignore[assignment]

        def build(self, members: Members, rng: random.Random, before: Picker | None = None) -> Picker:
            return self.Picker(members.states)

        class Picker(Picker):
            def pick(self, request: Request, now: float) -> EndpointState:
                return min(self.states, key=lambda state: state.in_flight)

            def other(self, request: Request, now: float, fits: Callable[[EndpointState], bool]) -> Any:
                asked.append(1)
                return next(filter(fits, self.states), None)

    rig = sinkhole(3, policy=Emptiest())
    assert rig.picks(300)["10.0.0.0"] == 100
    rig.balancer.pick(ANY, (rig.state(0),)).release()
    assert asked


# Laws


@given(
    st.integers(2, 20),
    st.lists(st.booleans(), max_size=400),
)
def test_a_bounded_endpoint_never_has_more_than_its_share(count: int, chosen: list[bool]) -> None:
    """Of any stretch of picks it gets one in `count`, and what it may have saved up; of the first ones nothing more.

    Where it is always wanted it gets no less, either.
    """
    rig = Rig(2)
    bounded, other = rig.balancer.states()
    wanted = iter(chosen)

    class Inner(Picker):
        def pick(self, request: Request, now: float) -> EndpointState:
            return bounded if next(wanted) else other

    class Others(Picker):
        def pick(self, request: Request, now: float) -> EndpointState:
            return other

    picker = FairSharePicker(
        Inner(), Others(), [Sinkhole(bounded, 0, "", Contrast(0.0, 0, 0, ()))], Sinkholes("svc"), count
    )
    got = [picker.pick(ANY, 0.0) is bounded for _ in chosen]
    assert sum(got) <= len(got) / count
    for start in range(0, len(got), 7):
        assert sum(got[start:]) <= (len(got) - start) / count + BURST
    if all(chosen):
        assert sum(got) > len(got) / count - 1.001


Ends = st.tuples(st.integers(0, 300), st.integers(0, 300))


@given(Ends, st.lists(Ends, max_size=8))
def test_what_refuses_no_larger_a_share_than_its_peers_is_never_bounded(own: tuple[int, int], peers: list[Any]) -> None:
    """Whatever the numbers; and the best peer is never thought better than it was."""
    good, bad = own
    rig = Rig(len(peers) + 1)
    states = rig.balancer.states()
    for state, (well, ill) in zip(states, [own, *peers], strict=True):
        state.successes, state.refusals = well + ill, ill
    state = states[0]
    state.contrast = Contrast(0.0, 0, 0, tuple((peer, 0, 0) for peer in states[1:]))
    shares = [ill / (well + ill) for well, ill in peers if well]
    assert best(state.contrast, good + bad, 0.0) >= min(shares, default=1.0) - 1e-9
    if good + bad and bad / (good + bad) <= min(shares, default=1.0):
        assert not rig.guards.sinkholes.refuses(state, 0.0)
