"""The asyncio half of `body.py`: a part that is on its way is waited for, and a cancellation loses no connection."""

from asyncio import CancelledError
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from kubelb.adapters._httpx.body import Ending
from kubelb.adapters._httpx.mending import cut
from kubelb.adapters._httpx.shield import shielded
from kubelb.model import CANCELLED, SUCCESS

__all__ = ["AsyncBody"]


class AsyncBody(Ending):
    """A response's body under asyncio."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            parts = aiter(self._inner)
            while (part := await shielded(anext(parts, None))) is not None:
                yield part
        except Exception as error:
            mapped = self._broken(error)
            if mapped is error:
                raise
            raise mapped from mapped.__cause__
        except BaseException as error:
            self._finish(CANCELLED)
            if isinstance(error, CancelledError):  # also one that was put off until a part was here
                await cut(self._inner)
            raise
        self._finish(SUCCESS)

    async def aclose(self) -> None:
        """Give the connection back, or drop it if the body was not read to its end."""
        self._unwatch()
        try:
            await shielded(self._inner.aclose())
        except CancelledError:
            await cut(self._inner)
            raise
        finally:
            self._finish(CANCELLED)

    async def discard(self, headers: Any) -> None:
        """Throw the response away, unless it is closed."""
        if self._watch is None:
            return
        try:
            with suppress(Exception):
                if self._worth_reading(headers):
                    parts = aiter(self._inner)
                    while await shielded(anext(parts, None)) is not None:
                        pass
        except CancelledError:
            await cut(self._inner)
            raise
        finally:
            with suppress(Exception):
                await self.aclose()
