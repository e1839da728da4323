"""Rests: what an endpoint that is full asks for, and what a caller's own limit is not.

The kind of fault: load taken for failure, or one caller's limit for an endpoint's; and a hint that is waited for while
others have room.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from kubelb.core.flow import attempt_flow
from kubelb.core.health.limits import ConcurrencyLimits
from kubelb.core.health.outliers import OutlierDetection
from kubelb.core.health.rests import CLAIMS, MOST
from kubelb.core.policies import Picker, Policy
from kubelb.core.retry import Retry
from kubelb.core.state import Phase
from kubelb.core.steps import Send
from kubelb.errors import Unusable
from kubelb.model import BAD_ANSWER, IDEMPOTENT, Outcome, Verdict
from kubelb.runtime.driving import settle

from .kit import Rig, busy, failed, pods

POLICIES = ("peak_ewma", "least_request", "round_robin", "random")


def full(seconds: float) -> Outcome:
    return Outcome(Verdict.FULL, retryable=True, retry_after=seconds, reason="503")


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("ends", [busy, full])
def test_an_endpoint_that_is_full_is_left_alone_for_its_time(policy: str, ends: type) -> None:
    """Under every policy: not one request for as long as it said, and its share again after that."""
    rig = Rig(3, policy)
    rig.lease(0).release(ends(8.0))
    ip = rig.lease(0).endpoint.ip
    rig.clock.advance(7.9)
    assert rig.picks(60)[ip] == 0
    assert [each.state for each in rig.balancer.view()].count("resting") == 1
    rig.clock.advance(0.2)
    assert rig.picks(60)[ip] > 0
    assert [each.state for each in rig.balancer.view()].count("resting") == 0


def test_a_rest_is_bounded() -> None:
    """A server's word is believed for half a minute."""
    rig = Rig(3)
    rig.lease(0).release(full(86_400.0))
    rig.clock.advance(MOST - 0.1)
    assert min(rig.picks(30).values()) == 0
    rig.clock.advance(0.2)
    assert min(rig.picks(30).values()) > 0


@pytest.mark.parametrize("ends", [busy, full])
def test_load_is_no_failure(ends: type) -> None:
    """However often it is full, it is not ejected, and no failure is counted in a row."""
    rig = Rig(3)
    for _ in range(50):
        rig.lease(0).release(ends(1.0))
    assert {state.phase.value for state in rig.balancer.states()} == {"active"}
    assert {state.consecutive for state in rig.balancer.states()} == {0}
    assert rig.events[1:] == []


def test_where_all_are_full_most_are_asked_all_the_same() -> None:
    """A request is refused by the service itself, not by kubelb; and a call knows that none has room."""
    rig = Rig(3)
    for number in range(3):
        rig.lease(number).release(full(5.0 + number))
    assert sorted(count > 0 for count in rig.picks(60).values()) == [False, True, True]
    assert not rig.balancer.has_room_beside(())
    rig.clock.advance(5.5)
    assert rig.balancer.has_room_beside(())
    assert min(rig.picks(60).values()) > 0


@pytest.mark.parametrize(("count", "most"), [(1, 0), (2, 1), (3, 1), (10, 5), (150, 75)])
def test_at_most_half_rest(count: int, most: int) -> None:
    """Rests without an allowance: nine POSTs of one caller sent the traffic of all to the tenth pod."""
    rig = Rig(count)
    for number in range(count - 1 or 1):
        rig.lease(number).release(busy(30.0))
    rig.clock.advance(0.06)
    assert sum(not picked for picked in rig.picks(count * 30).values()) == most
    assert [view.state for view in rig.balancer.view()].count("resting") == most


def test_at_most_half_of_those_left_rest() -> None:
    """Rests of a set that shrinks, or of which some are ejected: one was left to do the work of three, or of five."""
    rig = Rig(6)
    for number in range(3):
        rig.lease(number).release(full(20.0 + number))
    rig.eject(3)
    rig.eject(4)
    assert [view.state for view in rig.balancer.view()] == ["ready", "resting", "resting", *["ejected"] * 2, "ready"]
    rig.set(pods(3))
    assert [view.state for view in rig.balancer.view()] == ["ready", "ready", "resting"]


