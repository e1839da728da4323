"""How often the same failure is told: as often as a service with a stream of its own would hear of it.

A stream of 300 services asks a server that is away 300 times as often as that of one (`comeback.py`), so that all are
right again as soon. Each of them need not hear of each try: that would be a thousand events a second.

    another kind of failure           is told at once; where two kinds take turns, each every 0.8 s at most
    the same kind in other words      every 0.8 s at most
    the same again                    after 0.8 s, then twice as long each time, up to 30 s, as a stream's backoff is
"""

from kubelb.clock import Clock
from kubelb.discovery.backoff import CAP, FIRST
from kubelb.discovery.kube.diagnose import Code, Trouble

__all__ = ["Repeats"]


class Repeats:
    """What one service was told since all was well. Not for several threads at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: dict[Code, float] = {}
        self._last: Code | None = None
        self._words = "", ""
        self._pause = FIRST

    def over(self) -> None:
        """All is well: the next failure is news."""
        self._told.clear()
        self._last = None

    def news(self, trouble: Trouble) -> bool:
        """Whether to tell it; then it counts as told."""
        now, code, words = self._clock(), trouble.code, (trouble.reason, trouble.cure)
        same = code is self._last and words == self._words
        told = self._told.get(code)
        if told is not None and now - told < (self._pause if same else FIRST):
            return False
        self._pause = min(2 * self._pause, CAP) if same else FIRST
        self._told[code], self._last, self._words = now, code, words
        return True
