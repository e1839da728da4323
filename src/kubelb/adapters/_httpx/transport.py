"""The sync transport: pick, one exchange on that endpoint's pool, and the flow only where that did not do."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from kubelb.adapters._httpx.common import OPENED, TLS, Common
from kubelb.adapters._httpx.dial import Dial
from kubelb.adapters._httpx.timeouts import Timeouts
from kubelb.core.lease import Lease
from kubelb.core.state import EndpointState
from kubelb.core.steps import Send
from kubelb.core.table import Difference
from kubelb.errors import LoadBalancerError, NotReady
from kubelb.model import Outcome, Request
from kubelb.runtime.driving import settle
from kubelb.runtime.fork import settled
from kubelb.runtime.switch import off
from kubelb.telemetry.conventions import http_answer

if TYPE_CHECKING:
    from kubelb.telemetry.calls import Call, Try

__all__ = ["SyncTransport"]


class SyncTransport(Common):
    """Everything of `kubelb.adapters.httpx.Transport` but its base class."""

    _plain_kind = "HTTPTransport"

    def handle_request(self, request: Any) -> Any:
        """Send one request (one hop: redirects come as requests of their own) to an endpoint of its own."""
        if self._off or off() is not None:
            return self._plainly(request).handle_request(request)
        around = self.kit.around("HTTPTransport", "handle_request")
        handle = self._watched if self.lb.watch.on() else self._handle
        if around is not None:
            return around(handle, self, (request,), {})
        return handle(request)

    def _watched(self, request: Any) -> Any:
        with self._seen(request, "HTTPTransport", "handle_request") as call:
            response = self._handle(request, call)
            call.answered(http_answer(response.status_code))
            return response

    def _handle(self, request: Any, call: "Call | None" = None) -> Any:
        self._check_host(request)
        if self.lost:
            self._close_lost()
        hints = self._hints(request)
        wanted = self._wanted(request, hints)
        try:
            lease = self.lb.balancer.pick(wanted)
        except NotReady:
            lease = None
        except LoadBalancerError as error:
            raise self.kit.refusal(error, request) from None
        if lease is None:  # out here, so that no error of the flow's has NotReady for its context
            return self._flow(request, wanted, hints, None, call)
        timeouts = self._timeouts(request, hints, lease.start)
        try:
            answer, response = self._exchange(request, lease, timeouts, 1, call)
        except Exception as error:  # noqa: BLE001
            outcome = self._failed(error, request, timeouts, lease)
        else:
            if answer.status < 400 and not self.lb.always_flow:
                lease.observe(OPENED)
                return response
            outcome = settle(lease, self._judged(answer, response))
        if self.lb.settled(wanted, outcome):
            return self._result(outcome)
        return self._flow(request, wanted, hints, outcome, call)

    def _exchange(
        self, request: Any, lease: Lease, timeouts: Timeouts, number: int, call: "Call | None"
    ) -> tuple[Any, Any]:
        if call is None:
            return self._exchanged(request, lease, timeouts, number)
        with call.attempt(lease.state.endpoint, number) as attempt:
            exchanged = self._exchanged(request, lease, timeouts, number, attempt)
            attempt.answered(http_answer(exchanged[0].status))
            return exchanged

    def _exchanged(
        self, request: Any, lease: Lease, timeouts: Timeouts, number: int, attempt: "Try | None" = None
    ) -> tuple[Any, Any]:
        """One attempt: httpcore's answer and httpx's response. An interrupted one has ended for the endpoint too."""
        timeouts.number = number
        try:
            pool = self._pools.get(lease.state, request.url.scheme in TLS)
            answer = pool.handle_request(self._core_request(request, timeouts, attempt))
            timeouts.headers_are_here()
            body = self.kit.Body(answer.stream, lease, timeouts, request, self)
            return answer, self._response(answer, body, request, lease, number)
        except Exception:
            raise
        except BaseException:
            self._cancelled(lease)
            raise

    def _flow(
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

        def send(step: Send) -> Outcome:
            nonlocal replaced
            if replaced is not None:
                self._discard(replaced)
                replaced = None
            timeouts = self._timeouts(request, hints, start)
            try:
                answer, response = self._exchange(request, step.lease, timeouts, step.number, call)
            except Exception as error:  # noqa: BLE001
                return self._failed(error, request, timeouts, step.lease)
            return self._judged(answer, response)

        try:
            return self._result(self.lb.run(wanted, send, first=first, deadline=until, discard=self._discard))
        except BaseException as error:
            if replaced is not None:
                self._discard(replaced)
            if isinstance(error, LoadBalancerError):
                raise self.kit.refusal(error, request) from None
            raise

    @staticmethod
    def _discard(outcome: Outcome) -> None:
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
