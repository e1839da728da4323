"""Threads for handlers that may block: as many as calls are under way at once, and no more.

An executor in the shape that `grpc.server` wants. Unlike `ThreadPoolExecutor`, its threads are daemons, so that a call
that hangs keeps no interpreter from ending, and there is no limit behind which calls queue: a test that has a thousand
calls hang means a thousand.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
IDLE = 2.0  # seconds after which a thread without work ends


class Threads(Executor):
    """Runs each function on an idle thread, or on a new one. It starts none until there is work."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._work: deque[Callable[[], None]] = deque()
        self._idle = 0
        self._all: set[threading.Thread] = set()
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """The future is cancelled after `close`."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - it is the future's to tell
                future.set_exception(error)

        with self._changed:
            if self._closed:
                future.cancel()
                return future
            self._work.append(run)
            if self._idle >= len(self._work):
                self._changed.notify()
            else:
                thread = threading.Thread(target=self._serve, name="kubelb-testing-handler", daemon=True)
                self._all.add(thread)
                thread.start()
        return future

    def close(self) -> None:
        """End those that are idle now, and each other one when its function returns."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def join(self, until: float) -> None:
        """Wait until all have ended, no longer than to `until` (`time.monotonic()`)."""
        with self._changed:
            threads = list(self._all)
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _serve(self) -> None:
        while (work := self._next()) is not None:
            work()
            del work  # what a function held must not live as long as its thread

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            self._idle += 1
            while not self._work:
                if self._closed or not (self._changed.wait(IDLE) or self._work):
                    self._idle -= 1
                    self._all.discard(threading.current_thread())
                    return None
            self._idle -= 1
            return self._work.popleft()
