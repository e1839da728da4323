"""The asyncio twin of `pool.py`, whose docstring is its own too."""

import asyncio
from typing import Any

from kubelb.adapters._httpx.http2 import tasks
from kubelb.adapters._httpx.http2.pool import QUEUE, Connecting, around_it

__all__ = ["async_pool"]


def async_pool(core: Any, base: Any) -> Any:
    """Return httpcore's AsyncConnectionPool, or what was made of it, with connections of ours."""

    class Connection(Connecting, core.AsyncHTTPConnection):  # type: ignore[misc]
        def __init__(self, pool: Any, origin: Any) -> None:
            super().__init__(core, pool, origin)
            self._turn = asyncio.Lock()

        async def handle_async_request(self, request: Any) -> Any:
            around = around_it(core.AsyncHTTPConnection, "handle_async_request")
            return await (self._handle(request) if around is None else around(self._handle, self, (request,), {}))

        async def _handle(self, request: Any) -> Any:
            if self._connection is None:
                timeouts = request.extensions["timeout"]
                try:
                    async with asyncio.timeout(timeouts.left("pool")):
                        await self._turn.acquire()
                except TimeoutError:
                    raise core.PoolTimeout("timed out waiting for a connection") from None
                try:
                    if self._connect_failed:
                        raise self._again()
                    if self._connection is None:
                        await self._open(request, timeouts)
                finally:
                    self._turn.release()
            return await self._connection.handle_async_request(request)

        async def _open(self, request: Any, timeouts: Any) -> None:
            try:
                stream = await self._connect(request)
            except BaseException as error:
                self._failed(error, timeouts)
                raise
            keepalive = self._keepalive_expiry
            if self._chosen(stream):
                self._connection = tasks.Connection(core, self._origin, stream, keepalive, self._pool.assign)
            else:
                self._connection = core.AsyncHTTP11Connection(self._origin, stream, keepalive)

    class AsyncPool(base):  # type: ignore[misc]
        only_http1 = False
        _assigning: asyncio.Task[None] | None = None

        def create_connection(self, origin: Any) -> Any:
            return Connection(self, origin)

        def assign(self) -> None:
            """There is room where there was none: look at the requests that wait."""
            if hasattr(self, QUEUE) and (closing := self._assign_requests_to_connections()):
                self._assigning = asyncio.ensure_future(self._close_connections(closing))

    return AsyncPool
