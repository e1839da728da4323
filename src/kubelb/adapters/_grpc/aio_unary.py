"""Asyncio calls with one response: they are awaited.

Dropping one does not cancel it, as with grpcio: the RPC goes on to its end, and so does its place in flight.
"""

import asyncio
from collections.abc import Awaitable, Generator
from contextlib import suppress
from typing import Any

import grpc.aio

from kubelb.adapters._grpc.aio_call import AGAIN, AioCall, ended, ending, provisional
from kubelb.core.lease import Lease
from kubelb.model import SUCCESS, Outcome

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
                pass  # whether it is the call's, `_first_ended` says
            except asyncio.CancelledError as error:
                self._blame(error)
                raise
            except Exception as error:
                self._broke(error)
                raise
            yield from self._until(lambda: self._task is not None).__await__()
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
        inner.add_done_callback(self._first_ended)

    def _first_ended(self, inner: Any) -> None:
        lease = self._lease
        if lease is None:
            return
        if self._late_writes and provisional(inner):
            self._calling.channel.loop.call_later(AGAIN, self._first_ended, inner)
            return
        self._lease = None
        outcome = ended(inner, lease)
        if outcome is SUCCESS:
            self._finish(None)
        else:
            self._attempt_over(outcome)

    def _broke(self, error: Exception) -> None:
        """The caller's own: a request that cannot be serialized is never sent, and grpcio tells nobody of its end."""
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release(None)
            self._finish(error)

    async def _received(self, inner: Any, lease: Lease) -> Outcome:  # noqa: ARG002
        try:
            return Outcome(value=await inner)
        except grpc.aio.AioRpcError:
            while self._late_writes and provisional(inner):  # noqa: ASYNC110
                await asyncio.sleep(AGAIN)
            raise (ending(inner).error or AssertionError) from None

    async def _ended(self) -> None:
        if not self._over and self._watching is None:  # so that also a call that breaks has an end
            self._watching = asyncio.ensure_future(_quietly(self))
        await super()._ended()


async def _quietly(call: Awaitable[Any]) -> None:
    with suppress(Exception):  # whoever awaits the call gets it
        await call
