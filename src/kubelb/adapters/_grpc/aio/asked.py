"""What may be asked of an asyncio call, whatever its kind.

Once over, the latest attempt's own call speaks for the whole, or `_error` does where no attempt says it: a refusal, a
cancellation between two attempts.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc.aio
from grpc import StatusCode

from kubelb.adapters._grpc.aio.endings import LOCALLY, status_of, tell
from kubelb.adapters._grpc.shared.codes import made_here
from kubelb.adapters._grpc.shared.refusals import asked
from kubelb.adapters._grpc.shared.speaking import told
from kubelb.model import Outcome

__all__ = ["Asked"]


class Asked:
    """Base of `AioCall`, which makes the attempts."""

    _calling: Any
    _timeout: float | None
    _start: float
    _channel: Any = None
    """For grpcio 1.80: a channel that closes looks for its calls in every task's frame, and stumbles over one of ours
    that has none."""
    _inner: Any = None
    """The sub-channel's call of the latest attempt; None before the first."""
    _task: asyncio.Task[Outcome] | None = None
    """The attempt flow, where it had to take over."""
    _over = False
    _cancelling = False
    _committed = False
    """Whether the caller has seen something of the latest attempt, so that no other may follow."""
    _error: BaseException | None = None
    _callbacks: list[Callable[[Any], object]] | None = None
    _late_writes = False
    """Whether there is a stream of requests, to which grpcio may write when the call has ended (`aio/endings.py`)."""
    _status: grpc.aio.AioRpcError | None = None
    """Of the latest attempt, where there are late writes: kept, for its own call may say something else by and by."""
    _moved: asyncio.Future[None] | None = None
    """Set when another attempt begins, and when the call ends. Made only when something waits for it."""

    def __repr__(self) -> str:
        return told(self, self._calling.method, self._how())

    def _how(self) -> tuple[Any, Any] | None:
        if self._cancelling:
            return StatusCode.CANCELLED, LOCALLY
        if not self._over:
            return None
        ended: Any = self._error or self._status
        if ended is None:
            try:
                ended = status_of(self._inner)
            except Exception as error:  # noqa: BLE001  # an interceptor's own
                ended = error
        return asked(ended, "code", StatusCode.UNKNOWN), asked(ended, "details", ended)

    def cancel(self) -> bool:
        """End the call; False where it has ended."""
        if self._over or self._cancelling:
            return False
        self._cancelling = True
        if self._task is not None:
            self._task.cancel()
        elif not self._inner.cancel():
            self._give_up()
        return True

    def _give_up(self) -> None:
        """Cancelled, although grpcio takes the attempt for ended (`aio/endings.py`)."""

    def cancelled(self) -> bool:
        """Whether it was ended by its caller, or with the status CANCELLED."""
        if self._cancelling or (self._task is not None and self._task.cancelled()):
            return True
        if not self._over or self._error is not None:
            return False
        return bool(self._inner.cancelled()) if self._status is None else self._status.code() is StatusCode.CANCELLED

    def done(self) -> bool:
        """Whether it has ended."""
        return self._over or self._cancelling

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Call `callback(self)` when it has ended; at once where it has."""
        if self._over:
            tell(self._calling.channel.loop, callback, self)
        elif self._callbacks is None:
            self._callbacks = [callback]
        else:
            self._callbacks.append(callback)

    def time_remaining(self) -> float | None:
        """Return the seconds left of the call's timeout; None without one."""
        if self._timeout is None:
            return None
        return max(0.0, self._start + self._timeout - float(self._calling.clock()))

    async def initial_metadata(self) -> Any:
        """Wait for the server's and return it; the call then stays with that server."""
        while not self._over:
            inner = self._inner
            if inner is not None:
                metadata = await inner.initial_metadata()
                if inner is self._inner and not inner.done():
                    self._commit()
                    return metadata
            await self._another(inner)
        return await self._asked("initial_metadata", grpc.aio.Metadata())

    async def wait_for_connection(self) -> None:
        """Wait until the request is on its way. Raises what ends the call before that."""
        while not self._over:
            inner = self._inner
            if inner is not None:
                with suppress(grpc.aio.AioRpcError):
                    await inner.wait_for_connection()
                    return
            await self._another(inner)
        await self._raise()

    async def code(self) -> Any:
        """Wait for the end and return the status."""
        return await self._asked("code", StatusCode.UNKNOWN)

    async def details(self) -> Any:
        """Wait for the end and return the status's text."""
        return await self._asked("details", "")

    async def trailing_metadata(self) -> Any:
        """Wait for the end and return the server's."""
        return await self._asked("trailing_metadata", grpc.aio.Metadata())

    async def debug_error_string(self) -> Any:
        """Wait for the end and return what core knows of an error."""
        return await self._asked("debug_error_string", "")

    def _commit(self) -> None:
        self._committed = True

    async def _asked(self, what: str, otherwise: Any) -> Any:
        await self._ended()
        said = self._error or self._status
        if said is None:
            return await getattr(self._inner, what)()
        return asked(said, what, otherwise)

    async def _raise(self) -> None:
        """Raise what the call has ended with, if it is not OK."""
        if self._cancelling or (self._task is not None and self._task.cancelled()):
            raise asyncio.CancelledError
        if self._error is not None:
            raise self._error
        status = self._status
        ended = status_of(self._inner) if status is None else status
        if ended.details() == LOCALLY and made_here(ended):  # a server may write the same
            raise asyncio.CancelledError  # grpcio would wait for what was never sent
        if status is None:
            await self._inner.wait_for_connection()  # which raises it, and waits for nothing now
        elif status.code() is not StatusCode.OK:
            raise status

    def _blame(self, error: asyncio.CancelledError) -> None:
        """Say why grpcio cancelled the call, where no other did."""

    async def _ended(self) -> None:
        """Wait for the end, without ending it when the waiter is cancelled."""
        await self._until(lambda: self._over)

    async def _another(self, inner: Any) -> None:
        await self._until(lambda: self._inner is not inner)

    async def _until(self, changed: Callable[[], bool]) -> None:
        """Wait until it is so, or the call has ended; asked again when an attempt begins or ends."""
        while not (self._over or changed()):
            if self._moved is None:
                self._moved = self._calling.channel.loop.create_future()
            await asyncio.wait([self._moved])
