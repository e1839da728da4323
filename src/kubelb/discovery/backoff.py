"""How long to wait before the next request, after a failure.

As client-go's reflector does: 0.8 s, doubling to 30 s, times a factor in [1, 2), and from the start again where the
last start is more than 2 minutes ago. So a server that is away costs each client at most 9 requests in two minutes, and
clients that lost it together do not come back together. What counts is the time since the last *start*, not a time
without failures: a server that is away for five seconds every minute is not asked later each time.
"""

import random

from kubelb.clock import Clock

__all__ = ["CAP", "FIRST", "FORGET", "Backoff"]

FIRST = 0.8
CAP = 30.0
FORGET = 120.0


class Backoff:
    """Ask when something does not work."""

    __slots__ = ("_clock", "_failures", "_rng", "_start")

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._failures = 0
        self._start = clock()

    def next(self) -> float:
        """Seconds to wait after this failure."""
        now = self._clock()
        if now - self._start > FORGET:
            self._failures, self._start = 0, now
        base = min(FIRST * (1 << self._failures), CAP)
        self._failures = min(self._failures + 1, 10)
        return base * (1 + self._rng.random())

    def cap(self) -> float:
        """Seconds to wait where trying sooner can not help."""
        return CAP * (1 + self._rng.random())
