"""What is mounted under a key that other hosts match as well: the service's requests are ours, theirs go directly.

Such a key stands in ``NO_PROXY`` (see `mounting.py`), so "directly" is what the environment wants for them. The
client's own transport cannot be asked for from here; `Common.plain` has the TLS options, protocols and limits of ours.
As context managers they are what the client's base class makes of `close` and `aclose`.
"""

from typing import Any

__all__ = ["AsyncBeside", "Beside"]


class _Choosing:
    def __init__(self, ours: Any) -> None:
        self._ours = ours

    def __repr__(self) -> str:
        return f"<{self._ours!r}, and directly to hosts that are not its service's>"

    def __getattr__(self, name: str) -> Any:
        """What a client of the wrong kind calls: ours says what is wrong."""
        return getattr(self._ours, name)

    def chosen(self, request: Any) -> Any:
        """Return the transport for a request."""
        return self._ours if self._ours.serves(request) else self._ours.plain()


class Beside(_Choosing):
    """The sync one."""

    def handle_request(self, request: Any) -> Any:
        """Send it where it belongs."""
        return self.chosen(request).handle_request(request)

    def close(self) -> None:
        """Close both. Idempotent."""
        self._ours.close()


class AsyncBeside(_Choosing):
    """The same for asyncio."""

    async def handle_async_request(self, request: Any) -> Any:
        """Send it where it belongs."""
        return await self.chosen(request).handle_async_request(request)

    async def aclose(self) -> None:
        """Close both. Idempotent."""
        await self._ours.aclose()