@pytest.mark.parametrize("policy", [*POLICIES, "ring_hash"])
def test_one_that_rests_is_tried_before_one_is_tried_again(policy: str) -> None:
    """A preference taken for "all there are": all tries of a call went to the one that refused."""
    rig = Rig(2, policy)
    a, b = rig.state(0), rig.state(1)
    rig.lease(0).release(full(30.0))
    assert rig.picks(30)[a.endpoint.ip] == 0
    assert rig.balancer.has_other_than([b])
    assert rig.balancer.pick(avoid=[b]).state is a
    assert rig.balancer.pick(avoid=[a, b]).state is b
    assert not rig.balancer.has_room_beside([b])


@pytest.mark.parametrize("policy", [*POLICIES, "ring_hash"])
def test_one_that_rests_is_better_than_none(policy: str) -> None:
    """A caller with a connection to that one alone was told that it has none."""
    rig = Rig(2, policy)
    a = rig.state(0)
    rig.lease(0).release(full(30.0))
    for _ in range(20):
        assert rig.balancer.pick(usable=lambda state: state is a).state is a


def test_those_awake_are_preferred_at_random_too() -> None:
    """A policy that fails costs no rest."""

    class Broken(Policy, Picker):
        def build(self, members: Any, rng: Any, before: Any = None) -> Any:
            return self

        def pick(self, request: Any, now: float) -> Any:
            raise ValueError

    rig = Rig(3, Broken())
    rig.lease(0).release(full(30.0))
    assert rig.picks(60)[rig.state(0).endpoint.ip] == 0


def test_one_that_rests_takes_over_from_one_that_is_ejected() -> None:
    """All that are awake fail: its rest ends with the ejection of the other."""
    rig = Rig(2)
    rig.lease(0).release(full(30.0))
    rig.eject(1)
    assert list(rig.picks(20).values()) == [20, 0]


def test_one_that_rests_has_room_below_its_limit() -> None:
    """A limit reached by one was said to be that of all, and the request refused."""
    rig = Rig(2, limits=ConcurrencyLimits(max_requests_per_endpoint=1))
    rig.lease(0).release(full(30.0))
    first = rig.balancer.pick()
    second = rig.balancer.pick()
    assert {first.state, second.state} == {rig.state(0), rig.state(1)}
    with pytest.raises(Unusable, match="each of 2 endpoints"):
        rig.balancer.pick()


def test_two_that_refuse_one_call_leave_what_others_were_told() -> None:
    """A call's own limit ended the rests that other calls' refusals had begun."""
    rig = Rig(4)
    rig.lease(0).release(full(20.0))
    one, two = settle(rig.lease(0), busy(30.0)), settle(rig.lease(1), busy(30.0))
    other = settle(rig.lease(1), busy(10.0))
    rig.balancer.lift([one, two])
    assert [view.state for view in rig.balancer.view()] == ["resting", "resting", "ready", "ready"]
    rig.clock.advance(10.1)
    assert not rig.balancer.has_room_beside([rig.state(1), rig.state(2), rig.state(3)])
    assert min(rig.picks(60).values()) == 0
    assert [view.state for view in rig.balancer.view()] == ["resting", "ready", "ready", "ready"]
    rig.balancer.lift([one, two, other])
    rig.clock.advance(10.0)
    assert min(rig.picks(60).values()) > 0


def test_what_is_lifted_of_a_large_set_makes_one_picker_for_all() -> None:
    """Each call's own limit made a new picker of a thousand endpoints at once."""
    rig = Rig(0)
    rig.set(pods(1000))
    refusals = [settle(rig.lease(number), busy(20.0)) for number in range(2)]
    rig.clock.advance(0.06)
    assert list(rig.picks(4000).values())[:2] == [0, 0]
    before = rig.picking
    rig.balancer.lift(refusals)
    assert rig.picking is before
    rig.clock.advance(0.06)
    assert min(list(rig.picks(9000).values())[:2]) > 0


