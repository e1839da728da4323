"""How long to wait before the next request, after a failure.

As client-go's reflector does: 0.8 s, doubling to 30 s, times a factor in [1, 2), back to the start after 2 minutes
without a failure. So a server that is away costs each client at most 7 requests in the first minute and about 1.3 a
minute after that, and clients that lost it together do not come back together. At the cap a recovery is seen within
60 s.
"""

import random

from kubelb.clock import Clock

__all__ = ["CAP", "FIRST", "HEALTHY", "Backoff"]

FIRST = 0.8
CAP = 30.0
HEALTHY = 120.0


class Backoff:
    """Say when it works, ask when it does not."""

    __slots__ = ("_clock", "_failures", "_rng", "_since")

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._failures = 0
        self._since: float | None = None

    def works(self) -> None:
        """An answer came, and a good one."""
        if self._since is None:
            self._since = self._clock()

    def next(self) -> float:
        """Seconds to wait after this failure."""
        if self._since is not None and self._clock() - self._since >= HEALTHY:
            self._failures = 0
        self._since = None
        base = min(FIRST * (1 << self._failures), CAP)
        self._failures = min(self._failures + 1, 10)
        return base * (1 + self._rng.random())

    def cap(self) -> float:
        """Seconds to wait where trying sooner can not help."""
        return CAP * (1 + self._rng.random())
