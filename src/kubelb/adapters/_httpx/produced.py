"""Request bodies that are produced while they are sent: files, generators, multipart forms.

What they raise is the caller's own: an OSError of a file that cannot be read, or a timeout of where the body comes
from, looks like one of the connection's and says nothing about the endpoint.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any

from kubelb.adapters._httpx.timeouts import Timeouts

__all__ = ["Produced"]


class Produced:
    """A body as httpcore iterates it, sync or asyncio, that notes where its failure came from."""

    __slots__ = ("_stream", "_timeouts")

    def __init__(self, stream: Any, timeouts: Timeouts) -> None:
        self._stream = stream
        self._timeouts = timeouts

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._stream
        except Exception:
            self._timeouts.producer_failed = True
            raise

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._stream:
                yield part
        except Exception:
            self._timeouts.producer_failed = True
            raise
