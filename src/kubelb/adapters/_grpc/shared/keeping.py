"""The look at connections on which streams are open: four times a second, while there are any.

Picks see to connections; where long streams are all that a client has, there are no picks. A server that gives its
connections an age announces the end of one, lets its streams go on for a while and ends them together. They all begin
again in that moment: without another connection there each would go to the other endpoints, and stay.
"""

import threading
from collections.abc import Callable
from typing import TypeAlias

from kubelb.runtime.worker import worker

__all__ = ["PAUSE", "Keeper", "by_worker"]

PAUSE = 0.25
"""Seconds between two looks."""

Later: TypeAlias = Callable[[float, Callable[[], bool]], None]
"""Asks a question again and again, after so many seconds each, until the answer is False."""


class Keeper:
    """Of one channel. `look()` looks once and returns whether there is a reason to look again."""

    def __init__(self, look: Callable[[], bool], repeat: Later) -> None:
        self._look = look
        self._repeat = repeat
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """What looked was the parent's."""
        self._lock = threading.Lock()
        self._looking = False

    def begin(self) -> None:
        """A stream begins."""
        if self._looking:
            return
        with self._lock:
            begins = not self._looking
            self._looking = True
        if begins:
            self._repeat(PAUSE, self._goes_on)

    def _goes_on(self) -> bool:
        self._looking = False  # a stream that begins while this looks is not overlooked
        if not self._look():
            return False
        with self._lock:
            alone = not self._looking
            self._looking = True
        return alone


def by_worker(pause: float, ask: Callable[[], bool]) -> None:
    """Have the background worker ask."""
    worker.retain()

    def step() -> None:
        again = False
        try:
            again = ask()
        finally:
            if again:
                worker.call_at(worker.clock() + pause, step)
            else:
                worker.release()

    worker.call_at(worker.clock() + pause, step)
