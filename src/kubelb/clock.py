"""The only door to time.

Everything below the adapters takes ``clock=``, a callable that returns monotonic seconds, so that tests and the
simulator can run the same code under a time of their own. No other module may import `time`.
"""

import time
from collections.abc import Callable
from typing import TypeAlias

__all__ = ["Clock", "monotonic", "sleep", "wall"]

Clock: TypeAlias = Callable[[], float]
"""Returns seconds that never go backwards; only differences mean anything."""

monotonic: Clock = time.monotonic
"""The clock of production."""


def sleep(seconds: float) -> None:
    """Block the calling thread; only drivers may. Looked up each time: gevent and eventlet put theirs in its place."""
    time.sleep(seconds)


wall: Clock = time.time
"""Seconds since 1970, for what comes from outside as a date (``Retry-After``, token expiry)."""
