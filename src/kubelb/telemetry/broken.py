"""What the application's telemetry raises: told once, and no request pays for it.

Handlers, filters and formatters of logging, and OpenTelemetry's processors, samplers, propagators, views and exporters
are the application's own. One that raises (a filter that looks for a request's context in a thread that has none, say)
must neither fail a call nor keep discovery from going on: the line, or the span, is lost, and that is all.

Only the type of what was raised is told, never its words, which may hold what it choked on. A broken logger cannot tell
that it is broken: as `logging` itself does with a handler's errors, standard error hears of it, unless
``logging.raiseExceptions`` is off.
"""

import contextlib
import logging
import sys
from typing import Any

__all__ = ["lost", "say"]

logger = logging.getLogger("kubelb")
logger.addHandler(logging.NullHandler())

MOST = 100
"""Kinds of failure that are told apart; of more nothing is said."""
_told: set[tuple[str, str]] = set()


def say(level: int, message: str, *args: Any) -> None:
    """Log a line; never raises."""
    try:
        logger.log(level, message, *args, stacklevel=2)
    except Exception as error:  # noqa: BLE001
        kind = _kind(error)
        if _news("logging", kind) and logging.raiseExceptions and sys.stderr is not None:
            with contextlib.suppress(Exception):
                sys.stderr.write(f"kubelb: a line was lost: a filter or handler of logging raised {kind}\n")


def lost(what: str, error: Exception) -> None:
    """Tell once that a part of OpenTelemetry raised; never raises."""
    kind = _kind(error)
    if _news(what, kind):
        say(logging.WARNING, "telemetry: %s raised %s, so some of it is lost; requests go on", what, kind)


def _news(what: str, kind: str) -> bool:
    if (what, kind) in _told or len(_told) >= MOST:
        return False
    _told.add((what, kind))
    return True


def _kind(error: Exception) -> str:
    return type(error).__qualname__
