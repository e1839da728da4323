"""How long a stream waits after a failure, and which are too young to be told.

401, the first time                          no wait, no word: most often the token was replaced a moment ago
403, the first where it was allowed before   another try within a second, without a word: a server that has just
                                             started has not read its roles yet
403, never allowed before                    the backoff; from the third within 5 s or more, its longest pause
anything else                                the backoff, ended by the server's answer to any stream of the process,
                                             unless that says nothing about this one
"""

import random

from kubelb.clock import Clock
from kubelb.discovery.backoff import Backoff
from kubelb.discovery.kube.diagnose import Code, Trouble

__all__ = ["Delays"]

LASTING = {Code.THROTTLED, Code.REJECTED, Code.EXTRA, Code.MALFORMED}
"""Failures that do not end because another stream was answered."""


class Delays:
    """Those of one stream."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self.backoff = Backoff(clock, rng)
        self._clock = clock
        self._rng = rng
        self._retried = self._pardoned = False
        self._forbidden: list[float] = []

    def well(self) -> None:
        """It is over: the next failure is a first one again."""
        self._retried = self._pardoned = False
        self._forbidden.clear()

    def pardon(self, trouble: Trouble, *, allowed: bool) -> float | None:
        """Seconds until the next try where this is no failure yet; None where it is one."""
        if trouble.code is Code.UNAUTHORIZED and not self._retried:
            self._retried = True
            return 0.0
        if trouble.code is Code.FORBIDDEN and allowed and not self._pardoned:
            self._pardoned = True
            return max(self._rng.random(), trouble.wait)
        return None

    def after(self, trouble: Trouble, *, allowed: bool) -> tuple[float, bool]:
        """Seconds, and whether another stream's answer ends them. What was never allowed is soon asked for seldom."""
        delay = self.backoff.next()
        if trouble.code is not Code.FORBIDDEN or allowed:
            self._forbidden.clear()
            return delay, trouble.code not in LASTING
        self._forbidden.append(self._clock())
        if len(self._forbidden) >= 3 and self._forbidden[-1] - self._forbidden[0] >= 5.0:
            delay = self.backoff.cap()
            del self._forbidden[1:-2]
        return delay, False
