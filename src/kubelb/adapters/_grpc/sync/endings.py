"""When a stream is over: its lease is released, and callbacks are called.

An RPC that failed before its first message can still be replaced by another attempt, so its end is not the end of the
call. Once a message was seen, or where nothing can be repeated, it is. What is kept here refers to no RPC and no
stream, so that a stream that is dropped is freed at once, and its RPC with it.

grpcio calls back in the one thread in which all calls of a channel end. An exception there would end that thread, and
every other call would hang. So none is raised.
"""

import threading
from collections.abc import Callable
from typing import Any
from weakref import ref

from grpc import StatusCode

from kubelb.core.lease import Lease
from kubelb.model import CANCELLED, SUCCESS, Outcome, Verdict
from kubelb.threads import report

__all__ = ["Endings"]


class Endings:
    """Of one call. `final(outcome)` says whether an attempt that ended so is the call's last.

    `judged(error, lease, overdue)` returns an attempt's outcome.
    """

    def __init__(
        self,
        final: Callable[[Outcome], bool],
        left: Callable[[], None],
        judged: Callable[[Any, Lease, float | None], Outcome],
    ) -> None:
        self.overdue: Callable[[], float | None] = lambda: None
        """Returns the seconds since the end of the deadline, from the moment on when a first message is waited for: a
        stream that is not read is silent through no fault of its endpoint."""
        self._final = final
        self._judged = judged
        self._left = left
        self._lock = threading.Lock()
        self._committed = False
        self.over = False
        """Whether the call has ended."""
        self.last: Outcome | None = None
        """How the latest attempt has ended."""
        self._callbacks: list[Callable[[], object]] = []

    def watch(self, inner: Any, lease: Lease) -> None:
        """Release the lease when this RPC ends, however it does."""
        weak = ref(inner)

        def over() -> None:
            call = weak()
            outcome = CANCELLED  # dropped, which cancels it
            try:
                if call is not None:
                    outcome = SUCCESS if call.code() is StatusCode.OK else self._judged(call, lease, self.overdue())
            except Exception as error:  # noqa: BLE001  # of what an interceptor has put around the call
                outcome = Outcome(Verdict.NEUTRAL, reason="interceptor", error=error)
            self.ended(outcome, lease)

        if not inner.add_callback(over):
            over()

    def commit(self, over: bool) -> None:
        """No other attempt will follow; `over`: the one there is has ended."""
        with self._lock:
            self._committed = True
        if over:
            self._fire()

    def add(self, callback: Callable[[], object]) -> bool:
        """Have it called at the call's end; False where that is past."""
        with self._lock:
            if not self.over:
                self._callbacks.append(callback)
            return not self.over

    def ended(self, outcome: Outcome, lease: Lease) -> None:
        """In grpcio's thread of the sub-channel, or in whatever thread dropped the call: nothing here blocks."""
        lease.release(outcome)
        self.last = outcome
        self._left()
        if self._committed or self._final(outcome):
            self._fire()

    def _fire(self) -> None:
        with self._lock:
            self.over = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception as error:  # noqa: BLE001  # whose thread this is must go on
                report(error)
