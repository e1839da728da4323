"""Events -> log lines: logger ``kubelb``, one line per change of state, with its reason.

The logger has a NullHandler, so a program that does not configure logging hears nothing. A handler or filter that
raises costs its line and nothing else (see `broken.py`). A line like the one before it
(the same kind of event about the same thing) is held back for `QUIET` seconds and counted; the next one says how many
were. Events hold no secrets, so lines hold none.
"""

import logging
import threading

from kubelb.clock import Clock, monotonic
from kubelb.core.events import (
    BudgetExhausted,
    CircuitChanged,
    DiscoveryFailed,
    DiscoveryRecovered,
    Ejected,
    EjectionSpared,
    EndpointsChanged,
    Event,
    LimitReached,
    LocalTrouble,
    Retried,
    Returned,
    ShareBounded,
    Skipped,
    SourceChanged,
    SpilledOver,
    TlsFilesChanged,
)
from kubelb.printable import printable
from kubelb.telemetry.broken import logger, say
from kubelb.telemetry.churn import QUIET, Churn, Later

__all__ = ["QUIET", "LogSink"]

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
        level, problem = (logging.WARNING, f": {event.problem}") if event.problem else (logging.INFO, "")
        say(level, "%s: %s%s", printable(event.service), text, problem)

    def __call__(self, event: Event) -> None:
        if isinstance(event, EndpointsChanged) and not event.problem:
            if logger.isEnabledFor(logging.INFO):
                self._churn(event)
            return
        level, key, text = _line(event)
        if not logger.isEnabledFor(level):
            return
        now = self._clock()
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
        say(level, "%s: %s%s", printable(event.service), text, f" ({held} more like it)" if held else "")

    def after_fork_in_child(self) -> None:
        """Replace the lock."""
        self._lock = threading.Lock()
        self._churn.after_fork_in_child()


def _line(event: Event) -> tuple[int, tuple[str, ...], str]:
    """Return level, what must not be repeated at once, and text."""
    kind = type(event).__name__
    match event:
        case EndpointsChanged():
            text = f"{event.used} endpoints in use, {event.parked} parked"
            text += f", {len(event.removed)} went" if event.removed else ""
            return logging.WARNING, (kind, event.service, event.problem), f"{text}: {event.problem}"
        case Ejected():
            times = f", ejection {event.times} in a row" if event.times > 1 else ""
            text = f"{event.endpoint} ejected for {event.duration:.1f} s: {event.reason}{times}{_only(event.observed)}"
            return logging.WARNING, (kind, event.service, event.endpoint, str(event.times)), text
        case EjectionSpared():
            text = f"{event.endpoint} fails and is kept: {event.reason}{_only(event.observed)}"
            return logging.WARNING, (kind, event.service, event.endpoint), text
        case Returned():
            text = f"{event.endpoint} is back: {event.why}{_only(event.observed)}"
            return logging.INFO, (kind, event.service, event.endpoint), text
        case ShareBounded():
            share = "gets its fair share and no more" if event.over else "is bounded to its fair share no longer"
            level = logging.WARNING if event.over else logging.INFO
            return (
                level,
                (kind, event.service, event.endpoint, str(event.over)),
                f"{event.endpoint} {share}: {event.reason}",
            )
        case Retried():
            text = f"attempt {event.number} follows in {event.delay * 1000:.0f} ms: {event.endpoint} {event.reason}"
            return logging.DEBUG, (kind, event.service, event.endpoint, event.reason), text
        case BudgetExhausted():
            text = f"no retry after {event.reason}: the retry budget is used up"
            return logging.WARNING, (kind, event.service), text
        case LimitReached():
            where = f"{event.endpoint}: " if event.endpoint else ""
            text = f"{where}{event.limit}={event.value} is reached, and what is more refused"
            key = (kind, event.service, event.limit, event.endpoint)
            return logging.WARNING, key, text + _only(event.observed)
        case LocalTrouble():
            text = f"{event.endpoint} is not to blame: {event.reason}; {event.cure}"
            return logging.WARNING, (kind, event.service, event.kind), text
        case CircuitChanged():
            whose = f"the circuit of {event.endpoint or 'the service'}"
            how_long = f" for {event.duration:.1f} s" if event.state == "open" else ""
            text = f"{whose} is {event.state}{how_long}: {event.reason}{_only(event.observed)}"
            level = logging.WARNING if event.state == "open" else logging.INFO
            return level, (kind, event.service, event.endpoint, event.state), text
        case DiscoveryFailed():
            cure = f"; {event.cure}" if event.cure else ""
            text = f"discovery {event.kind}: {event.reason}{cure}; what is known of endpoints stays in use"
            return logging.WARNING, (kind, event.service, event.kind), text
        case DiscoveryRecovered():
            return logging.INFO, (kind, event.service), f"discovery is back after {event.seconds:.1f} s"
        case Skipped():
            return logging.WARNING, (kind, event.service, event.what), f"{event.what} left out: {event.reason}"
        case SourceChanged():
            cure = f"; {event.cure}" if event.cure else ""
            text = (
                f"endpoints come from {event.source}, no longer from {event.before}: {event.kind}, {event.reason}{cure}"
            )
            level = logging.INFO if event.kind == "recovered" else logging.WARNING
            return level, (kind, event.service, event.source, event.kind), text
        case SpilledOver():
            text = f"topology hints are {'not followed for now' if event.over else 'followed again'}: {event.reason}"
            return logging.WARNING if event.over else logging.INFO, (kind, event.service, str(event.over)), text
        case TlsFilesChanged(error=""):
            return logging.INFO, (kind, event.service), f"{', '.join(event.files)}: changed, and read again"
        case TlsFilesChanged():
            text = (
                f"{', '.join(event.files)}: changed, and cannot be used ({event.error}); what was read before still is"
            )
            return logging.WARNING, (kind, event.service, event.error), text


def _only(observed: bool) -> str:
    """Say that it was a report and no more."""
    return " (observed only: nothing was done)" if observed else ""
