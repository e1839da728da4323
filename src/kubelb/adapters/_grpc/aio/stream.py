"""Asyncio calls with a stream of responses: iterated, or read one by one.

An endpoint is picked once for a stream, when the call is made. Until its first message is here another endpoint may
take over, by the same rules as for any call; afterwards the stream is that endpoint's, and what breaks it reaches the
caller as it is. Its latency is that of the first message.

grpcio keeps an RPC alive whose call is not held any more, until the server ends it. So a stream that is dropped half
read is cancelled here: what sees to an RPC's end refers weakly to the call, and hears of its going.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Self
from weakref import ref

import grpc.aio

from kubelb.adapters._grpc.aio.call import AioCall
from kubelb.adapters._grpc.aio.endings import AGAIN, PATIENCE, cancelled, ended, ending, provisional, status_of, tell
from kubelb.adapters._grpc.aio.replay import AioReplay
from kubelb.core.lease import Lease
from kubelb.model import CANCELLED, Outcome

__all__ = ["ManyResponses"]

EOF = grpc.aio.EOF
FIRST = Outcome(open=True)
"""What an endpoint is told at the first message of a stream that goes on."""
MIXED = "The iterator and read/write APIs may not be mixed on a single RPC."


class ManyResponses(AioCall):
    """An asynchronous iterator; `read` is the other way."""

    _style = ""
    _begun = False
    """Whether the first message, or the end, was seen."""
    _unread: tuple[Any, ...] = ()
    """The first message, where another attempt brought it."""
    _rpc: "_Rpc | None" = None
    _pull: Callable[[], Awaitable[Any]]
    """Reads from the latest attempt."""
    _checking: asyncio.Task[None] | None = None

    def __aiter__(self) -> Self:
        self._in_style("iterator")
        return self

    async def __anext__(self) -> Any:
        message = await self._next()
        if message is EOF:
            raise StopAsyncIteration
        return message

    async def read(self) -> Any:
        """Return the next response, `grpc.aio.EOF` after the last."""
        self._in_style("read")
        return await self._next()

    def _in_style(self, style: str) -> None:
        if self._style not in ("", style):
            raise grpc.aio.UsageError(MIXED)
        self._style = style

    async def _next(self) -> Any:
        try:
            message = await (self._first() if self._unread or not self._begun else self._read())
            if message is EOF:
                await self._ended()
                await self._raise()
        except asyncio.CancelledError as error:
            self.cancel()
            self._blame(error)
            raise
        return message

    async def _read(self) -> Any:
        """Return the next message of the latest attempt, EOF where it has none, for whatever reason."""
        rpc = self._rpc
        if rpc is not None and not self._begun:
            rpc.overdue = partial(self._calling.overdue, self._start, self._timeout)
        if self._cancelling:
            return EOF
        try:
            message = await self._pull()
        except grpc.aio.AioRpcError:  # the status says more, once it is here
            message = EOF
        if message is EOF and rpc is not None and not rpc.over and rpc.inner.done():
            rpc.ended(rpc.inner)
            rpc.channel.loop.call_later(PATIENCE, partial(rpc.ended, rpc.inner, last=True))
        return message

    async def _first(self) -> Any:
        """Return the first message, or the end, of the attempt that brings it."""
        if self._task is None and self._error is None and not self._unread:
            try:
                message = await self._read()
            except Exception as error:
                self._broke(error)
                raise
            if message is not EOF:
                self._seen()
                return message
            await self._until(lambda: self._task is not None)
        if self._task is not None:
            outcome = await self._task
            if outcome.error is not None:
                raise outcome.error
        (message,), self._unread = self._unread or (EOF,), ()
        return message

    def _seen(self) -> None:
        self._begun = True
        self._commit()
        if self._rpc is not None:
            self._rpc.lease.observe(FIRST)

    async def _ended(self) -> None:
        if not (self._over or self._begun or self._late_writes or self._checking):
            self._checking = asyncio.ensure_future(self._check())
        await super()._ended()

    async def _check(self) -> None:
        """See to it that also a call that breaks has an end."""
        await self._until(lambda: self._inner is not None)
        if self._inner is not None:
            try:
                await self._inner.wait_for_connection()
            except grpc.aio.AioRpcError:
                pass
            except Exception as error:  # noqa: BLE001  # what reads gets it
                self._broke(error)

    # From attempt to attempt

    def _watch(self, inner: Any, lease: Lease) -> None:
        self._rpc = rpc = _Rpc(self, _dropped)
        rpc.inner, rpc.lease, rpc.channel = inner, lease, self._calling.channel
        rpc.requests, rpc.callbacks, rpc.over = self._request if self._late_writes else None, self._callbacks, False
        rpc.overdue = lambda: None
        # `read` takes a late write's status for the end although there may be messages.
        self._pull = rpc.pull = partial(anext, aiter(inner), EOF) if self._late_writes else inner.read
        rpc.channel.running.add(inner)
        rpc.channel.keeper.begin()
        inner.add_done_callback(rpc.ended)

    async def _received(self, inner: Any, lease: Lease) -> Outcome:
        self._watch(inner, lease)
        message = await self._read()
        if message is not EOF:
            lease.observe(FIRST)
            return Outcome(open=True, value=message)
        await self._until(lambda: lease.released)
        error = ending(inner, self._status).error
        if error is not None:
            raise error
        return Outcome(value=EOF)

    async def _discard(self, outcome: Outcome) -> None:
        if (rpc := self._rpc) is not None and rpc.lease is outcome.lease:
            rpc.cancel()

    def _brought(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            self._finish(outcome.error)
            return
        self._task = None  # what it holds would hold this call
        self._begun, self._unread = True, (outcome.value,)
        self._commit()
        if self._rpc is None or self._rpc.over:
            self._finish(None)

    def ended(self, outcome: Outcome | BaseException, status: grpc.aio.AioRpcError | None) -> None:
        """The latest attempt has."""
        self._status = status
        if self._task is None:
            self._attempt_over(outcome)
        else:  # the flow hears of it
            self._news()

    def _give_up(self) -> None:
        if self._rpc is not None and not self._rpc.over:
            self._rpc.give_up()
            self._finish(cancelled())

    def _broke(self, error: Exception) -> None:
        """The caller's own: a request that cannot be serialized is never sent, and grpcio does not tell of its end."""
        if self._rpc is not None and not self._rpc.over:
            self._rpc.over = True
            self._calling.channel.running.discard(self._rpc.inner)
            self._rpc.lease.release(None)
            self._finish(error)

    def add_done_callback(self, callback: Any) -> None:
        """Call `callback(self)` when it has ended, at once where it has; with the RPC's own call if this is dropped."""
        super().add_done_callback(callback)
        if self._rpc is not None:
            self._rpc.callbacks = self._callbacks


