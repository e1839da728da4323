"""When to ask again: as long as an answer may be believed, within bounds, and never together with all the others.

    look up --answer--> sleep for its TTL in [1, 30] s, +-10 %
       ^    --failure-> sleep for 0.8 s, doubling to 30 s, with jitter (`backoff.py`)
       +----------------+

A TTL of 0 means "do not keep it", not "ask all the time". A negative answer is asked again after 10 s at the latest,
because a service that appears, or comes back, is waited for. A generator that does no I/O; time and chance are given.
"""

import random
from collections.abc import Generator
from typing import Protocol

from kubelb.clock import Clock
from kubelb.discovery.backoff import Backoff
from kubelb.discovery.dns.finding import CEILING, FLOOR, Finding
from kubelb.discovery.dns.lookup import Lookup
from kubelb.discovery.dns.steps import RESYNC, Failure, Reply, Sleep, Step, Trouble

__all__ = ["ABSENT", "CEILING", "FLOOR", "Poller", "Sink", "Steps"]

ABSENT = 10.0
"""Seconds between two questions at most, where there was nothing."""
JITTER = 0.1

Steps = Generator[Step, Reply, None]


class Sink(Protocol):
    """Receives the findings. Nothing here may block or raise."""

    def found(self, finding: Finding) -> bool:
        """Take an answer; returns whether the name has been given up, so that another may take its place."""
        ...

    def failed(self, failure: Failure) -> None: ...


class Poller:
    """`run` may be called again after it was closed or broke."""

    def __init__(self, lookup: Lookup, sink: Sink, *, clock: Clock, rng: random.Random) -> None:
        self._lookup = lookup
        self._sink = sink
        self._clock = clock
        self._rng = rng
        self.backoff = Backoff(clock, rng)

    def run(self) -> Steps:
        """The whole life."""
        while True:
            began = self._clock()
            try:
                finding = yield from self._look_up()
            except Trouble as trouble:
                self._sink.failed(trouble.failure)
                wait = self.backoff.next()
            else:
                if self._sink.found(finding):
                    self._lookup.forget()
                wait = max(0.0, began + self._refresh(finding) - self._clock())
            if (yield Sleep(wait)) is RESYNC:
                self._lookup.renew()
                # Code that calls resync_now in a loop gets one look-up a second.
                yield Sleep(max(0.0, began + FLOOR - self._clock()), through=True)

    def _look_up(self) -> Generator[Step, Reply, Finding]:
        """One look-up; what is known in the middle of it is told at once."""
        asking, reply = self._lookup.run(), None
        while True:
            try:
                said = asking.send(reply)
            except StopIteration as end:
                found: Finding = end.value
                return found
            reply = None
            if isinstance(said, Finding):
                self._sink.found(said)
            else:
                reply = yield said

    def _refresh(self, finding: Finding) -> float:
        most = ABSENT if finding.absent else CEILING
        return max(FLOOR, min(finding.ttl, most)) * self._rng.uniform(1 - JITTER, 1 + JITTER)
