"""One logical call, seen: its duration, its span, and a span for each attempt below it.

    SERVER  GET /checkout                         the application's own
      INTERNAL  kubelb reviews.prod:http          the call: from the adapter's door to its answer
        CLIENT  GET                               an attempt: 503 of 10.0.0.7
        CLIENT  GET                               an attempt: 200 of 10.0.0.8

Every attempt carries a trace context of its own, so that a server's span hangs below the attempt that reached it.

What a processor, a sampler or a propagator raises costs the span it was about, never the request (see `broken.py`).

Where an instrumentation of OpenTelemetry's has made a client span for this very call, around the client or around the
channel, nothing is doubled: no span is made, its context travels, and further attempts are events on its span. Nor is
a span made of an attempt where an instrumentation makes one below ours: it knows no pod, so ours has an event for each
attempt. Whichever side makes the spans, the pod that answered is named on one.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from opentelemetry import context as contexts
from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind, StatusCode

from kubelb.masking import safe_url
from kubelb.model import Endpoint
from kubelb.printable import name_shown
from kubelb.telemetry.broken import lost
from kubelb.telemetry.conventions import Wire
from kubelb.telemetry.names import ATTEMPT, ATTEMPTS, ERROR, PEER, PEER_PORT, POD, RESENT, SERVICE, URL

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import Histogram
    from opentelemetry.trace import Span, Tracer

__all__ = ["Call", "Try"]

_SUPPRESSED = tuple(
    getattr(contexts, name, "suppress_instrumentation")
    for name in ("_SUPPRESS_INSTRUMENTATION_KEY", "_SUPPRESS_HTTP_INSTRUMENTATION_KEY")
)
"""What exporters set around their own requests: those are not reported. The second alone is an instrumentation's, such
as that of requests: it sees the request itself, so of ours only the pods are told, on its span."""


class _Lasting:
    """What a call and an attempt share: a context that is the current one meanwhile, and an end."""

    __slots__ = ("_attributes", "_token", "context", "span", "wire")

    def __init__(self, wire: Wire, context: "Context") -> None:
        self.wire = wire
        self.context = context
        self.span: Span | None = None
        self._attributes: Mapping[str, Any] = {}
        self._token: Any = None

    def answered(self, attributes: Mapping[str, Any]) -> None:
        """Note how it went, for the end."""
        self._attributes = attributes

    def end(self, attributes: Mapping[str, Any]) -> None:
        """Report it, once."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        if self.span is not None:
            self._token = _attach(self.context)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _detach(self._token)
        self.end(self._attributes if error is None else self.wire.raised(error))

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make its context the current one; ends it only where that raises."""
        token = _attach(self.context)
        try:
            yield
        except BaseException as error:
            self.end(self.wire.raised(error))
            raise
        finally:
            _detach(token)


class Call(_Lasting):
    """Made at an adapter's door. Used as a context manager, or ended by `end` where the end comes elsewhere."""

    __slots__ = ("_clock", "_histogram", "_numbers", "_outer", "_over", "_running", "_start", "_tracer")

    def __init__(
        self,
        service: str,
        wire: Wire,
        tracer: "Tracer | None",
        histogram: "Histogram | None",
        clock: Callable[[], float],
    ) -> None:
        super().__init__(wire, contexts.get_current())
        self._outer: Span | None = None
        """An instrumentation's."""
        self._numbers = 0
        """Attempts so far."""
        self._running: list[Try] = []
        self._over = False
        self._tracer = tracer
        self._histogram = histogram
        self._clock = clock
        self._start = clock()
        exported, seen = (self.context.get(key) for key in _SUPPRESSED)
        if exported or seen:
            self._tracer = self._histogram = None
        if tracer is not None and not exported:
            try:
                self._begin(service, None if seen else tracer)
            except Exception as error:  # noqa: BLE001
                self._tracer = None
                lost("the start of a span", error)

    def _begin(self, service: str, tracer: "Tracer | None") -> None:
        """Find the span that stands for the call, or make one."""
        parent = trace.get_current_span(self.context)
        if _instrumented(parent):
            self._outer = parent
        elif tracer is not None:
            self.span = tracer.start_span(f"kubelb {service}", self.context, SpanKind.INTERNAL, {SERVICE: service})
            self.context = trace.set_span_in_context(self.span, self.context)

    def attempt(self, endpoint: Endpoint, number: int, *, own: bool = True) -> "Try":
        """Begin an attempt; not `own`: an instrumentation makes a span of it and sends its context."""
        self._numbers = max(self._numbers, number)
        recording = False
        try:
            self._tell(endpoint, number, own)
            recording = own and self.span is not None and self.span.is_recording()
        except Exception as error:  # noqa: BLE001
            lost("a span", error)
        attempt = Try(self, endpoint, number, self._tracer if recording else None, own and self.span is not None)
        if recording:
            self._running.append(attempt)
        return attempt

    def _tell(self, endpoint: Endpoint, number: int, own: bool) -> None:
        """Name the pod where no span of ours is made of the attempt."""
        if self._outer is not None:
            self._outer.set_attributes(_place(endpoint))  # of the last attempt, in the end
            if number == 1:
                return
        span = self._outer or (None if own else self.span)
        if span is not None:
            span.add_event(ATTEMPT, _place(endpoint) | {ATTEMPT: number})

    def end(self, attributes: Mapping[str, Any]) -> None:
        """Report the call, once."""
        if self._over:
            return
        self._over = True
        while self._running:  # nothing outlives the call, also where an end is never told
            self._running.pop().end(attributes)
        if self._histogram is not None:
            try:
                self._histogram.record(
                    self._clock() - self._start, {**self.wire.attributes, **attributes}, self.context
                )
            except Exception as error:  # noqa: BLE001
                lost("a histogram", error)
        if self.span is not None:
            told = {name: attributes[name] for name in (ERROR,) if name in attributes}
            _end(self.span, {ATTEMPTS: self._numbers, **told})


