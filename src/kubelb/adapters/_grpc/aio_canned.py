"""A stream that an interceptor of asyncio has answered by itself: from a cache, in a test.

grpcio makes a call object of what such an interceptor returns, and asks the RPC below for everything but the messages.
Where no RPC was made it asks None, so that the call never ends, cannot be cancelled and knows no status. This one
does: it has ended when its messages have, with OK, or when it is cancelled.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio
from grpc import StatusCode

__all__ = ["answered"]

LOCALLY = "Locally cancelled by application!"


def answered(call: Any, kind: str, failed: Callable[[Exception], Exception]) -> Any:
    """Return a call of grpcio's as it is where there is an RPC below, else one that knows its own end.

    `kind`: "unary_stream" and so on; calls with one response are done when they are returned. `failed` returns what
    carries an exception of the messages' to the end of the call, as its `__cause__`.
    """
    below = call
    while kind in _KINDS:
        lower = getattr(below, "_call", below)  # grpcio's own, and private: of what it makes of an interceptor's answer
        if lower is None:
            return _KINDS[kind](aiter(call), failed)
        if lower is below:
            break
        below = lower
    return call


class _Canned:
    def __init__(self, messages: AsyncIterator[Any], failed: Callable[[Exception], Exception]) -> None:
        self._messages = messages
        self._failed = failed
        self._code: StatusCode | None = None
        self._error: Exception | None = None
        self._over = asyncio.Event()
        self._callbacks: list[Callable[[Any], object]] = []

    def _end(self, code: StatusCode) -> None:
        if self._code is None:
            self._code = code
            self._over.set()
            callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:
                callback(self)

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            async for message in self._messages:
                if self._code is not None:
                    return
                yield message
        except Exception as error:
            self._error = self._failed(error)
            self._end(StatusCode.UNKNOWN)
            raise
        self._end(StatusCode.OK)

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
        return None

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
