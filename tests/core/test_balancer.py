"""Balancer: updates, picks around what was tried, the moments at which things change, threads, forks, the collector."""

import gc
import math
import threading
from typing import Any

import pytest

from kubelb.core import Balancer, Phase
from kubelb.core.events import Ejected
from kubelb.core.health.breaker import CircuitBreaker
from kubelb.core.health.limits import ConcurrencyLimits
from kubelb.core.health.outliers import OutlierDetection
from kubelb.core.lease import Lease
from kubelb.core.policies import Picker, Policy
from kubelb.core.retry.budget import BudgetState, RetryBudget
from kubelb.core.table import Table
from kubelb.errors import Closed, NoEndpoints, NotReady, Overloaded, Unusable
from kubelb.model import Changes, Outcome, Snapshot

from .kit import Clock, Rig, failed, pod, pods


def test_survivors_keep_what_is_in_flight() -> None:
    """An update keeps state by identity; what left finishes in peace."""
    rig = Rig(3)
    stays, leaves = rig.lease(1), rig.lease(0)
    difference = rig.set(pods(5)[1:])
    assert [state.endpoint.ip for state in difference.added] == ["10.0.0.3", "10.0.0.4"]
    assert [state.endpoint.ip for state in difference.removed] == ["10.0.0.0"]
    assert rig.state(1) is stays.state
    assert stays.state.in_flight == 1
    leaves.release(failed())
    assert leaves.state.removed
    assert leaves.state.in_flight == 0
    stays.release()


def test_an_unchanged_snapshot_changes_nothing() -> None:
    """The same endpoints again: same states, nobody new."""
    rig = Rig(3)
    before = rig.balancer.states()
    difference = rig.set(pods(3))
    assert (difference.added, difference.removed, difference.entered) == ((), (), ())
    assert rig.balancer.states() == before


def test_parked_endpoints_are_not_picked() -> None:
    """Known, and out of the choice."""
    rig = Rig(0)
    rig.set(pods(2), (pod(2),))
    assert rig.picks(100)["10.0.0.2"] == 0


def test_a_change_told_by_a_hint_reaches_the_picker() -> None:
    """With a hint for the version in use only those endpoints are touched; another base means comparing all."""
    rig = Rig(3)
    rig.balancer.update(Snapshot(2, pods(2), changes=Changes(1, removed=(pod(2),))))
    assert set(rig.picks(50)) == {"10.0.0.0", "10.0.0.1"}
    rig.balancer.update(Snapshot(9, pods(4), changes=Changes(8, used=(pod(3),))))
    assert len(rig.balancer.states()) == 4


def test_another_endpoint_each_time() -> None:
    """`avoid` is kept to as long as there is any other, and then given up."""
    rig = Rig(6, "peak_ewma")
    tried: list[Any] = []
    for _ in range(6):
        lease = rig.balancer.pick(avoid=tried)
        assert lease.state not in tried
        tried.append(lease.state)
    assert not rig.balancer.has_other_than(tried)
    assert rig.balancer.has_other_than(tried[1:])
    assert rig.balancer.pick(avoid=tried).state in tried


def test_avoiding_finds_the_one_endpoint_left() -> None:
    """Fifty tried of 51: luck would not find it in four draws."""
    rig = Rig(51)
    *tried, last = rig.balancer.states()
    assert all(rig.balancer.pick(avoid=tried).state is last for _ in range(20))


def test_only_what_the_caller_can_use_is_picked() -> None:
    """`usable` passes over states that this caller has no connection to; the tried come back before those do."""
    rig = Rig(4)
    one, two = rig.state(1), rig.state(2)
    able = {one, two}
    for _ in range(50):
        lease = rig.balancer.pick(usable=able.__contains__)
        assert lease.state in able
        other = rig.balancer.pick(avoid=[lease.state], usable=able.__contains__)
        assert other.state is ({one, two} - {lease.state}).pop()
        last = rig.balancer.pick(avoid=[one, two], usable=able.__contains__)
        assert last.state in able
        for each in (lease, other, last):
            each.release()


