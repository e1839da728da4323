"""Request streams that can be sent again.

A stream of requests can be pulled once, and a failed attempt has pulled some of it: "never sent" is not the same as
"still whole". So what was pulled is kept until the call is committed (the first response is here) or more was pulled
than is worth keeping; until then another attempt begins at the beginning.

Each attempt reads through a cursor of its own. grpcio pulls in a thread per attempt, and the thread of a dead attempt
may still wait inside the caller's iterator; what it gets goes to the kept messages like any other, for the live one.
"""

import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar, cast

__all__ = ["FEW", "LIMIT", "Replay", "size_of"]

T = TypeVar("T")
_NOT_YET = object()

LIMIT = 256 * 1024
"""Bytes kept at most, as in gRPC's own retry buffer (gRFC A6)."""
FEW = 1000
"""Messages kept at most, for those whose size cannot be told."""


class Replay(Iterable[T]):
    """Wraps a stream of requests; each iteration begins at the first message, while it is `whole`."""

    def __init__(self, source: Iterable[T]) -> None:
        self._source = iter(source)
        self._lock = threading.Lock()
        self._pulling = threading.Lock()
        self._kept: list[T] = []
        self._dropped = 0
        self._size = 0
        self._ended: BaseException | None = None
        self._keeping = True
        self._live: _Cursor[T] | None = None

    @property
    def whole(self) -> bool:
        """Whether an attempt could begin now."""
        return self._keeping

    def commit(self) -> None:
        """No other attempt will begin: keep nothing any more."""
        self._keeping = False

    def __iter__(self) -> Iterator[T]:
        self._live = cursor = _Cursor(self)
        return cursor

    def at(self, position: int, cursor: "_Cursor[T]") -> T:
        """Return the message at `position`, pulled if it has not been; raises as the source does, StopIteration too."""
        message = self._taken(position, cursor)
        if message is _NOT_YET:
            with self._pulling:  # not the other lock: what is kept can be read while a thread waits in here
                message = self._taken(position, cursor)
                if message is _NOT_YET:
                    self._pull()
                    message = self._taken(position, cursor)
        return cast(T, message)

    def _taken(self, position: int, cursor: "_Cursor[T]") -> T | object:
        """Return a message that is here, `_NOT_YET` where it is not."""
        with self._lock:
            index = position - self._dropped
            if index < 0:  # a dead attempt's, which has missed the commitment
                raise StopIteration
            if index == len(self._kept):
                if isinstance(self._ended, StopIteration):
                    raise StopIteration  # a new one: a kept one would keep the frames it went through
                if self._ended is not None:
                    raise self._ended
                return _NOT_YET
            message = self._kept[index]
            if not self._keeping and cursor is self._live:
                del self._kept[: index + 1]
                self._dropped = position + 1
            return message

    def _pull(self) -> None:
        try:
            message = next(self._source)
        except BaseException as error:  # noqa: BLE001  # raised to what reads that far
            self._ended = error.with_traceback(None) if isinstance(error, StopIteration) else error
            return
        with self._lock:
            self._kept.append(message)
            self._weigh(message)

    def _weigh(self, message: Any) -> None:
        if self._keeping:
            self._size += size_of(message)
            self._keeping = self._size <= LIMIT and len(self._kept) <= FEW


def size_of(message: Any) -> int:
    """Return how many bytes it is worth, 0 where it does not say."""
    sized = getattr(message, "ByteSize", None)  # what protobuf messages have
    return int(sized()) if sized else len(message) if isinstance(message, bytes | str) else 0


class _Cursor(Iterator[T]):
    """Where one attempt is."""

    def __init__(self, replay: Replay[T]) -> None:
        self._replay = replay
        self._position = 0

    def __next__(self) -> T:
        message = self._replay.at(self._position, self)
        self._position += 1
        return message
