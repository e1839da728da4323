"""Things that a cluster does a little later: a slice that follows a dead pod, the end of a grace period."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
import time
from collections.abc import Callable

Action = Callable[[], None]


class Timers:
    """Runs actions after a delay, in order of their due time, on one thread. What is due after `close` never runs."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Action]] = []
        self._order = itertools.count()  # equal due times run in the order in which they were asked for
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def after(self, delay: float, action: Action) -> None:
        """Run `action` in `delay` seconds; at once and on the caller's thread when the delay is not positive."""
        if delay <= 0:
            action()
            return
        with self._changed:
            if self._closed:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="kubelb-testing-timers", daemon=True)
                self._thread.start()
            heapq.heappush(self._heap, (time.monotonic() + delay, next(self._order), action))
            self._changed.notify()

    def close(self) -> None:
        """Drop what is pending and end the thread."""
        with self._changed:
            self._closed = True
            self._heap.clear()
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(1.0)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (not self._heap or self._heap[0][0] > time.monotonic()):
                    self._changed.wait(self._heap[0][0] - time.monotonic() if self._heap else None)
                if self._closed:
                    return
                action = heapq.heappop(self._heap)[2]
            with contextlib.suppress(Exception):  # one failed action must not end the ones that follow
                action()
