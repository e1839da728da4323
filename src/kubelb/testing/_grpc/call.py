"""One call on a gRPC backend: counted when its handler is entered, and answered as the faults of that moment say.

The four kinds of calls are two here: `answer` for those with one response, `answer_stream` for those with many; both
are what `_spoil` makes of the messages of the servicer. Threads that wait in a fault sleep on `_wake`, which is rung
when the call is over (its client gave up, or the connection was cut), when the backend dies, and when it heals.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

import grpc

from kubelb.testing._grpc.context import Context
from kubelb.testing._grpc.traffic import Traffic
from kubelb.testing._grpc.tunnel import Tunnel
from kubelb.testing.backend_faults import BackendFaults, Trouble
from kubelb.testing.received_call import ReceivedCall

Behavior = Callable[[Any, Any], Any]
SETTLE = 0.02  # seconds that a peer has to read what came before a cut
_NONE = BackendFaults()


class Call:
    """From the interceptor's look at a call to its end."""

    def __init__(self, traffic: Traffic, method: str, metadata: Any) -> None:
        self._traffic = traffic
        self.received = ReceivedCall(method, metadata)
        self._faults: BackendFaults | None = None
        self._over = False
        self._wake = threading.Event()
        self.tunnel: Tunnel | None = None  # None for a client that found the hidden port by itself

    # -- what the server calls

    def reader(self, deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
        """A deserializer that also notes what came."""

        def read(data: bytes) -> Any:
            message = data if deserialize is None else deserialize(data)
            self.received.note(data)
            return message

        return read

    def answer(self, behavior: Behavior, request: Any, context: grpc.ServicerContext) -> Any:
        """One response."""
        served = self._enter(context)
        try:
            self._before(served)
            return next(self._spoil(served, _one(behavior, request, served), unary=True))
        finally:
            self.finish()

    def answer_stream(self, behavior: Behavior, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        """Many responses."""
        served = self._enter(context)
        try:
            self._before(served)
            yield from self._spoil(served, behavior(request, served), unary=False)
            if served.code() in (None, grpc.StatusCode.OK):
                served.send_headers()
        finally:
            self.finish()

    # -- what the backend calls

    def ring(self) -> None:
        """What sleeps in this call looks at what has changed."""
        self._wake.set()

    def finish(self) -> None:
        """Its handler has done with it: it is not in flight any more, although its status is still to be sent."""
        self._traffic.finish(self)

    # -- inside

    def _enter(self, context: grpc.ServicerContext) -> Context:
        self.tunnel = self._traffic.tunnel(context.peer())
        self.received.enter(context.time_remaining())
        if not context.add_callback(self._end):
            self._over = True
        if not self._traffic.enter(self):
            self._leave(context)
        if self._over:  # its end was told before it had begun to count
            self._traffic.leave(self)
        self._faults = self._traffic.responder.take_faults()
        return Context(context, self._traffic.responder.name)

    def _end(self) -> None:
        """Called by gRPC when the call is over, by whatever cause."""
        self._over = True
        self._wake.set()
        self._traffic.leave(self)

    def _before(self, served: Context) -> None:
        """The faults that come instead of the servicer."""
        faults = self._faults
        if faults is None:
            return
        self._sleep(served, faults.seconds())
        if faults.trouble is Trouble.HANG:
            self._leave(served)
        if faults.trouble is Trouble.RESET:
            self._cut(served, reset=True)
        if faults.code is not None:
            served.set_trailing_metadata(tuple(faults.headers.items()))
            served.abort(faults.code, f"{self._traffic.responder.name} was told to fail")

    def _spoil(self, served: Context, messages: Iterable[Any], *, unary: bool) -> Iterator[Any]:
        """The messages of the servicer, as far as the faults let them through."""
        faults = self._faults or _NONE
        trouble = faults.trouble
        for number, message in enumerate(messages):
            served.send_headers()
            if trouble is Trouble.RESET_AFTER_HEADERS or (trouble is Trouble.TRUNCATE and number == 1):
                break
            if trouble is Trouble.DRIP and number % faults.drip_bytes == 0:
                self._sleep(served, faults.drip_delay)
            if trouble is Trouble.TRUNCATE and unary and self.tunnel is not None:
                self._sleep(served, SETTLE)
                self.tunnel.flush(halve_next=True)
            yield message
        if trouble in (Trouble.RESET_AFTER_HEADERS, Trouble.TRUNCATE):
            served.send_headers()
            self._sleep(served, SETTLE)
            if self.tunnel is not None:
                self.tunnel.flush()
            self._cut(served, reset=trouble is Trouble.RESET_AFTER_HEADERS)

    def _sleep(self, served: Context, seconds: float) -> None:
        if seconds > 0 and self._wake.wait(seconds):
            self._wake.clear()
        if self._over or self._traffic.dead:
            self._leave(served)

    def _cut(self, served: Context, *, reset: bool) -> NoReturn:
        """End the client's connection, and this call with it."""
        if self.tunnel is not None:
            self.tunnel.connection.cut(reset=reset)
        self._leave(served)

    def _leave(self, context: Any) -> NoReturn:
        """Answer nothing: wait until the call is over, then leave the handler by the one way that gRPC does not log."""
        while not self._over:
            self._wake.wait()
            self._wake.clear()
        context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        raise AssertionError("unreachable")


def _one(behavior: Behavior, request: Any, served: Context) -> Iterator[Any]:
    yield behavior(request, served)
