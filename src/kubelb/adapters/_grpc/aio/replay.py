"""Request streams that can be sent again, for asyncio; `shared/replay.py` says why.

    a caller's iterable  --.
                            >-- what was pulled is kept -- a cursor for each attempt
    write, done_writing  --'

grpcio pulls in a task for each attempt, and that of a dead attempt may still wait inside the caller's iterator. It is
left there, because to cancel it would end the iterator for the live one, too: what it gets is kept like any other
message. When the call is over, what still waits there is cancelled.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any

from kubelb.adapters._grpc.shared.replay import FEW, LIMIT, size_of

__all__ = ["AioReplay", "Written"]

_END = object()


class Written(AsyncIterator[Any]):
    """The messages that a caller writes. `put` returns when its message was sent: when the next one is asked for."""

    def __init__(self) -> None:
        self.closed = False
        self._messages: deque[tuple[Any, asyncio.Future[None]]] = deque()
        self._sending: asyncio.Future[None] | None = None
        self._wanted: asyncio.Future[None] | None = None

    async def put(self, message: Any) -> None:
        """Have it sent, as fast as it can be."""
        sent = asyncio.get_running_loop().create_future()
        self._messages.append((message, sent))
        self._wake(self._wanted)
        await sent

    def close(self) -> None:
        """Nothing follows."""
        self.closed = True
        self._wake(self._wanted)

    def end(self) -> None:
        """Nothing will ask any more."""
        self._wake(self._sending)
        for _, sent in self._messages:
            self._wake(sent)

    async def __anext__(self) -> Any:
        self._wake(self._sending)
        while not self._messages:
            if self.closed:
                raise StopAsyncIteration
            self._wanted = asyncio.get_running_loop().create_future()
            await self._wanted
        message, self._sending = self._messages.popleft()
        return message

    @staticmethod
    def _wake(waiter: asyncio.Future[None] | None) -> None:
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class AioReplay:
    """Wraps a stream of requests; `begin` starts at the first message, while it is `whole`."""

    def __init__(self, source: AsyncIterable[Any] | Iterable[Any]) -> None:
        self._source = aiter(source) if isinstance(source, AsyncIterable) else _Plain(iter(source))
        self._kept: list[Any] = []
        self._dropped = 0
        self._size = 0
        self._keeping = True
        self._live: _Cursor | None = None
        self._puller: asyncio.Task[Any] | None = None
        self._pulled: asyncio.Future[None] | None = None
        self._over = False
        self.failure: BaseException | None = None
        """What the caller's iterator raised."""

    @property
    def whole(self) -> bool:
        """Whether an attempt could begin now."""
        return self._keeping

    def begin(self) -> AsyncIterator[Any]:
        """Return the messages for one more attempt; those of the one before end."""
        self._live = cursor = _Cursor(self)
        return cursor

    def commit(self) -> None:
        """No other attempt will begin: keep nothing any more."""
        self._keeping = False

    def end(self) -> None:
        """The call is over."""
        self._keeping = False
        self._live = None  # what comes to pull now finds the end
        if self._puller is not None:
            self._puller.cancel()
        if isinstance(self._source, Written):
            self._source.end()

    async def at(self, position: int, cursor: "_Cursor") -> Any:
        """Return the message at `position`, pulled if it has not been; raises as the source does, its end too."""
        while cursor is self._live:
            index = position - self._dropped
            if index < len(self._kept):
                message = self._kept[index]
                if not self._keeping:
                    del self._kept[: index + 1]
                    self._dropped = position + 1
                return message
            if self.failure is not None:
                raise self.failure
            if self._over:
                break
            if self._puller is None:
                await self._pull()
            else:  # a dead attempt's task is waiting for it, and perhaps others here
                if self._pulled is None:
                    self._pulled = asyncio.get_running_loop().create_future()
                await asyncio.shield(self._pulled)
        raise StopAsyncIteration

    async def _pull(self) -> None:
        self._puller = asyncio.current_task()
        try:
            message = await anext(self._source)
        except StopAsyncIteration:
            self._over = True
        except asyncio.CancelledError:
            self._over = True
            raise
        except BaseException as error:  # noqa: BLE001  # raised to what reads that far
            self.failure = error
        else:
            self._kept.append(message)
            if self._keeping:
                self._size += size_of(message)
                self._keeping = self._size <= LIMIT and len(self._kept) <= FEW
        finally:
            self._puller = None
            pulled, self._pulled = self._pulled, None
            if pulled is not None:
                pulled.set_result(None)


class _Cursor(AsyncIterator[Any]):
    """Where one attempt is."""

    def __init__(self, replay: AioReplay) -> None:
        self._replay = replay
        self._position = 0

    async def __anext__(self) -> Any:
        message = await self._replay.at(self._position, self)
        self._position += 1
        return message


class _Plain(AsyncIterator[Any]):
    """An iterator that does not wait, as one that may."""

    def __init__(self, iterator: Any) -> None:
        self._iterator = iterator

    async def __anext__(self) -> Any:
        message = next(self._iterator, _END)
        if message is _END:
            raise StopAsyncIteration
        return message
