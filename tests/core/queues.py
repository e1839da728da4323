"""Pods as queues, in virtual time around a Balancer: some work, some refuse at once, and some do now and then.

A pod that works has so many servers, first come first served, with exponential service; one that refuses answers
after a millisecond, whatever is under way there. Requests come by themselves (open loop: Poisson) or each from a worker
that has had its last answer (closed loop).
"""

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable
from itertools import count
from typing import Any

from kubelb.core import Balancer, Lease
from kubelb.model import SUCCESS, Outcome, Snapshot

from .kit import Clock, pods

WORK, REFUSAL = 0.05, 0.001
"""Mean seconds of an answer and of a refusal."""
SERVERS = 4
"""Requests that a pod works on at a time."""
NOT_FOUND = Outcome(refusal=True, reason="404")


class Queues:
    """`refuses(number, now)` says whether a pod refuses the request that comes to it now, which then ends by `how`."""

    def __init__(
        self,
        count: int,
        policy: Any,
        refuses: Callable[[int, float], bool],
        *,
        how: Outcome = NOT_FOUND,
        seed: int = 1,
        works: Callable[[int], float] = lambda number: WORK,
        **options: Any,
    ) -> None:
        self.count = count
        self.clock = Clock(0.0)
        self.rng = random.Random(seed)
        self.balancer = Balancer(policy, clock=self.clock, rng=random.Random(seed + 1), **options)
        self.balancer.update(Snapshot(1, pods(count)))
        self.number = {state: number for number, state in enumerate(self.balancer.states())}
        self.refuses = refuses
        self.how = how
        self.works = works
        self.picks: Counter[int] = Counter()
        self.waiting: list[deque[tuple[Lease, Callable[[], None]]]] = [deque() for _ in range(count)]
        self.busy = [0] * count
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = _order()

    @property
    def guards(self) -> Any:
        """What is inside, for tests that have to see it."""
        return self.balancer._guards

    def open(self, utilisation: float, seconds: float) -> Counter[int]:
        """Let requests come at a rate that is `utilisation` of what all pods could work off; return the picks."""
        rate = utilisation * self.count * SERVERS / WORK
        end = self.clock() + seconds

        def arrive() -> None:
            if self.clock() < end:
                self._later(self.rng.expovariate(rate), arrive)
                self._send(lambda: None)

        return self._run(arrive, 1, end)

    def closed(self, workers: int, seconds: float) -> Counter[int]:
        """Let so many workers send one request after the other."""

        end = self.clock() + seconds

        def work() -> None:
            if self.clock() < end:
                self._send(work)

        return self._run(work, workers, end)

    def _run(self, source: Callable[[], None], times: int, end: float) -> Counter[int]:
        before = self.picks.copy()
        for _ in range(times):
            source()
        while self._heap and self._heap[0][0] < end:
            self.clock.now, _, job = heapq.heappop(self._heap)
            job()
        self.clock.now = end
        return self.picks - before

    def _send(self, then: Callable[[], None]) -> None:
        lease = self.balancer.pick()
        pod = self.number[lease.state]
        self.picks[pod] += 1
        if self.refuses(pod, self.clock()):
            self._later(self.rng.expovariate(1 / REFUSAL), lambda: self._end(lease, self.how, then))
        elif self.busy[pod] < SERVERS:
            self._begin(pod, lease, then)
        else:
            self.waiting[pod].append((lease, then))

    def _begin(self, pod: int, lease: Lease, then: Callable[[], None]) -> None:
        self.busy[pod] += 1

        def over() -> None:
            self.busy[pod] -= 1
            if self.waiting[pod]:
                self._begin(pod, *self.waiting[pod].popleft())
            self._end(lease, SUCCESS, then)

        self._later(self.rng.expovariate(1 / self.works(pod)), over)

    def _end(self, lease: Lease, outcome: Outcome, then: Callable[[], None]) -> None:
        lease.release(outcome)
        then()

    def _later(self, seconds: float, job: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.clock() + seconds, next(self._order), job))


def _order() -> Any:
    return count()
