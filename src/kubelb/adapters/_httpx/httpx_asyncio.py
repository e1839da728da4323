"""The half of `kubelb.adapters.httpx` that needs asyncio; it is loaded when it is first asked for."""

from typing import TYPE_CHECKING

import httpx

from kubelb.adapters._httpx import beside
from kubelb.adapters._httpx.atransport import AioTransport
from kubelb.adapters.httpx import KIT

__all__ = ["AsyncBeside", "AsyncTransport"]


class AsyncTransport(AioTransport, httpx.AsyncBaseTransport):
    """A transport for `httpx.AsyncClient` under asyncio; options as `Transport`.

    It belongs to the event loop it is first used in; several may share a LoadBalancer.

    >>> import asyncio, httpx
    >>> async def main():
    ...     async with httpx.AsyncClient(transport=AsyncTransport("static:///127.0.0.1:9")) as client:
    ...         try:
    ...             await client.get("http://reviews.prod/")
    ...         except httpx.ConnectError as error:
    ...             return type(error).__name__
    >>> asyncio.run(main())
    'ConnectError'
    """

    __module__ = "kubelb.adapters.httpx"  # where users have it from
    kit = KIT

    if TYPE_CHECKING:

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response: ...


class AsyncBeside(beside.AsyncBeside, httpx.AsyncBaseTransport):
    """See `beside.py`."""
