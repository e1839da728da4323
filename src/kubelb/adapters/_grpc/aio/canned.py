"""A stream that an interceptor of asyncio has answered by itself: from a cache, in a test.

grpcio makes a call object of what such an interceptor returns, and asks the RPC below for everything but the messages.
Where no RPC was made it asks None, so that the call never ends, cannot be cancelled and knows no status. This one
does: it has ended when its messages have, with OK, when it is cancelled, or when its time is over.

No core is there to wake what reads at that moment. The task that waits in the interceptor's own iterator is cancelled
there, as `asyncio.timeout` does it, so that the iterator is left at once and what it holds is given back.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import grpc.aio
from grpc import StatusCode

__all__ = ["answered"]

LOCALLY = "Locally cancelled by application!"
CUT = {StatusCode.CANCELLED, StatusCode.DEADLINE_EXCEEDED}
"""Ends that come from outside, whatever the messages do."""


def answered(call: Any, kind: str, failed: Callable[[Exception], Exception], ends: float | None = None) -> Any:
    """Return a call of grpcio's as it is where there is an RPC below, else one that knows its own end.

    `kind`: "unary_stream" and so on; calls with one response are done when they are returned. `failed` returns what
    carries an exception of the messages' to the end of the call, as its `__cause__`. `ends` is in the loop's seconds.
    """
    below = call
    while kind in _KINDS:
        lower = getattr(below, "_call", below)  # grpcio's own, and private: of what it makes of an interceptor's answer
        if lower is None:
            return _KINDS[kind](aiter(call), failed, ends)
        if lower is below:
            break
        below = lower
    return call


class _Canned:
    def __init__(
        self, messages: AsyncIterator[Any], failed: Callable[[Exception], Exception], ends: float | None
    ) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._messages = messages
        self._reader: asyncio.Task[Any] | None = None
        """What waits for a message just now."""
        self._woken = False
        """Whether that was cancelled here."""
        self._ends = ends
        self._timer = None if ends is None else loop.call_at(ends, self._overdue)
        self._failed = failed
        self._code: StatusCode | None = None
        self._error: Exception | None = None
        self._over = asyncio.Event()
        self._callbacks: list[Callable[[Any], object]] = []

    def _end(self, code: StatusCode) -> None:
        if self._code is None:
            self._code = code
            self._over.set()
            if self._timer is not None:
                self._timer.cancel()
            if code in CUT:
                with suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(self._wake)  # this may be a finalizer, in whatever thread
            callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:
                callback(self)

    def _overdue(self) -> None:
        self._error = self._failed(_late())  # carried, for no endpoint is to blame
        self._end(StatusCode.DEADLINE_EXCEEDED)

    def _wake(self) -> None:
        """It was cut short: what reads hears of it where it waits, and the messages end."""
        if self._reader is not None:
            self._woken = True
            self._reader.cancel()
        else:
            closing = self._loop.create_task(self._left())
            _closings.add(closing)
            closing.add_done_callback(_closings.discard)

    async def _left(self) -> None:
        """Close an iterator that is not read any more, so that it gives back what it holds."""
        if (close := getattr(self._messages, "aclose", None)) is not None:
            await close()

    async def _next(self) -> Any:
        """Return the next message; `EOF` after the last one, or where the call was cut short meanwhile."""
        self._reader = reader = asyncio.current_task()
        before = 0 if reader is None else reader.cancelling()
        try:
            return await anext(self._messages)
        except StopAsyncIteration:
            return grpc.aio.EOF
        except asyncio.CancelledError:
            if not self._woken or reader is None or reader.cancelling() > before + 1:  # the task itself is to end
                raise
            return grpc.aio.EOF
        finally:
            self._reader = None
            if self._woken and reader is not None:
                reader.uncancel()

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            while self._code is None and (message := await self._next()) is not grpc.aio.EOF:
                if self._code is None:
                    yield message
        except Exception as error:
            if self._code is None:
                self._error = self._failed(error)
                self._end(StatusCode.UNKNOWN)
                raise
        self._end(StatusCode.OK)
        if self._code in CUT:
            await self._left()
            raise asyncio.CancelledError(LOCALLY) if self.cancelled() else _late()

    async def read(self) -> Any:
        """Never asked: what reads goes through the iterator."""
        raise NotImplementedError

    def cancel(self) -> bool:
        if self._code is not None:
            return False
        self._end(StatusCode.CANCELLED)
        return True

    def cancelled(self) -> bool:
        return self._code is StatusCode.CANCELLED

    def done(self) -> bool:
        return self._code is not None

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        if self._code is None:
            self._callbacks.append(callback)
        else:
            callback(self)

    def time_remaining(self) -> float | None:
        return None if self._ends is None else max(0.0, self._ends - self._loop.time())

    async def initial_metadata(self) -> Any:
        return grpc.aio.Metadata()

    async def trailing_metadata(self) -> Any:
        await self._over.wait()
        return grpc.aio.Metadata()

    async def code(self) -> Any:
        await self._over.wait()
        return self._code

    async def details(self) -> Any:
        await self._over.wait()
        if self._error is not None:
            return self._error.details()  # type: ignore[attr-defined]  # an AioRpcError
        return LOCALLY if self.cancelled() else ""

    async def debug_error_string(self) -> Any:
        await self._over.wait()
        return ""

    async def wait_for_connection(self) -> None:
        if self._error is not None:
            raise self._error


def _late() -> grpc.aio.AioRpcError:
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(StatusCode.DEADLINE_EXCEEDED, nothing, nothing, "Deadline Exceeded", "")


_closings: set[asyncio.Task[None]] = set()
"""The event loop holds its tasks weakly."""


class _UnaryStream(_Canned, grpc.aio.UnaryStreamCall):  # type: ignore[type-arg]  # generic in the stubs only
    """Of one request."""


class _StreamStream(_Canned, grpc.aio.StreamStreamCall):  # type: ignore[type-arg]  # generic in the stubs only
    """Of a stream of requests; those that are written are taken by none."""

    _done_writing_flag = False

    async def write(self, request: Any) -> None:
        """Never asked: what writes goes through grpcio's own queue."""
        raise NotImplementedError

    async def done_writing(self) -> None:
        """The same."""
        raise NotImplementedError


_KINDS = {
    "unary_stream": _UnaryStream,
    "stream_stream": _StreamStream,
}