class Try(_Lasting):
    """One attempt, used as a `Call` is. `tracer` makes its span; it `carries` a context of its own."""

    __slots__ = ("_carries",)

    def __init__(self, call: Call, endpoint: Endpoint, number: int, tracer: "Tracer | None", carries: bool) -> None:
        super().__init__(call.wire, call.context)
        self._carries = carries
        if tracer is None:
            return
        wire = self.wire
        attributes = wire.attributes | _place(endpoint)
        if wire.url is None:
            attributes[ATTEMPT] = number
        else:
            attributes[URL] = safe_url(wire.url)
            if number > 1:
                attributes[RESENT] = number - 1
        kind = SpanKind.CLIENT if wire.client else SpanKind.INTERNAL
        try:
            self.span = tracer.start_span(wire.name, self.context, kind, attributes)
            self.context = trace.set_span_in_context(self.span, self.context)
        except Exception as error:  # noqa: BLE001
            lost("the start of a span", error)

    def carrier(self) -> dict[str, str]:
        """Return the headers by which the trace context travels, names in lower case; none where others see to it."""
        carrier: dict[str, str] = {}
        if self._carries:
            try:
                propagate.inject(carrier, self.context)
            except Exception as error:  # noqa: BLE001
                lost("a propagator", error)
                return {}
        return {name.lower(): value for name, value in carrier.items()}

    def end(self, attributes: Mapping[str, Any]) -> None:
        """Report the attempt, once."""
        span, self.span = self.span, None
        if span is not None:
            _end(span, attributes)


def _instrumented(span: "Span") -> bool:
    """Whether it is the client span of an instrumentation of OpenTelemetry's, which stands for this call."""
    if not span.is_recording() or getattr(span, "kind", None) is not SpanKind.CLIENT:
        return False
    scope = getattr(span, "instrumentation_scope", None)
    return scope is not None and scope.name.startswith("opentelemetry.instrumentation.")


def _place(endpoint: Endpoint) -> dict[str, Any]:
    """Name the pod: its address, and where discovery knows it its name."""
    if endpoint.pod:
        return {PEER: endpoint.ip, PEER_PORT: endpoint.port, POD: name_shown(endpoint.pod)}
    return {PEER: endpoint.ip, PEER_PORT: endpoint.port}


def _end(span: "Span", attributes: Mapping[str, Any]) -> None:
    try:
        if span.is_recording():
            if attributes:
                span.set_attributes(attributes)
            if ERROR in attributes:
                span.set_status(StatusCode.ERROR)
        span.end()
    except Exception as error:  # noqa: BLE001
        lost("the end of a span", error)


def _attach(context: "Context") -> Any:
    try:
        return contexts.attach(context)
    except Exception as error:  # noqa: BLE001
        lost("the context", error)
        return None


def _detach(token: Any) -> None:
    if token is not None:
        try:
            contexts.detach(token)
        except Exception as error:  # noqa: BLE001
            lost("the context", error)
