"""Asyncio calls with a stream of requests: from an iterable, sync or not, or written one by one."""

import asyncio
from typing import Any

import grpc.aio

from kubelb.adapters._grpc.aio.call import AioCall
from kubelb.adapters._grpc.aio.replay import AioReplay, Written
from kubelb.adapters._grpc.aio.stream import MIXED
from kubelb.core.lease import Lease
from kubelb.printable import shown

__all__ = ["ManyRequests"]


class ManyRequests(AioCall):
    """What is pulled or written is kept for another attempt until a response is here."""

    _late_writes = True

    def __init__(self, calling: Any, request_iterator: Any, *options: Any) -> None:
        self._written = Written() if request_iterator is None else None
        self._replay = AioReplay(request_iterator if self._written is None else self._written)
        super().__init__(calling, self._replay, *options)

    async def write(self, request: Any) -> None:
        """Send one request. Raises what has ended the call, InvalidStateError after `done_writing` or the end."""
        written = self._writing()
        if self.done():
            await self._refuse()
        if written.closed:
            raise asyncio.InvalidStateError('RPC is half closed after calling "done_writing".')
        if not isinstance(request, bytes) and self._calling.serializer is None:
            raise TypeError(f"write({shown(request)}): give bytes, or the method a request_serializer")
        try:
            await written.put(request)
        except asyncio.CancelledError:
            self.cancel()
            raise
        if self.done():
            await self._refuse()

    async def _refuse(self) -> None:
        task = asyncio.current_task()
        before = 0 if task is None else task.cancelling()
        try:
            await self._raise()
        except asyncio.CancelledError:  # as of a call that its caller has cancelled, and no cancellation of this task
            if task is not None and task.cancelling() > before:
                raise
        raise asyncio.InvalidStateError("RPC already finished.")

    async def done_writing(self) -> None:
        """Say that no request follows. May be said again."""
        self._writing().close()

    def _writing(self) -> Written:
        if self._written is None:
            raise grpc.aio.UsageError(MIXED)
        return self._written

    def _invoke(self, lease: Lease, timeout: float | None) -> Any:
        metadata, credentials, compression = self._said
        return self._calling.at(lease.state)(
            self._replay.begin(), timeout=timeout, metadata=metadata, credentials=credentials, compression=compression
        )

    def _whole(self) -> bool:
        return self._replay.whole

    def _commit(self) -> None:
        super()._commit()
        self._replay.commit()

    def _blame(self, error: asyncio.CancelledError) -> None:
        error.__cause__ = self._replay.failure

    def _finish(self, error: BaseException | None) -> None:
        super()._finish(error)
        self._replay.end()
