"""The asyncio transport; the same shape as `transport.py`, to be read side by side.

Connections belong to the event loop they were opened in, so a transport belongs to the first loop it is used in, and
says so when it is used in another. Endpoints that went away are closed there, whatever thread learnt of it.
"""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from kubelb.adapters._httpx.adial import AsyncDial
from kubelb.adapters._httpx.common import OPENED, TLS, Common
from kubelb.adapters._httpx.mending import close, mend
from kubelb.adapters._httpx.shield import shielded
from kubelb.adapters._httpx.timeouts import Timeouts
from kubelb.core.lease import Lease
from kubelb.core.state import EndpointState
from kubelb.core.steps import Send
from kubelb.core.table import Difference
from kubelb.errors import LoadBalancerError, NotReady
from kubelb.model import Outcome, Request
from kubelb.runtime.driving import settle
from kubelb.runtime.fork import settled
from kubelb.runtime.loops import modules, refuse_trio
from kubelb.runtime.switch import off
from kubelb.telemetry.conventions import http_answer

if TYPE_CHECKING:
    from kubelb.telemetry.calls import Call, Try

__all__ = ["AioTransport"]


class AioTransport(Common):
    """Everything of `kubelb.adapters.httpx.AsyncTransport` but its base class."""

    _plain_kind = "AsyncHTTPTransport"
    _loop: asyncio.AbstractEventLoop | None = None
    _closing: set[asyncio.Task[None]]

    async def handle_async_request(self, request: Any) -> Any:
        """Send one request (one hop: redirects come as requests of their own) to an endpoint of its own."""
        if self._off or off() is not None:
            return await self._plainly(request).handle_async_request(request)
        around = self.kit.around("AsyncHTTPTransport", "handle_async_request")
        handle = self._watched if self.lb.watch.on() else self._handle
        if around is not None:
            return await around(handle, self, (request,), {})
        return await handle(request)

    async def _watched(self, request: Any) -> Any:
        with self._seen(request, "AsyncHTTPTransport", "handle_async_request") as call:
            response = await self._handle(request, call)
            call.answered(http_answer(response.status_code))
            return response

    async def _handle(self, request: Any, call: "Call | None" = None) -> Any:
        self._check_loop()
        self._check_host(request)
        if self.lost:
            await self._close_lost()
        hints = self._hints(request)
        wanted = self._wanted(request, hints)
        try:
            lease = self.lb.balancer.pick(wanted)
        except NotReady:
            lease = None
        except LoadBalancerError as error:
            raise self.kit.refusal(error, request) from None
        if lease is None:  # out here, so that no error of the flow's has NotReady for its context
            return await self._flow(request, wanted, hints, None, call)
        timeouts = self._timeouts(request, hints, lease.start)
        try:
            answer, response = await self._exchange(request, lease, timeouts, 1, call)
        except Exception as error:  # noqa: BLE001
            outcome = self._failed(error, request, timeouts, lease)
        else:
            if answer.status < 400 and not self.lb.always_flow:
                lease.observe(OPENED)
                return response
            outcome = settle(lease, self._judged(answer, response))
        if self.lb.settled(wanted, outcome):
            return self._result(outcome)
        return await self._flow(request, wanted, hints, outcome, call)

    async def _exchange(
        self, request: Any, lease: Lease, timeouts: Timeouts, number: int, call: "Call | None"
    ) -> tuple[Any, Any]:
        if call is None:
            return await self._exchanged(request, lease, timeouts, number)
        with call.attempt(lease.state.endpoint, number) as attempt:
            exchanged = await self._exchanged(request, lease, timeouts, number, attempt)
            attempt.answered(http_answer(exchanged[0].status))
            return exchanged

    async def _exchanged(
        self, request: Any, lease: Lease, timeouts: Timeouts, number: int, attempt: "Try | None" = None
    ) -> tuple[Any, Any]:
        """One attempt: httpcore's answer and httpx's response. A cancelled one has ended for the endpoint too."""
        timeouts.number = number
        pool = None
        try:
            pool = self._pools.get(lease.state, request.url.scheme in TLS)
            answer = await pool.handle_async_request(self._core_request(request, timeouts, attempt))
            timeouts.headers_are_here()
            body = self.kit.AsyncBody(answer.stream, lease, timeouts, request, self)
            return answer, self._response(answer, body, request, lease, number)
        except Exception:
            if pool is not None:
                try:
                    await mend(pool)
                except BaseException:
                    self._cancelled(lease)
                    raise
            raise
        except BaseException as error:
            self._cancelled(lease)
            if pool is not None and isinstance(error, asyncio.CancelledError):
                await mend(pool)
            raise

    async def _flow(
        self,
        request: Any,
        wanted: Request,
        hints: Mapping[str, Any] | None,
        first: Outcome | None,
        call: "Call | None",
    ) -> Any:
        start = self._clock() if first is None else first.lease.start
        until = self._timeouts(request, hints, start).headers_until
        replaced = first if first is not None and first.open else None

        async def send(step: Send) -> Outcome:
            nonlocal replaced
            if replaced is not None:
                await self._discard(replaced)
                replaced = None
            timeouts = self._timeouts(request, hints, start)
            try:
                answer, response = await self._exchange(request, step.lease, timeouts, step.number, call)
            except Exception as error:  # noqa: BLE001
                return self._failed(error, request, timeouts, step.lease)
            return self._judged(answer, response)

        try:
            return self._result(await self.lb.arun(wanted, send, first=first, deadline=until, discard=self._discard))
        except BaseException as error:
            if replaced is not None:
                await self._discard(replaced)
            if isinstance(error, LoadBalancerError):
                raise self.kit.refusal(error, request) from None
            raise

    @staticmethod
    async def _discard(outcome: Outcome) -> None:
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
