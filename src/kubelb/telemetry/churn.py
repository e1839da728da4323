"""Changes of a set of endpoints -> one line in ten seconds, with how many came and went.

A rolling restart of a thousand pods is thousands of snapshots. The first change is told at once, with names; what comes
within `QUIET` seconds of it is added up and told together when they are over, so that the last line always says how the
set is now. A set that becomes empty is another matter: that is told at once (`logs.py`).
"""

import threading
from collections.abc import Callable
from typing import TypeAlias

from kubelb.clock import Clock
from kubelb.core.events import EndpointsChanged

__all__ = ["QUIET", "Churn", "Later"]

QUIET = 10.0
"""Seconds between two lines that say the same."""

Later: TypeAlias = Callable[[float, Callable[[], None]], None]
"""Has something done after so many seconds, on another thread; must not raise."""


class Churn:
    """Of one load balancer. `say` is called with what a line is to say: at once, or `later`."""

    def __init__(self, clock: Clock, say: Callable[[EndpointsChanged, str], None], later: Later | None) -> None:
        self._clock = clock
        self._say = say
        self._later = later
        self._said = float("-inf")
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """Replace the lock, and forget what the parent was going to tell."""
        self._lock = threading.Lock()
        self._last: EndpointsChanged | None = None
        self._since = 0.0
        self._changes = self._came = self._went = 0
        self._waiting = False

    def __call__(self, event: EndpointsChanged) -> None:
        now = self._clock()
        wait = 0.0
        with self._lock:
            if self._last is None:
                self._since = now
            self._last = event
            self._changes += 1
            self._came += len(event.added)
            self._went += len(event.removed)
            due = self._said + QUIET
            if now < due:
                if self._waiting or self._later is None:
                    return
                self._waiting, wait = True, due - now
        if wait and self._later is not None:
            self._later(wait, self.flush)
        else:
            self.flush()

    def flush(self) -> None:
        """Tell what there is to tell."""
        now = self._clock()
        with self._lock:
            self._waiting = False
            event = self._last
            if event is None:
                return
            self._said, self._last = now, None
            changes, came, went = self._changes, self._came, self._went
            self._changes = self._came = self._went = 0
        if changes == 1:
            text = event.names
        else:
            text = f"; {came} came and {went} went in {changes} changes within {now - self._since:.0f} s"
        self._say(event, event.numbers + text)

    def told(self) -> None:
        """A line has just said how the set is: what was to be told is no news any more."""
        with self._lock:
            self._last = None
            self._changes = self._came = self._went = 0
