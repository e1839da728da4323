"""Virtual time around the flow: attempts that end when their reply says, endpoints that come and go."""

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

from kubelb.core import Balancer, Lease
from kubelb.core.flow import Flow, attempt_flow
from kubelb.core.health.limits import ConcurrencyLimits
from kubelb.core.retry.budget import BudgetState
from kubelb.core.steps import Next, Send, Wait
from kubelb.errors import LoadBalancerError
from kubelb.model import CANCELLED, Outcome, Snapshot
from kubelb.runtime.driving import settle

from .kit import Rig, pods
from .scenarios import Scenario


class Seen:
    """What came of a scenario."""

    def __init__(self) -> None:
        self.sends: list[tuple[int, str]] = []
        self.cancelled: list[int] = []
        self.discarded: list[int] = []
        self.ends = ""
        self.outcome: Outcome | None = None
        self.took = 0.0

    def end(self, outcome: Outcome | None, error: BaseException | None) -> None:
        self.outcome = outcome
        self.ends = type(error).__name__ if error else outcome.reason if outcome else "?"

    def check(self, scenario: Scenario, balancer: Balancer) -> None:
        """Compare with what the scenario expects; the caller reads its response to the end first."""
        assert self.ends == scenario.ends
        assert [number for number, _ in self.sends] == list(range(1, len(scenario.replies) + 1))
        assert not scenario.apart or len({ip for _, ip in self.sends}) == len(self.sends)
        assert sorted(self.cancelled) == sorted(scenario.cancelled)
        assert sorted(self.discarded) == sorted(scenario.discarded)
        if self.outcome is not None:
            assert self.outcome.value == (scenario.by or len(scenario.replies))
            assert tuple(before.reason for before in self.outcome.tries) == scenario.tries
            if self.outcome.open:
                assert self.outcome.lease.state.in_flight == 1
                self.outcome.lease.release()
        assert sum(state.in_flight for state in balancer.states()) == 0
        assert balancer.limiter is not None
        assert not (balancer.limiter.requests or balancer.limiter.retries or balancer.limiter.pending)


class Virtual:
    """A heap of things to come."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        known = 0 if scenario.arrives is not None else scenario.pods
        self.rig = Rig(known, "round_robin", outliers=None, limits=ConcurrencyLimits(max_retries=100))
        if scenario.pods == 0:
            self.rig.balancer.update(Snapshot(1))
        self.seen = Seen()
        self.heap: list[tuple[float, int, Callable[[], None]]] = []
        self.order = count()
        self.start = self.rig.clock()
        if scenario.arrives is not None:
            self.later(scenario.arrives, lambda: self.rig.set(pods(scenario.pods)))
        if scenario.vanishes is not None:
            self.later(scenario.vanishes, lambda: self.rig.set(()))

    def flow(self) -> Flow:
        scenario, start = self.scenario, self.start
        return attempt_flow(
            self.rig.balancer,
            scenario.request,
            scenario.retry,
            budget=BudgetState(scenario.retry.budget, start) if scenario.retry.budget else None,
            deadline=None if scenario.deadline is None else start + scenario.deadline,
            ready_until=None if scenario.ready is None else start + scenario.ready,
            hedge=scenario.hedge,
            emit=self.rig.events.append,
        )

    def later(self, seconds: float, job: Callable[[], None]) -> None:
        self.at(self.rig.clock() + seconds, job)

    def at(self, when: float, job: Callable[[], None]) -> None:
        heapq.heappush(self.heap, (when, next(self.order), job))

    def turn(self) -> None:
        """Let the next thing happen."""
        when, _, job = heapq.heappop(self.heap)
        self.rig.clock.now = max(self.rig.clock.now, when)
        job()


def by_hand(scenario: Scenario) -> None:
    """Answer the flow's steps one by one, in the plainest way there is."""
    world = Virtual(scenario)
    clock = world.rig.clock
    flow = world.flow()
    flying: dict[Lease, int] = {}
    landed: list[Outcome] = []

    def land(lease: Lease, number: int) -> None:
        if lease in flying:
            landed.append(settle(lease, scenario.replies[number - 1].outcome(number, 1.0)))

    def until(limit: float | None, done: Callable[[], Any]) -> None:
        while not done() and world.heap and (limit is None or world.heap[0][0] < limit):
            world.turn()
        if not done() and limit is not None:
            clock.now = max(clock.now, limit)

    answer: Outcome | None = None
    held: list[Outcome] = []
    try:
        while True:
            step = flow.send(answer)
            answer = None
            if isinstance(step, Send):
                for old in held:
                    world.seen.discarded.append(old.value)
                    old.lease.release(None)
                held.clear()
                world.seen.sends.append((step.number, step.lease.endpoint.ip))
                flying[step.lease] = step.number
                took = scenario.replies[step.number - 1].took
                if took is not None:
                    world.later(took, lambda step=step: land(step.lease, step.number))  # type: ignore[misc]
            if isinstance(step, Send | Next):
                until(step.until, lambda: landed)
                if landed:
                    answer = landed.pop(0)
                    del flying[answer.lease]
                    if answer.open:
                        held.append(answer)
            elif isinstance(step, Wait):
                until(step.until, lambda step=step: world.rig.balancer.version != step.version)  # type: ignore[misc]
            else:
                world.seen.cancelled.append(flying.pop(step.lease))
                step.lease.release(CANCELLED)
    except StopIteration as stop:
        world.seen.end(stop.value, None)
        held = [old for old in held if old is not stop.value]
    except LoadBalancerError as error:
        world.seen.end(None, error)
    for old in held:
        world.seen.discarded.append(old.value)
        old.lease.release(None)
    assert clock() - world.start == scenario.took
    world.seen.check(scenario, world.rig.balancer)
