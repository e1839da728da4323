"""Many reflectors of one process over one server, under virtual time: the streams of 30 services without a thread.

`server(asked, number)` answers as that of `World` does; only a watch is a value here: a Failure, a Reply, or the time
at which it breaks. A `Hang` is a connection that comes to be at a later time, or fails then; `asked` has the requests,
and `dialled` the connections that were begun as well. Nothing takes any time but sleeping, and what a `delay` makes
each answer take.
"""

import heapq
import random
from typing import NamedTuple

from kubelb.discovery.kube.comeback import Comeback
from kubelb.discovery.kube.reflector import Reflector
from kubelb.discovery.kube.scope import Fixed
from kubelb.discovery.kube.steps import PAUSE, READ, ROUSED, Failure, Get, Phase, Reply, Sleep

from .world import BROKEN, Asked


class Hang(NamedTuple):
    """The handshake is not answered until then, or not at all: then it has failed."""

    until: float
    fails: bool = False


class Member:
    """One stream: what it told, and when it was answered with a list or a watch."""

    def __init__(self, fleet, number, seed):
        self.fleet, self.number = fleet, number
        self.known = []
        self.told = []
        rng = random.Random(seed)
        scope = Fixed(*(f"s{number}-{each}" for each in range(fleet.each)))
        self.reflector = Reflector("prod", scope, self, clock=lambda: fleet.now, rng=rng, comeback=fleet.comeback)
        self.steps = self.reflector.run()
        self.asleep = None  # whether it is roused, where it can be
        self.turn = 0  # so that what was arranged for a sleep that is over is not done
        self.breaks = None
        self.waiting = None  # the request that waits for its connection's turn, and the steps of that
        fleet.comeback.join(lambda: fleet.roused(self))

    def replace(self, slices, unread=frozenset(), version=""):
        pass

    def failed(self, trouble):
        self.told.append((self.fleet.now, trouble.kind, trouble.cure))

    def recovered(self):
        self.told.append((self.fleet.now, "recovered", ""))

    def heard(self):
        pass

    def skipped(self, what, reason):
        raise AssertionError(what, reason)


class Fleet:
    """`services` streams that were all well at 0, `each` of so many services."""

    def __init__(self, server, services=30, seed=1, delay=0.01, each=1):
        self.now = 0.0
        self.each = each
        self.server = server
        self.delay = delay
        self.rng = random.Random(seed)
        self.asked = []
        self.dialled = []
        self._queue = []
        self._order = 0
        self.comeback = Comeback(lambda: self.now)
        self.members = [Member(self, number, seed * 1000 + number) for number in range(services)]
        for member in self.members:
            self._later(0.0, member, None)

    def roused(self, member):
        if member.asleep is not None and member.asleep():
            self._later(0.0, member, ROUSED)

    def run(self, until):
        while self._queue and self._queue[0][0] <= until:
            self.now, _, member, turn, answer = heapq.heappop(self._queue)
            if turn == member.turn:
                self._advance(member, answer)
        self.now = until

    def requests(self, since, until):
        return [at for at, _ in self.asked if since <= at < until]

    def busiest(self, since, until):
        """Requests in the busiest second of that time."""
        times = self.requests(since, until)
        return max((sum(first <= at < first + 1 for at in times) for first in times), default=0)

    def _later(self, delay, member, answer):
        member.turn += 1
        self._order += 1
        heapq.heappush(self._queue, (self.now + delay, self._order, member, member.turn, answer))

    def _advance(self, member, answer):
        member.asleep = None
        while True:
            try:
                step = member.steps.send(answer) if member.waiting is None else member.waiting[1].send(answer)
            except StopIteration:
                step, member.waiting = member.waiting[0], None
            answer = None
            if step is PAUSE:
                continue
            if step is READ:
                self._later(max(0.0, member.breaks - self.now), member, BROKEN)
                return
            if isinstance(step, Sleep):
                if step.roused is not None and step.roused():
                    answer = ROUSED
                    continue
                member.asleep = step.roused
                self._later(step.seconds, member, None)
                return
            assert isinstance(step, Get)
            said = self.server(Asked(step, self.now), member.number)
            self.dialled.append(self.now)
            if isinstance(said, Hang) and said.fails:
                self._later(said.until - self.now, member, Failure(Phase.TLS, "in the TLS handshake", silent=True))
                return
            if isinstance(said, Hang):
                member.waiting = step, member.reflector.connected(said.until - self.now)
                self._later(said.until - self.now, member, None)
                return
            self.asked.append((self.now, member.number))
            if not isinstance(said, Failure) and getattr(said, "status", 200) == 200:
                member.known.append(self.now)
            if not isinstance(said, (Reply, Failure)):
                member.breaks, said = said, Reply(200)
            self._later(self.rng.random() * 2 * self.delay, member, said)
            return
