"""What may be asked of a call that does not block: it is a `grpc.Future` and a `grpc.Call`.

Once done, the latest attempt's own RPC speaks for it, or what it came to does where no RPC says that: a refusal, a
cancel.

It is made for each call and waited for by few, so it has no lock and no event of its own. What it came to is put into
a list, `_ends`: it may end and be cancelled in the same moment, and the first thing put in is what counts. Whatever
waits puts a lock into another list and then looks whether it came too late; so do callbacks, which are taken out by
what calls them.
"""

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any

import grpc
from grpc import StatusCode

from kubelb.adapters._grpc.shared.refusals import Cancelled, asked
from kubelb.adapters._grpc.shared.speaking import Speaking
from kubelb.runtime.callback import CallbackDriver
from kubelb.threads import report

__all__ = ["Asked"]


class Asked(Speaking, grpc.Future, grpc.Call):  # type: ignore[type-arg]  # generic in the stubs only
    """Base of `CallFuture`, which makes the attempts."""

    _calling: Any
    _timeout: float | None
    _start: float
    _ends: list[Any]
    """Empty while it runs. The first one is what it came to: None for a response, else the error."""
    _callbacks: list[Callable[[], object]]
    _waiters: list[Any]
    """A lock for each thread that waits, released when it has ended."""
    _driver: CallbackDriver | None = None
    """Of the attempt flow, while that has taken over."""
    _inner: Any = None
    """The RPC of the latest attempt; None before the first."""
    _value: Any = None

    def _end(self, came_to: Any) -> None:
        """It has ended so, unless it has been cancelled before. Callbacks are called here, and raise nothing."""
        self._ends.append(came_to)
        if self._waiters:
            self._wake()
        subs = self._calling.channel.subs
        if subs.leaving:
            subs.leave()
        while self._callbacks:
            try:
                callback = self._callbacks.pop(0)
            except IndexError:  # it was taken back
                break
            try:
                callback()
            except Exception as raised:  # noqa: BLE001  # whose thread this is must go on
                report(raised)

    def _wake(self) -> None:
        with suppress(IndexError):
            while True:
                self._waiters.pop().release()

    def _wait(self, timeout: float | None) -> bool:
        """Wait for the end; returns whether it has come within so many seconds."""
        lock = threading.Lock()
        lock.acquire()
        self._waiters.append(lock)
        if not self._ends:  # else what ended it may have woken those before this one
            if timeout is None:
                lock.acquire()
            elif timeout <= 0 or not lock.acquire(timeout=min(timeout, threading.TIMEOUT_MAX)):
                with suppress(ValueError):
                    self._waiters.remove(lock)
        return bool(self._ends)

    # grpc.Future

    def cancel(self) -> bool:
        """End the call; False where it has ended. Then it is cancelled, whatever its RPC comes to."""
        if self._ends:
            return False
        mine = Cancelled()
        self._ends.append(mine)
        if self._ends[0] is not mine:
            return False
        self._wake()  # its callbacks are called when its RPC has ended, not in this thread
        driver, inner = self._driver, self._inner
        if driver is not None:
            driver.cancel()
        elif inner is not None:
            inner.cancel()
        return True

    def cancelled(self) -> bool:
        """Whether the caller ended it."""
        return bool(self._ends) and type(self._ends[0]) is Cancelled

    def running(self) -> bool:
        """Whether it has not ended."""
        return not self._ends

    def done(self) -> bool:
        """Whether it has ended."""
        return bool(self._ends)

    def result(self, timeout: float | None = None) -> Any:
        """Return the response; raises the RpcError, FutureTimeoutError or FutureCancelledError."""
        if (error := self.exception(timeout)) is not None:
            raise error
        return self._value

    def exception(self, timeout: float | None = None) -> Any:
        """Return what `result` would raise; raises FutureTimeoutError or FutureCancelledError."""
        if not (self._ends or self._wait(timeout)):
            raise grpc.FutureTimeoutError
        error = self._ends[0]
        if type(error) is Cancelled:
            raise grpc.FutureCancelledError
        return error

    def traceback(self, timeout: float | None = None) -> TracebackType | None:
        """Return where the exception was raised."""
        error = self.exception(timeout)
        if error is None:
            return None
        try:
            raise error
        except type(error):
            return sys.exc_info()[2]

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Call `fn(self)` when it has ended; at once where it has."""
        if not self.add_callback(partial(fn, self)):
            fn(self)

    # grpc.Call: once ended, the last RPC's

    def add_callback(self, callback: Callable[[], object]) -> bool:
        """Have it called when the call has ended; False where it has."""
        if self._ends:
            return False
        self._callbacks.append(callback)
        if self._ends:  # meanwhile: either what ended it has taken this one, too, or it is still here
            with suppress(ValueError):
                self._callbacks.remove(callback)
                return False
        return True

    def is_active(self) -> bool:
        """Whether it has not ended."""
        return not self._ends

    def time_remaining(self) -> Any:
        """Return the seconds left of the call's timeout; None without one."""
        if self._timeout is None:
            return None
        return float(max(0.0, self._start + self._timeout - self._calling.clock()))

    def initial_metadata(self) -> Any:
        """Return the server's, when the call has ended."""
        return asked(self._ended(), "initial_metadata", ())

    def trailing_metadata(self) -> Any:
        """Return the server's, when the call has ended."""
        return asked(self._ended(), "trailing_metadata", ())

    def code(self) -> Any:
        """Return the status, when the call has ended."""
        return asked(self._ended(), "code", StatusCode.UNKNOWN)

    def details(self) -> Any:
        """Return the status's text, when the call has ended."""
        return asked(self._ended(), "details", "")

    def debug_error_string(self) -> Any:
        """Return what core knows of an error, when the call has ended."""
        return asked(self._ended(), "debug_error_string", "")

    def _ended(self) -> Any:
        if not self._ends:
            self._wait(None)
        error = self._ends[0]
        return self._inner if error is None else error

    def _said(self) -> tuple[Any, Any] | None:
        return (self.code(), self.details()) if self._ends else None
