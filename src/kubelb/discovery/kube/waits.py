"""The waits of a stream: its turn among all others, a list's turn, a second that must pass, a sleep that news may end.

While a server is away the streams of this process ask one after the other, and come back one after the other;
`comeback.py` says when. Here is what one stream yields for it.
"""

import random
from collections.abc import Callable, Generator

from kubelb.clock import Clock
from kubelb.discovery.kube.comeback import JITTER, Comeback
from kubelb.discovery.kube.steps import RESYNC, ROUSED, Answer, Sleep, Step

__all__ = ["BURST", "SHORT", "Steps", "Waits"]

SHORT = 1.0
"""Seconds. A watch that ends sooner and brought nothing is a failure, or a broken proxy is asked 2500 times a second;
one that brought something is resumed no sooner."""
BURST = 5
"""Lists that are made at once when asked for; then it is one a second, for code that calls resync_now in a loop."""

Steps = Generator[Step, Answer, None]


class Waits:
    """Those of one stream."""

    def __init__(self, clock: Clock, rng: random.Random, comeback: Comeback) -> None:
        self._clock = clock
        self._rng = rng
        self._comeback = comeback
        self.epoch = 0
        """That of the comeback, when the last request was made."""
        self._turned = False  # the sleep that is over was for the next request's turn
        self._next_list = float("-inf")

    def sleep(self, seconds: float, *, shared: bool = False) -> Generator[Step, Answer, bool]:
        """Returns whether everything is wanted again. A `shared` wait is ended by a comeback, too."""
        if seconds <= 0:
            return False
        noted, comeback = self.epoch, self._comeback
        answer = yield Sleep(seconds, roused=(lambda: comeback.epoch != noted) if shared else None)
        self._turned = shared
        if answer is ROUSED:
            self._turned = False
            answer = yield Sleep(self._rng.random() * JITTER)
        if answer is RESYNC:
            yield from self.list_turn()
        return answer is RESYNC

    def turn(self, stream: object, troubled: bool) -> Steps:
        """Wait until this process may ask again: while a server is away its streams ask one after the other."""
        turned, self._turned, comeback = self._turned, False, self._comeback
        while not turned:
            noted = comeback.ramp
            delay = comeback.turn(stream, troubled)
            if delay > 0 and (yield Sleep(delay, through=True, roused=_since(comeback, noted))) is ROUSED:
                yield Sleep(self._rng.random() * JITTER, through=True)
            else:
                turned = comeback.goes(stream, troubled)
        self.epoch = comeback.epoch

    def list_turn(self) -> Steps:
        """Wait until a list that was asked for may be made."""
        now = self._clock()
        self._next_list = max(self._next_list, now - (BURST - 1) * SHORT)
        if self._next_list > now:
            yield Sleep(self._next_list - now, through=True)
        self._next_list += SHORT

    def pace(self, since: float) -> Steps:
        """Let a second pass since then."""
        rest = since + SHORT - self._clock()
        if rest > 0:
            yield Sleep(rest, through=True)


def _since(comeback: Comeback, ramp: int) -> Callable[[], bool]:
    return lambda: comeback.ramp != ramp