def test_claims_are_bounded() -> None:
    """What is remembered of an endpoint that refuses for ever: no more than counts."""
    rig = Rig(2)
    for seconds in range(1, 1001):
        rig.lease(0).release(busy(20.0 + seconds / 1000))
    assert [len(claims) for claims in rig.guards.rests._claims.values()] == [CLAIMS]
    assert rig.state(0).rests_until == rig.clock() + 21.0
    rig.clock.advance(21.1)
    rig.picks(1)
    assert rig.guards.rests._claims == {}


@pytest.mark.parametrize(("ends", "most"), [(full(30.0), 3), (busy(86_400.0), 3), (full(1.0), 7), (busy(), 7)])
def test_a_probe_that_meets_a_full_endpoint_is_not_repeated_every_second(ends: Outcome, most: int) -> None:
    """A verdict that is neither success nor failure was none: a call a second was sent to the endpoint for ever."""
    rig = Rig(3)
    rig.eject(0)
    probes = 0
    for _ in range(600):
        rig.clock.advance(0.1)
        lease = rig.balancer.pick()
        probes += lease.state is rig.state(0)
        lease.release(ends if lease.state is rig.state(0) else Outcome())
    assert 1 <= probes <= most
    for _ in range(400):
        rig.clock.advance(0.1)
        rig.balancer.pick().release()
    assert rig.state(0).phase is Phase.ACTIVE


def test_a_straggler_is_no_probe() -> None:
    """A refusal of a request from before the ejection says nothing about the probe; nor does a probe that is over."""
    rig = Rig(2)
    early = [rig.lease(0), rig.lease(0)]
    rig.eject(0)
    until = rig.state(0).until
    early.pop().release(busy())
    rig.clock.advance(30.0)
    probe = rig.balancer.pick()
    assert probe.state.phase is Phase.PROBING
    early.pop().release(busy(30.0))
    assert rig.state(0).phase is Phase.PROBING
    assert rig.state(0).until == until
    probe.release()
    ejector = rig.guards.ejector
    assert ejector is not None
    ejector.postpone(rig.state(0), 30.0, rig.clock())
    assert rig.state(0).phase is Phase.ACTIVE


def test_a_full_probe_is_never_made_again_before_the_base_ejection_is_over() -> None:
    """Kind: two bounds in the wrong order. Where `base_ejection` is above what a server is believed, a 429 on a probe
    had the next one made after that, and so earlier than after no word at all."""
    for base, asked, waits in (
        (60.0, 1.0, 60.0),
        (60.0, 300.0, 60.0),
        (5.0, 1.0, 5.0),
        (5.0, 20.0, 20.0),
        (5.0, 300.0, 30.0),
    ):
        rig = Rig(2, outliers=OutlierDetection(jitter=0.0, base_ejection=base))
        rig.eject(0)
        rig.clock.advance(base + 1)
        probe = rig.balancer.pick()
        assert probe.state is rig.state(0)
        probe.release(busy(asked))
        assert rig.state(0).until == rig.clock() + waits


def test_no_hedge_goes_to_one_that_is_full() -> None:
    """A request that is made on the chance is no reason to use one that rests."""
    for seconds, hedged in ((None, True), (30.0, False)):
        rig = Rig(2)
        if seconds is not None:
            rig.lease(1).release(full(seconds))
        flow = attempt_flow(rig.balancer, IDEMPOTENT, Retry(), hedge=0.1)
        assert isinstance(next(flow), Send)
        assert isinstance(flow.send(None), Send) is hedged
        flow.close()


def test_a_longer_rest_counts_and_a_shorter_one_does_not() -> None:
    """Of several refusals in flight the longest time is kept."""
    rig = Rig(3)
    leases = [rig.lease(0) for _ in range(3)]
    for lease, seconds in zip(leases, (5.0, 9.0, 1.0), strict=True):
        lease.release(full(seconds))
    rig.clock.advance(8.9)
    assert min(rig.picks(60).values()) == 0
    rig.clock.advance(0.2)
    assert min(rig.picks(60).values()) > 0


def test_rests_of_a_large_set_make_one_picker_for_all() -> None:
    """A thousand endpoints that are full at once are no thousand new pickers: the next one comes after 50 ms."""
    rig = Rig(0)
    rig.set(pods(1000))
    before = rig.picking
    for number in range(20):
        rig.lease(number).release(full(5.0))
    assert rig.picking is before
    rig.clock.advance(0.06)
    assert sum(count > 0 for count in list(rig.picks(4000).values())[:20]) == 0