def test_a_closed_one_says_so() -> None:
    """Whoever waits for it can give up."""
    rig = Rig(1)
    assert not rig.balancer.closed
    rig.balancer.close()
    assert rig.balancer.closed


def test_nothing_that_the_caller_can_use() -> None:
    """Unusable, with the count; it is no request that the budget grows by, and nothing is in flight."""
    rig = Rig(3)
    with pytest.raises(Unusable, match="any of 3 endpoints"):
        rig.balancer.pick(usable=lambda state: False)
    with pytest.raises(Unusable):
        rig.balancer.pick(avoid=[rig.state(0)], usable=lambda state: False)
    assert rig.balancer.requests == 0
    assert sum(state.in_flight for state in rig.balancer.states()) == 0


def test_first_attempts_are_counted_and_retries_are_not() -> None:
    """The budget is a share of first attempts."""
    rig = Rig(3)
    for _ in range(5):
        rig.balancer.pick()
    rig.balancer.pick(avoid=[rig.state(0)])
    assert rig.balancer.requests == 5


def test_nothing_is_due_when_nothing_will_change() -> None:
    """With nobody away and nobody new, a pick compares the time with infinity."""
    rig = Rig(3)
    assert rig.balancer._wake == math.inf
    rig.eject(0)
    assert rig.state(0).until == rig.balancer._wake


def test_an_errand_runs_once_with_the_next_pick() -> None:
    """And is not lost when something else rebuilds the picker first."""
    rig = Rig(3)
    done: list[int] = []
    rig.balancer.at_next_pick(lambda: done.append(1))
    rig.set(pods(4))
    rig.balancer.pick()
    rig.balancer.pick()
    assert done == [1]


def test_an_errand_that_is_cut_short_is_run_again() -> None:
    """An interrupt in the middle of it: the pick ends, and the next one takes it over."""
    rig = Rig(3)
    done: list[int] = []

    def errand() -> None:
        done.append(1)
        if len(done) == 1:
            raise KeyboardInterrupt

    rig.balancer.at_next_pick(errand)
    with pytest.raises(KeyboardInterrupt):
        rig.balancer.pick()
    rig.balancer.pick()
    rig.balancer.pick()
    assert done == [1, 1]


def test_an_interrupted_rebuild_is_made_up_for() -> None:
    """An interrupt between a decision and the new picker: a pick soon after builds it."""
    rig = Rig(3)

    class Interrupted(Policy, Picker):
        armed = False

        def build(self, members: Any, rng: Any, before: Any = None) -> Any:
            if self.armed:
                self.armed = False
                raise KeyboardInterrupt
            self.states = members.states
            return self

        def pick(self, request: object, now: float) -> Any:
            return self.states[0]

    policy = Interrupted()
    rig = Rig(3, policy)
    rig.fail(0, 4)
    policy.armed = True
    with pytest.raises(KeyboardInterrupt):
        rig.fail(0)
    assert rig.state(0).phase is Phase.EJECTED
    rig.clock.advance(0.05)
    assert rig.balancer.pick().endpoint.ip == "10.0.0.1"


class Dear(Policy, Picker):
    """A policy whose builds take 80 ms, while requests are picked."""

    def __init__(self) -> None:
        self.builds = 0
        self.cut_short = False
        self.rig: Rig | None = None

    def build(self, members: Any, rng: Any, before: Any = None) -> Any:
        self.builds += 1
        self.states = members.states
        if self.rig is not None:
            for _ in range(8):
                self.rig.clock.advance(0.01)
                if self.builds < 20:
                    self.rig.balancer.pick()
            if self.cut_short:
                raise KeyboardInterrupt
        return self

    def pick(self, request: object, now: float) -> Any:
        return self.states[0]


