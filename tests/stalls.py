"""How long the machine lets a thread wait that wants to run: the control beside which a promise in time is measured."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

NAP = 0.001
HANDOVERS = 3  # from thread to thread, in what is measured here; each may meet the longest stall


class Stalls:
    """While it is open, a thread that naps notes how late it wakes at worst. A context manager."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stalls", daemon=True)

    def _watch(self) -> None:
        while not self._over.is_set():
            before = time.monotonic()
            time.sleep(NAP)
            self.longest = max(self.longest, time.monotonic() - before - NAP)

    def __enter__(self) -> Stalls:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()


class Took(NamedTuple):
    """Seconds that something took, and the longest stall meanwhile."""

    seconds: float
    stall: float

    @property
    def own(self) -> float:
        """Less what the machine may have added."""
        return max(0.0, self.seconds - HANDOVERS * self.stall)


def elapsed(action: Callable[[], object]) -> Took:
    """How long it takes."""
    with Stalls() as machine:
        start = time.monotonic()
        action()
        seconds = time.monotonic() - start
    return Took(seconds, machine.longest)