class _Rpc(ref[ManyResponses]):
    """Sees an RPC to its end, whether or not its call is still there."""

    __slots__ = ("callbacks", "channel", "inner", "lease", "over", "overdue", "pull", "requests")

    inner: Any
    lease: Lease
    channel: Any
    requests: AioReplay | None
    callbacks: Any
    pull: Callable[[], Awaitable[Any]]
    over: bool
    overdue: Callable[[], float | None]
    """Returns the seconds since the end of the deadline, from the moment on when a first message is waited for."""

    def ended(self, inner: Any, *, last: bool = False, again: float = AGAIN[0]) -> None:
        """On the event loop, when a status is here; `last`: no other comes; `again`: seconds until the next look."""
        if self.over:
            return
        status = None
        if self.requests is not None:
            if not last and provisional(inner):  # the server's comes after its messages
                look = partial(self.ended, inner, again=min(2 * again, AGAIN[1]))
                self.channel.loop.call_later(again, look)
                return
            status = status_of(inner)
        outcome = ended(inner, self.lease, self.channel.subs, self.overdue())
        self._end()
        call = self()
        if call is not None and call._rpc is self:  # noqa: SLF001  # not thrown away by a retry
            call.ended(outcome, status)

    def cancel(self) -> None:
        """It is not wanted any more."""
        if not self.inner.cancel() and not self.over:
            self.give_up()

    def give_up(self) -> None:
        """Cancel what grpcio takes for ended, by a late write's status: it holds messages that are not read."""
        self.lease.release(CANCELLED)
        self._end()
        self.channel.aside(_emptied(self.pull))

    def _end(self) -> None:
        self.over = True
        self.channel.running.discard(self.inner)
        if self() is not None:
            return
        for callback in self.callbacks or ():
            tell(self.channel.loop, callback, self.inner)
        if self.requests is not None:
            self.requests.end()
        self.channel.left()


async def _emptied(pull: Callable[[], Awaitable[Any]]) -> None:
    """Read what is left, without which core keeps the call."""
    with suppress(Exception):  # what reads at this moment does the same
        while await pull() is not EOF:
            pass


def _dropped(rpc: _Rpc) -> None:
    """A finalizer, in whatever thread: it takes no lock, and the event loop does the rest."""
    if not rpc.over:
        with suppress(RuntimeError):  # the loop is closed, and the connection with it
            rpc.channel.loop.call_soon_threadsafe(rpc.cancel)