def test_a_build_that_takes_its_time_is_not_begun_again_by_each_pick() -> None:
    """Kind: a wait that is shorter than what it waits for. After 50 ms every thread that picked took part in a build
    that took longer, and made it stale; one update had 23 builds. One that was cut short is made up for later."""
    policy = Dear()
    rig = Rig(3, policy, slow_start=None)
    policy.rig = rig
    rig.set(pods(4))
    policy.builds = 0
    rig.set(pods(5))
    assert policy.builds == 1
    policy.cut_short = True
    with pytest.raises(KeyboardInterrupt):
        rig.set(pods(6))
    policy.cut_short = False
    assert policy.builds == 2
    rig.clock.advance(0.2)
    rig.balancer.pick()
    assert policy.builds == 2
    rig.clock.advance(0.1)
    rig.balancer.pick()
    assert policy.builds == 3
    assert len(rig.picking.eligible) == 6


def test_of_two_rebuilds_the_one_that_saw_more_wins() -> None:
    """A policy that is slow over an old set does not put it back over a newer one."""
    entered, go_on = threading.Event(), threading.Event()

    class Slow(Policy):
        def build(self, members: Any, rng: Any, before: Any = None) -> Any:
            states = members.states
            if len(states) == 2 and not entered.is_set():
                entered.set()
                assert go_on.wait(10)
            picker = type("P", (Picker,), {})(states)
            picker.pick = lambda request, now: states[-1]
            return picker

    rig = Rig(3, Slow(), slow_start=None)
    thread = threading.Thread(target=lambda: rig.balancer.update(Snapshot(2, pods(2))))
    thread.start()
    assert entered.wait(10)
    rig.balancer.update(Snapshot(3, pods(5)))
    assert rig.balancer.pick().endpoint == pod(4)
    go_on.set()
    thread.join()
    assert rig.balancer.pick().endpoint == pod(4)


def test_several_threads_at_the_moment_of_change_build_once() -> None:
    """Of many picks that find something due, the first does it."""
    built: list[int] = []

    class Counting(Policy):
        def build(self, members: Any, rng: Any, before: Any = None) -> Any:
            states = members.states
            built.append(len(states))
            picker = type("P", (Picker,), {})(states)
            picker.pick = lambda request, now: states[0]
            return picker

    rig = Rig(3, Counting())
    rig.eject(1)
    rig.clock.advance(13)
    built.clear()
    real = rig.balancer._lock
    wake = rig.balancer._wake
    late: list[bool] = []

    class Late:
        """The second thread comes to the lock when the first has done it all."""

        def __enter__(self) -> None:
            rig.balancer._lock = real
            rig.balancer.pick()
            late.append(rig.balancer._wake > wake)
            real.acquire()

        def __exit__(self, *_: object) -> None:
            real.release()

    rig.balancer._lock = Late()  # type: ignore[assignment]
    rig.balancer.pick()
    assert late == [True]
    assert len(built) == 1


def test_a_forked_child_starts_with_nothing_in_flight_and_turns_of_its_own() -> None:
    """What a child is told: leases forgotten, a lock of its own, another random start."""
    rig = Rig(40, "round_robin")
    lease = rig.balancer.pick()
    rig.balancer._lock.acquire()
    picker = rig.picker
    rig.balancer.forget_in_flight()
    assert lease.released
    lease.release(failed())
    assert lease.state.failures == 0
    rig.balancer.pick().release()
    assert rig.picker is not picker


def test_events_are_told_outside_the_lock() -> None:
    """A listener may ask the balancer anything."""
    rig = Rig(3)
    seen: list[int] = []
    rig.balancer._emit = lambda event: seen.append(len(rig.balancer.states()))
    rig.eject(0)
    assert seen == [3]


class Collecting:
    """A lock inside which the collector runs at once, over cycles that hold leases and those who own some."""

    def __init__(self, rig: Rig, ends: list[str]) -> None:
        self.rig = rig
        self.ends = ends
        self.inside = threading.Lock()

    def __enter__(self) -> None:
        for number in range(2):
            cycle: list[Any] = [Owner(self, Lease(self.rig.picking.eligible[number], 0.0))]
            cycle.append((cycle, Lease(self.rig.picking.eligible[number], 0.0)))
        del cycle
        assert self.inside.acquire(timeout=5), "taken again by the thread that has it"
        gc.collect()

    def __exit__(self, *_: object) -> None:
        self.inside.release()