def test_an_endpoint_that_has_left_rests_no_more() -> None:
    """It is forgotten; a straggler's refusal changes nothing."""
    rig = Rig(3)
    late = rig.lease(0)
    rig.lease(0).release(full(20.0))
    rig.set(pods(3)[1:], pods(1))
    late.release(full(20.0))
    assert rig.guards.rests.resting == []
    rig.set(pods(3))
    assert min(rig.picks(60).values()) > 0


def go(rig: Rig, retry: Retry, ends: Iterator[Outcome], deadline: float | None = None) -> Outcome:
    flow = attempt_flow(rig.balancer, IDEMPOTENT, retry, deadline=deadline)
    answer = None
    while True:
        try:
            step = flow.send(answer)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        answer = settle(step.lease, next(ends)) if isinstance(step, Send) else None


@pytest.mark.parametrize("policy", POLICIES)
def test_two_that_refuse_one_call_do_not_rest(policy: str) -> None:
    """What limits a caller is no endpoint's load: a greedy caller with a quota of an hour costs the others nothing."""
    rig = Rig(3, policy)
    outcome = go(rig, Retry(), iter([busy(3600.0), busy(3600.0)]))
    assert outcome.verdict is Verdict.BUSY
    assert len(outcome.tries) == 1
    assert {view.state for view in rig.balancer.view()} == {"ready"}
    rig.clock.advance(0.01)
    assert min(rig.picks(100).values()) > 0


def test_two_that_name_no_time_end_the_call_too() -> None:
    """Nothing rests then; what they were charged with is taken back all the same, and what was not charged is not."""
    rig = Rig(3, "peak_ewma")
    assert len(go(rig, Retry(), iter([busy(), busy()])).tries) == 1
    rig.balancer.lift([settle(rig.lease(0), Outcome())])
    assert min(rig.picks(100).values()) > 0


def unread() -> Outcome:
    return failed(reason=BAD_ANSWER)


def test_two_answers_that_cannot_be_read_end_the_call() -> None:
    """What a service answers taken for what a pod does: it was fetched three times, and pods were blamed for it."""
    rig = Rig(3, "peak_ewma")
    for number in range(20):
        outcome = go(rig, Retry(budget=None), iter([unread(), unread()]))
        assert len(outcome.tries) == 1, number
    assert {state.consecutive for state in rig.balancer.states()} == {0}
    assert {view.state for view in rig.balancer.view()} == {"ready"}
    assert go(rig, Retry(), iter([unread(), Outcome()])).verdict is Verdict.OK
    assert sum(state.consecutive for state in rig.balancer.states()) == 1


def test_one_that_refuses_rests_while_another_answers() -> None:
    """The second endpoint had room, so it was the first one's load."""
    rig = Rig(3)
    assert go(rig, Retry(), iter([busy(9.0), Outcome()])).verdict is Verdict.OK
    assert sorted(view.state for view in rig.balancer.view()) == ["ready", "ready", "resting"]


def test_a_caller_that_has_no_time_does_not_wait_longer_than_it_asked_to() -> None:
    """Five seconds where it has a deadline, what it names where it names one, a quarter of one where it has nothing."""
    for retry, deadline, hint, tries in (
        (Retry(), 60.0, 4.9, 1),
        (Retry(), 60.0, 5.1, 0),
        (Retry(), None, 0.25, 1),
        (Retry(), None, 0.3, 0),
        (Retry(max_wait=20.0), None, 19.0, 1),
        (Retry(max_wait=20.0), 60.0, 21.0, 0),
        (Retry(max_wait=0.0), 60.0, 0.1, 0),
    ):
        rig = Rig(1)
        until = None if deadline is None else rig.clock() + deadline
        assert len(go(rig, retry, iter([full(hint), Outcome()]), until).tries) == tries, (retry, deadline, hint)


def test_max_wait_is_a_number_of_seconds() -> None:
    """The error names the option and what to give."""
    with pytest.raises(ValueError, match=r"max_wait=-1.*give seconds"):
        Retry(max_wait=-1)
