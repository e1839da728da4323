"""Waiting for what other threads and processes do."""

import time
from collections.abc import Callable

__all__ = ["until"]


def until(condition: Callable[[], object], seconds: float = 20.0) -> bool:
    """Whether a condition comes true in time: servers learn of a closed connection a moment later, or more on a busy
    machine.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True