class Owner:
    """A streaming body: its finalizer gives its lease back."""

    def __init__(self, lock: Collecting, lease: Lease) -> None:
        self.lock = lock
        self.lease = lease

    def __del__(self) -> None:
        self.lease.release(None)
        self.lock.ends.append("end")


def test_the_collector_inside_every_critical_section_locks_nothing_up() -> None:
    """Leases lost and finalized while a lock of the core is held: no deadlock, nothing left in flight."""
    rig = Rig(4)
    ends: list[str] = []
    rig.balancer._lock = Collecting(rig, ends)  # type: ignore[assignment]
    rig.eject(0)  # decide
    rig.clock.advance(13)
    rig.balancer.pick().release()  # sweep, claim, succeed
    rig.set(pods(6))  # update
    rig.balancer.states()
    budget = BudgetState(RetryBudget(), rig.clock())
    budget._lock = Collecting(rig, ends)  # type: ignore[assignment]
    before = len(ends)
    assert budget.withdraw(0, rig.clock())
    rig.balancer.close()
    rig.balancer._lock = threading.Lock()
    gc.collect()
    assert len(ends) > before > 10
    assert [state.in_flight for state in rig.balancer.states()] == [0] * 6


def test_updates_picks_and_failures_from_many_threads() -> None:
    """Sets that change, endpoints that fail and time that passes, all at once: the laws hold when it is over."""
    rig = Rig(6, "least_request")
    stop = threading.Event()
    broken: list[BaseException] = []

    def guarded(job: Any) -> None:
        try:
            turn = 0
            while not stop.is_set():
                turn += 1
                job(turn)
        except BaseException as error:
            broken.append(error)

    def calls(turn: int) -> None:
        lease = rig.balancer.pick()
        lease.release(failed() if lease.endpoint.ip in ("10.0.0.0", "10.0.0.1") or turn % 97 == 0 else Outcome())

    def changes(turn: int) -> None:
        everyone = pods(6)
        rig.set(everyone[: 2 + turn % 5], everyone[5:] if turn % 2 else ())
        rig.clock.advance(0.7)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in (calls, calls, calls, changes)]
    for thread in threads:
        thread.start()
    stop.wait(0.6)
    stop.set()
    for thread in threads:
        thread.join()
    assert broken == []
    rig.set(pods(6))
    states = rig.balancer.states()
    ejector = rig.guards.ejector
    assert ejector is not None
    assert sum(state.in_flight for state in states) == 0
    assert set(ejector.away) == {state for state in states if state.phase is not Phase.ACTIVE}
    assert len(ejector.away) <= 3
    assert isinstance(rig.balancer._table, Table)
    assert rig.told(Ejected)


@pytest.mark.parametrize("all_parts", [True, False])
def test_another_name(all_parts: bool) -> None:
    """Every part speaks of the service by it, in refusals and in events; endpoints and what is in flight stay."""
    events: list[Any] = []
    clock = Clock()
    balancer = Balancer(
        "round_robin",
        service="reviews:http",
        outliers=OutlierDetection(consecutive_failures=1) if all_parts else None,
        breaker=CircuitBreaker() if all_parts else None,
        limits=ConcurrencyLimits(max_requests=1) if all_parts else None,
        slow_start=None,
        clock=clock,
        emit=events.append,
    )
    balancer.rename("reviews.prod:http")
    with pytest.raises(NotReady, match=r"^reviews\.prod:http"):
        balancer.pick()
    balancer.update(Snapshot(1, pods(2)))
    lease = balancer.pick()
    balancer.rename("reviews.test:http")
    if all_parts:
        with pytest.raises(Overloaded, match=r"^reviews\.test:http"):
            balancer.pick()
    lease.release(failed())
    balancer.update(Snapshot(2, ()))
    with pytest.raises(NoEndpoints, match=r"^reviews\.test:http"):
        balancer.pick()
    assert {event.service for event in events} == ({"reviews.test:http"} if all_parts else set())
    balancer.close()
    with pytest.raises(Closed, match=r"^reviews\.test:http"):
        balancer.pick()
