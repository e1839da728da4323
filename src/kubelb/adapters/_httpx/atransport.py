"""The asyncio transport; the same shape as `transport.py`, to be read side by side.

Connections belong to the event loop they were opened in, so a transport belongs to the first loop it is used in, and
says so when it is used in another. Endpoints that went away are closed there, whatever thread learnt of it.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Any, Self

from kubelb.adapters._httpx.adial import AsyncDial
from kubelb.adapters._httpx.common import TLS, Common, HttpxCall
from kubelb.adapters._httpx.mending import close, mend
from kubelb.adapters._httpx.shield import shielded
from kubelb.adapters.http import judge_status
from kubelb.core.lease import Lease
from kubelb.core.state import EndpointState
from kubelb.core.table import Difference
from kubelb.model import Outcome
from kubelb.runtime.aio import run
from kubelb.runtime.door import OPENED
from kubelb.runtime.fork import settled
from kubelb.runtime.loops import modules, refuse_trio

__all__ = ["AioTransport"]


class AioTransport(Common):
    """Everything of `kubelb.adapters.httpx.AsyncTransport` but its base class."""

    _plain_kind = "AsyncHTTPTransport"
    _method = "handle_async_request"
    _loop: asyncio.AbstractEventLoop | None = None
    _closing: set[asyncio.Task[None]]

    def handle_async_request(self, request: Any) -> Awaitable[Any]:
        """Send one request (one hop: redirects come as requests of their own) to an endpoint of its own.

        Not a coroutine itself: each one between the client and a socket is one more that every wait goes through.
        """
        if self._off() is not None:
            past: Awaitable[Any] = self._plainly(request).handle_async_request(request)
            return past
        around = getattr(
            self.kit.httpx.AsyncHTTPTransport.handle_async_request, "_self_wrapper", None
        )  # see `Kit.around`
        if around is not None:
            handle = self._after_lost if self.lost else self._handle
            instrumented: Awaitable[Any] = around(handle, self, (request,), {})
            return instrumented
        return self._after_lost(request) if self.lost else run(self.lb, self, HttpxCall(request))

    async def _handle(self, request: Any) -> Any:
        return await run(self.lb, self, HttpxCall(request))

    async def _after_lost(self, request: Any) -> Any:
        """Close lost answers before the pick: that is no part of any attempt, and is done where there is none."""
        self._check_loop()  # first: what is lost may be another loop's
        await self._close_lost()
        return await run(self.lb, self, HttpxCall(request))

    def prepare(self, call: HttpxCall) -> None:
        """As in `Common`, on the right event loop."""
        self._check_loop()
        super().prepare(call)

    async def attempt(
        self, call: HttpxCall, lease: Lease, number: int, carrier: Mapping[str, str] | None
    ) -> tuple[Outcome, Any]:
        """Make one attempt; the door asks for it."""
        timeouts = self._timeouts(call, number)
        pool = None
        try:
            asked = self._core_request(call, timeouts, carrier)
            pool = self._pools.get(lease.state, asked.url.scheme in TLS)
            answer = await pool.handle_async_request(asked)
            timeouts.headers_are_here()
            body = self.kit.AsyncBody(answer.stream, lease, timeouts, call.request, self)
            response = self._response(answer, body, call.request, lease, number)
            if answer.status < 400:
                return OPENED, response
            return judge_status(answer.status, answer.headers) or OPENED, response
        except Exception as error:  # noqa: BLE001
            if pool is not None:
                await mend(pool)
            return self._failed(error, call, timeouts), None
        except asyncio.CancelledError:
            if pool is not None:
                await mend(pool)
            raise

    async def throw_away(self, outcome: Outcome) -> None:
        """Close an answer that will not be read; the door asks for it."""
        await outcome.value.stream.discard(outcome.value.headers)

    def left(self, lease: Lease) -> None:
        """A request ended on an endpoint that is gone: it may have been the last there."""
        self._close_soon([lease.state])

    def _on_change(self, difference: Difference) -> None:
        loop = self._loop
        if loop is not None and difference.removed:
            with suppress(RuntimeError):  # the loop is closed, and its connections with it
                loop.call_soon_threadsafe(self._close_soon, difference.removed)

    def _close_soon(self, states: Iterable[EndpointState]) -> None:
        if self._loop is None or self._loop.is_closed():  # its connections have ended with it
            return
        pools = self._pools.retired(states)
        if pools:
            task = asyncio.ensure_future(self._close(pools))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _close_lost(self) -> None:
        settled()
        with suppress(IndexError):
            while True:
                watch = self.lost.popleft()
                self.open.discard(watch)
                try:
                    with suppress(Exception):
                        await close(watch.inner)
                finally:
                    self._close_soon([watch.state])

    @staticmethod
    async def _close(pools: Iterable[Any]) -> None:
        """Close pools that were taken out, and that nothing else knows: all of them, even if this is cancelled."""
        cancelled: asyncio.CancelledError | None = None
        for pool in pools:
            try:
                with suppress(Exception):
                    await shielded(pool.aclose())
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    def _check_loop(self) -> None:
        loop = self._loop
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            self._refuse_trio()
            raise RuntimeError(
                f"{self!r} runs on asyncio only; under trio use the sync Transport in a thread"
            ) from None
        if loop is not running:
            if "trio" in modules:  # beside asyncio, in its guest mode
                self._refuse_trio()
            settled()
            loop = self._loop
            if loop is not None and not loop.is_closed():
                raise RuntimeError(
                    f"{self!r} is bound to another event loop; give each loop an AsyncTransport of its own "
                    "(they may share the LoadBalancer)"
                )
            if loop is not None:
                self._pools.forget()
                self._plain = []
                self.lost.clear()
                self.open.clear()
            self._loop = running
            self._closing = set()

    def _refuse_trio(self) -> None:
        refuse_trio(repr(self), "Transport with the sync Client", "client.get, url")

    def _make_pool(self, state: EndpointState, tls: bool) -> Any:
        kind = self.kit.AsyncHttp2Pool if self._http2 else self.kit.AsyncPool
        return kind(
            ssl_context=self._ssl_context() if tls else None,
            network_backend=AsyncDial(
                self.kit.httpcore, state, self._ssl_context, self._patience, self._socket_options
            ),
            **self._pool_options,
        )

    def plain(self) -> Any:
        """On this loop: connections of an earlier one are of no use."""
        self._check_loop()
        return super().plain()

    def after_fork_in_child(self) -> None:
        super().after_fork_in_child()
        self._loop = None

    def handle_request(self, request: Any) -> Any:
        """A sync client calls this."""
        raise self._swapped("Client", "Transport", request)

    def __enter__(self) -> Self:
        raise self._swapped("Client", "Transport")

    def close(self) -> None:
        """A sync client that was given this transport closes it so: it has opened nothing."""
        if self._owns:
            self.lb.close()

    async def aclose(self) -> None:
        """Close every connection, and the load balancer if it was made from a target here. Idempotent."""
        self._refuse_trio()
        async with AsyncExitStack() as all_of_it:  # from the last to the first, also where one is cancelled
            if self._owns:
                all_of_it.push_async_callback(self.lb.aclose)
            all_of_it.push_async_callback(self._closed)
            all_of_it.push_async_callback(self._close_all)
            for plain in self._plain if self._loop is asyncio.get_running_loop() else ():
                all_of_it.push_async_callback(plain.aclose)
            await self._close_lost()

    async def _close_all(self) -> None:
        self._absolve()
        await self._close(self._pools.all())

    async def _closed(self) -> None:
        """Wait for the pools that are being closed. If this is cancelled, they still close: nothing else knows them."""
        if self._loop is not None and self._closing:
            await asyncio.wait(self._closing)

    async def __aenter__(self) -> Self:
        self._refuse_trio()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()
