"""The sync transport: how one attempt is made. All else is the door's (`kubelb.runtime.door`), whose bridge this is."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from kubelb.adapters._httpx.common import TLS, Common, HttpxCall
from kubelb.adapters._httpx.dial import Dial
from kubelb.adapters.http import judge_status
from kubelb.core.lease import Lease
from kubelb.core.state import EndpointState
from kubelb.core.table import Difference
from kubelb.model import Outcome
from kubelb.runtime.door import OPENED
from kubelb.runtime.fork import settled
from kubelb.runtime.sync import run

__all__ = ["SyncTransport"]


class SyncTransport(Common):
    """Everything of `kubelb.adapters.httpx.Transport` but its base class."""

    _plain_kind = "HTTPTransport"
    _method = "handle_request"

    def handle_request(self, request: Any) -> Any:
        """Send one request (one hop: redirects come as requests of their own) to an endpoint of its own."""
        if self._off() is not None:
            return self._plainly(request).handle_request(request)
        if self.lost:  # before the pick: it is no part of any attempt, and is done where there is none
            self._close_lost()
        around = getattr(self.kit.httpx.HTTPTransport.handle_request, "_self_wrapper", None)  # see `Kit.around`
        if around is not None:
            return around(self._handle, self, (request,), {})
        return run(self.lb, self, HttpxCall(request))

    def _handle(self, request: Any) -> Any:
        return run(self.lb, self, HttpxCall(request))

    def attempt(
        self, call: HttpxCall, lease: Lease, number: int, carrier: Mapping[str, str] | None
    ) -> tuple[Outcome, Any]:
        """Make one attempt; the door asks for it."""
        timeouts = self._timeouts(call, number)
        try:
            asked = self._core_request(call, timeouts, carrier)
            pool = self._pools.get(lease.state, asked.url.scheme in TLS)
            answer = pool.handle_request(asked)
            timeouts.headers_are_here()
            body = self.kit.Body(answer.stream, lease, timeouts, call.request, self)
            response = self._response(answer, body, call.request, lease, number)
            if answer.status < 400:
                return OPENED, response
            return judge_status(answer.status, answer.headers) or OPENED, response
        except Exception as error:  # noqa: BLE001
            return self._failed(error, call, timeouts), None

    def throw_away(self, outcome: Outcome) -> None:
        """Close an answer that will not be read; the door asks for it."""
        outcome.value.stream.discard(outcome.value.headers)

    def left(self, lease: Lease) -> None:
        """A request ended on an endpoint that is gone: it may have been the last there."""
        self._close(self._pools.retired([lease.state]))

    def _on_change(self, difference: Difference) -> None:
        self._close(self._pools.retired(difference.removed))

    def _close_lost(self) -> None:
        settled()
        with suppress(IndexError):
            while True:
                watch = self.lost.popleft()
                self.open.discard(watch)
                with suppress(Exception):
                    watch.inner.close()
                self._close(self._pools.retired([watch.state]))

    @staticmethod
    def _close(pools: Iterable[Any]) -> None:
        for pool in pools:
            with suppress(Exception):
                pool.close()

    def _make_pool(self, state: EndpointState, tls: bool) -> Any:
        kind = self.kit.Http2Pool if self._http2 else self.kit.httpcore.ConnectionPool
        return kind(
            ssl_context=self._ssl_context() if tls else None,
            network_backend=Dial(self.kit.httpcore, state, self._ssl_context, self._patience, self._socket_options),
            **self._pool_options,
        )

    async def handle_async_request(self, request: Any) -> Any:
        """An asyncio client calls this."""
        raise self._swapped("AsyncClient", "AsyncTransport", request)

    async def __aenter__(self) -> Self:
        raise self._swapped("AsyncClient", "AsyncTransport")

    async def aclose(self) -> None:
        """An asyncio client that was given this transport closes it so."""
        self.close()

    def close(self) -> None:
        """Close every connection, and the load balancer if it was made from a target here. Idempotent."""
        self._close_lost()
        self._absolve()
        self._close(self._pools.all())
        for plain in self._plain:
            plain.close()
        if self._owns:
            self.lb.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.close()
