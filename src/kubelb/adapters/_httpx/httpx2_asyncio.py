"""The half of `kubelb.adapters.httpx2` that needs asyncio; it is loaded when it is first asked for."""

from typing import TYPE_CHECKING

import httpx2

from kubelb.adapters._httpx import beside
from kubelb.adapters._httpx.atransport import AioTransport
from kubelb.adapters.httpx2 import KIT

__all__ = ["AsyncBeside", "AsyncTransport"]


class AsyncTransport(AioTransport, httpx2.AsyncBaseTransport):
    """A transport for `httpx2.AsyncClient` under asyncio; options as `Transport`.

    It belongs to the event loop it is first used in; several may share a LoadBalancer.

    >>> import asyncio, httpx2
    >>> async def main():
    ...     async with httpx2.AsyncClient(transport=AsyncTransport("static:///127.0.0.1:9")) as client:
    ...         try:
    ...             await client.get("http://reviews.prod/")
    ...         except httpx2.ConnectError as error:
    ...             return type(error).__name__
    >>> asyncio.run(main())
    'ConnectError'
    """

    __module__ = "kubelb.adapters.httpx2"  # where users have it from
    kit = KIT

    if TYPE_CHECKING:

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response: ...


class AsyncBeside(beside.AsyncBeside, httpx2.AsyncBaseTransport):
    """See `beside.py`."""
