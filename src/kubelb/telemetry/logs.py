"""Events -> log lines: logger ``kubelb``, one line per change of state, with its reason, in the event's own words.

The logger has a NullHandler, so a program that does not configure logging hears nothing. A handler or filter that
raises costs its line and nothing else (see `broken.py`). A line like the one before it
(the same kind of event about the same thing) is held back for `QUIET` seconds and counted; the next one says how many
were. Events hold no secrets, so lines hold none.
"""

import logging
import threading

from kubelb.clock import Clock, monotonic
from kubelb.core.events import EndpointsChanged, Event
from kubelb.printable import printable
from kubelb.telemetry.broken import logger, say
from kubelb.telemetry.churn import QUIET, Churn, Later

__all__ = ["QUIET", "LogSink"]

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}

REMEMBERED = 1000
"""Lines whose time is kept; beyond it the memory starts anew."""


class LogSink:
    """Writes events to the logger ``kubelb``."""

    def __init__(self, clock: Clock = monotonic, later: Later | None = None) -> None:
        """`later` has changes of the set told that were held back; without it they come with the next one."""
        self._clock = clock
        self._churn = Churn(clock, self._changed, later)
        self._lock = threading.Lock()
        self._said: dict[tuple[str, ...], tuple[float, int]] = {}

    def _changed(self, event: EndpointsChanged, text: str) -> None:
        problem = f": {event.problem}" if event.problem else ""
        say(LEVELS[event.level], "%s: %s%s", printable(event.service), text, problem)

    def __call__(self, event: Event) -> None:
        level = LEVELS[event.level]
        if not logger.isEnabledFor(level):
            return
        if isinstance(event, EndpointsChanged) and not event.problem:
            self._churn(event)
            return
        now, key = self._clock(), event.key
        with self._lock:
            last, held = self._said.get(key, (float("-inf"), 0))
            repeated = now - last < QUIET
            if not repeated and len(self._said) >= REMEMBERED:
                self._said.clear()
            self._said[key] = (last, held + 1) if repeated else (now, 0)
        if isinstance(event, EndpointsChanged):
            if repeated:  # a set that is empty again is told when its time has come, or the last line would be wrong
                self._churn(event)
            else:
                self._churn.told()
        if repeated:
            return
        say(level, "%s: %s%s", printable(event.service), event.text, f" ({held} more like it)" if held else "")

    def after_fork_in_child(self) -> None:
        """Replace the lock."""
        self._lock = threading.Lock()
        self._churn.after_fork_in_child()
