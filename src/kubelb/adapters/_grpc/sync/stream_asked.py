"""What may be asked of a sync call with a stream of responses: it is a `grpc.Call` and a `grpc.Future`.

The latest attempt's RPC speaks for the call. Where there is none, the refusal does, or how the call has ended; a bare
iterator, which some interceptors make of an RPC, knows neither its status nor its end, so both are kept for it.
"""

import threading
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any

import grpc

from kubelb.adapters._grpc.shared.refusals import Cancelled, asked
from kubelb.adapters._grpc.shared.speaking import Speaking
from kubelb.adapters._grpc.sync.endings import Endings
from kubelb.core.lease import Lease
from kubelb.model import CANCELLED

__all__ = ["Asked"]


class Asked(Speaking, grpc.Call, grpc.Future):  # type: ignore[type-arg]  # generic in the stubs only
    """Base of `ResponseStream`, which makes the attempts."""

    _calling: Any
    _endings: Endings
    _lock: threading.Lock
    _timeout: float | None
    _start: float
    _cancelled: bool
    _begun: bool
    """Whether the first message, or the end, has been seen."""
    _lease: Lease | None
    _inner: Any
    """The RPC of the latest attempt; None before the first, or where there is none."""
    _watched: bool
    """Whether the RPC tells of its end by itself; not a bare iterator, which some interceptors make of one."""
    _refusal: Any
    _opened: threading.Event | None
    """Set when there is a first attempt, or a refusal, where it had to be waited for."""

    def _call(self, timeout: float | None = None) -> Any:
        """Return what speaks for the call: its RPC, or what it has ended with, None where that is OK.

        It waits where there is no attempt yet. Once there is one it can be asked, also by a callback in the thread that
        has just started it. An RPC waits by itself; a bare iterator cannot say, so its end is waited for here.
        """
        if self._opened is not None and self._inner is None:
            self._opened.wait(timeout)
        if self._refusal is not None:
            return self._refusal
        if self._watched and self._inner is not None:
            return self._inner
        over = threading.Event()
        if self._endings.add(over.set) and not over.wait(timeout):
            raise grpc.FutureTimeoutError
        last = self._endings.last
        return self._refusal if last is None else last.error

    def _said(self) -> tuple[Any, Any] | None:
        if self._refusal is None and (self._inner is None or self.is_active()):
            return None
        return self.code(), self.details()

    def cancel(self) -> Any:
        """End the call; False where it has ended, or where it cannot be: see the docs on bare iterators."""
        if self._refusal is not None:
            return False
        with self._lock:
            before, self._cancelled = self._cancelled, True
            inner = self._inner
        if inner is None:
            return not before
        return inner.cancel() if self._watched else self._close(inner)

    def _close(self, inner: Any) -> bool:
        """End a bare iterator, which some interceptors make of a call: nothing can be told to one that is being read.

        What reads it then goes on, and so does its RPC; a deadline or `close()` of the channel ends them.
        """
        if self._endings.over:
            return False
        try:
            inner.close()
        except (ValueError, AttributeError):  # it is being read at this moment, or is none that can be closed
            self._cancelled = False
            return False
        self._refusal = Cancelled()
        self._begun = True
        assert self._lease is not None
        self._endings.commit(over=False)
        self._endings.ended(CANCELLED, self._lease)
        return True

    def cancelled(self) -> bool:
        """Whether the caller ended it."""
        return bool(self._inner.cancelled()) if self._inner is not None and self._watched else self._cancelled

    def is_active(self) -> bool:
        """Whether it has not ended."""
        if self._refusal is not None:
            return False
        if self._inner is None:
            return not self._cancelled
        return bool(self._inner.is_active()) if self._watched else not self._endings.over

    def running(self) -> bool:
        """Whether it has not ended."""
        return self.is_active()

    def done(self) -> bool:
        """Whether it has ended."""
        return not self.is_active()

    def time_remaining(self) -> Any:
        """Return the seconds left of the call's timeout; None without one."""
        if self._timeout is None:
            return None
        return float(max(0.0, self._start + self._timeout - self._calling.clock()))

    def initial_metadata(self) -> Any:
        """Wait for the server's and return it; a bare iterator knows of none."""
        if self._opened is not None and self._inner is None:
            self._opened.wait()
        return asked(self._call() if self._watched else None, "initial_metadata", ())

    def trailing_metadata(self) -> Any:
        """Wait for the end and return the server's."""
        return asked(self._call(), "trailing_metadata", ())

    def code(self) -> Any:
        """Wait for the end and return the status."""
        call = self._call()
        return grpc.StatusCode.OK if call is None else asked(call, "code", grpc.StatusCode.UNKNOWN)

    def details(self) -> Any:
        """Wait for the end and return the status's text."""
        return asked(self._call(), "details", "")

    def debug_error_string(self) -> Any:
        """Wait for the end and return what core knows of an error."""
        return asked(self._call(), "debug_error_string", "")

    def add_callback(self, callback: Callable[[], object]) -> bool:
        """Have it called when the call has ended; False where it has."""
        return self._refusal is None and self._endings.add(callback)

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Call `fn(self)` when it has ended; at once where it has."""
        if not self.add_callback(partial(fn, self)):
            fn(self)

    def result(self, timeout: float | None = None) -> Any:
        """As grpcio's: wait for the end; raises the RpcError, FutureTimeoutError or FutureCancelledError."""
        call = self._call(timeout)
        if call is not None and call is self._inner:
            return call.result(timeout)
        if call is not None:
            raise asked(call, "exception", call)
        return None

    def exception(self, timeout: float | None = None) -> Any:
        """Wait for the end and return the RpcError, None where there is none."""
        call = self._call(timeout)
        if call is not None and call is self._inner:
            return call.exception(timeout)
        return asked(call, "exception", call)

    def traceback(self, timeout: float | None = None) -> TracebackType | None:
        """Wait for the end and return where the RpcError was raised."""
        error = self.exception(timeout)
        found: TracebackType | None = None if error is None else error.__traceback__
        return found
