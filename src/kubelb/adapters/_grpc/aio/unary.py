"""Asyncio calls with one response: they are awaited.

Dropping one does not cancel it, as with grpcio: the RPC goes on to its end, and so does its place in flight.
"""

import asyncio
from collections.abc import Awaitable, Generator
from contextlib import suppress
from functools import partial
from typing import Any

import grpc.aio

from kubelb.adapters._grpc.aio.call import AioCall
from kubelb.adapters._grpc.aio.endings import (
    AGAIN,
    PATIENCE,
    cancelled,
    ended,
    ending,
    provisional,
    status_of,
    went_well,
)
from kubelb.core.lease import Lease
from kubelb.model import CANCELLED, Outcome

__all__ = ["OneResponse"]


class OneResponse(AioCall):
    """An awaitable."""

    _lease: Lease | None = None
    """Of a first attempt that runs."""
    _watching: asyncio.Task[None] | None = None

    def __await__(self) -> Generator[Any, Any, Any]:
        if self._task is None and self._inner is not None:
            try:
                return (yield from self._inner.__await__())
            except grpc.aio.AioRpcError:
                self._first_ended(self._inner, last=True)  # and whether it is the call's end, too, that says
            except asyncio.CancelledError as error:
                self.cancel()
                self._blame(error)
                raise
            except Exception as error:
                self._broke(error)
                raise
            if self._task is None:
                yield from self._raise().__await__()
        if self._task is None:
            raise self._error or AssertionError
        try:
            outcome = yield from self._task
        except asyncio.CancelledError as error:
            self._blame(error)
            raise
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    def _watch(self, inner: Any, lease: Lease) -> None:
        self._lease = lease
        self._calling.channel.running.add(inner)
        inner.add_done_callback(self._first_ended)

    def _first_ended(self, inner: Any, *, last: bool = False, again: float = AGAIN[0]) -> None:
        """Told of a status; `last`: no other will come; `again`: seconds until the next look."""
        lease = self._lease
        if lease is None:
            return
        if self._late_writes and not self._told(inner, last=last):
            look = partial(self._first_ended, inner, last=2 * again > PATIENCE, again=2 * again)
            self._calling.channel.loop.call_later(again, look)
            return
        self._lease = None
        channel = self._calling.channel
        channel.running.discard(inner)
        if not went_well(inner):
            self._attempt_over(ended(inner, lease, channel.subs, self._overdue()))
            return
        lease.release()
        if self._late_writes or self._callbacks or self._moved or channel.subs.leaving:
            self._finish(None)
        else:
            self._over = True  # which is all of `_finish` where nothing waits for the end

    def _told(self, inner: Any, *, last: bool = False) -> bool:
        """Keep the status of the latest attempt where it may be overwritten; False where it is a late write's."""
        if self._late_writes and self._status is None and inner is self._inner:
            if not last and provisional(inner):
                return False
            self._status = status_of(inner)
        return True

    def _give_up(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            self._calling.channel.running.discard(self._inner)
            lease.release(CANCELLED)
            self._finish(cancelled())

    def _broke(self, error: Exception) -> None:
        """The caller's own: a request that cannot be serialized is never sent, and grpcio does not tell of its end."""
        lease, self._lease = self._lease, None
        if lease is not None:
            self._calling.channel.running.discard(self._inner)
            lease.release(None)
            self._finish(error)

    async def _received(self, inner: Any, lease: Lease) -> Outcome:  # noqa: ARG002
        if self._late_writes:
            inner.add_done_callback(self._told)
        try:
            return Outcome(value=await inner)
        except grpc.aio.AioRpcError:
            self._told(inner, last=True)
            raise (ending(inner, self._status).error or AssertionError) from None

    async def _ended(self) -> None:
        if not self._over and self._watching is None:  # so that also a call that breaks has an end
            self._watching = asyncio.ensure_future(_quietly(self))
        await super()._ended()


async def _quietly(call: Awaitable[Any]) -> None:
    with suppress(Exception):  # what awaits the call gets it
        await call
