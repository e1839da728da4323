"""Watch: what one load balancer reports, and where to.

Before every request an adapter asks `watch.on()` and nothing else; only where something listens it makes a `Call` of
the request (see `calls.py`). Events are counted always, so that what begins to listen late hears of them all.

OpenTelemetry's modules are imported by what sets it up, never first by kubelb: without them there is nothing to tell.
Our own that only they need are imported with them: most processes have none.
"""

import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import ReferenceType, ref

from kubelb.clock import Clock
from kubelb.core.events import Event
from kubelb.core.options import awaitable
from kubelb.core.retry.budget import BudgetState
from kubelb.core.state import EndpointState
from kubelb.itself import loaded
from kubelb.model import Attempt
from kubelb.printable import shown
from kubelb.target import Target
from kubelb.telemetry.broken import lost
from kubelb.telemetry.options import Telemetry
from kubelb.telemetry.presence import always, metering, never, present, tracing
from kubelb.telemetry.tally import Tally

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram
    from opentelemetry.trace import Tracer

    from kubelb.telemetry.calls import Call
    from kubelb.telemetry.conventions import Wire
    from kubelb.telemetry.looking import Balanced
    from kubelb.telemetry.meters import Meters

__all__ = ["AioSeen", "Seen", "Watch"]

T = TypeVar("T")


class Watch:
    """See the module. `options` is False for nothing at all."""

    def __init__(self, target: Target, options: Telemetry | bool, clock: Clock) -> None:
        if not isinstance(options, Telemetry | bool):
            raise TypeError(f"telemetry={shown(options)}: give True, False or a kubelb.Telemetry")
        self._silent = options is False
        options = options if isinstance(options, Telemetry) else Telemetry()
        self._options = options
        self.service = ""
        self._name(target)
        self._clock = clock
        self._tally = Tally(target.scheme)
        self._lb: ReferenceType[Balanced] | None = None
        self._meters: Meters | None = None
        self._tracer: Tracer | None = None
        self._unmetered = False
        """The instruments could not be made; that is not tried with each request."""
        self._histograms: dict[str, Histogram | None] = {}
        own = options.tracer_provider is not None or options.meter_provider is not None
        self.on: Callable[[], bool] = never if self._silent else always if own else present
        """Whether anything listens."""

    def _name(self, target: Target) -> None:
        self.service = self._options.service or ("static" if target.scheme == "static" else str(target))
        self._target = target

    # What happens beside requests

    def rename(self, target: Target) -> None:
        """Report under this name from now on: the target's own namespace was found."""
        self._name(target)
        if self._meters is not None:
            self._meters.rename(self._tally, self.service)

    def open(self, lb: "Balanced", budget: BudgetState | None) -> None:
        """Report this load balancer's numbers; it is held weakly."""
        self._lb = ref(lb)
        self._tally.budget = budget
        self._open()
        if self.on():
            from kubelb.telemetry import calls  # noqa: F401 - so that no request pays for it

    def _open(self) -> None:
        """Register for metrics as soon as OpenTelemetry's are there to take them."""
        provider = self._options.meter_provider
        if self._silent or (provider is None and "opentelemetry.metrics" not in sys.modules):
            return
        lb = self._lb() if self._lb else None
        if lb is not None and not self._unmetered:
            try:
                from kubelb.telemetry.meters import meters_for
            except (ImportError, OSError):  # no descriptor is left, say; it is tried again with what happens next
                return
            try:
                self._meters = meters_for(provider)
                self._meters.add(lb, self._tally, self.service)
            except Exception as error:  # noqa: BLE001 - a provider, or a view, of the application's own
                self._unmetered = True
                lost("a meter", error)

    def count(self, event: Event) -> None:
        """Count an event."""
        self._tally.count(event)
        if self._meters is None:
            self._open()

    def leave(self, states: Iterable[EndpointState]) -> None:
        """Endpoints went away."""
        self._tally.leave(states)

    def after_fork_in_child(self, lb: "Balanced") -> None:
        """Begin at zero, with locks of our own."""
        meters = loaded("telemetry.meters")
        if meters is not None:
            meters.after_fork_in_child()
        self._tally.after_fork_in_child(lb.balancer)
        if self._meters is not None:
            self._meters.after_fork_in_child(self._tally)

    # Requests

    def http(self, method: str, scheme: str, host: str, port: int | None, url: Any, *, instrumented: bool) -> "Call":
        """See an HTTP request; `instrumented`: an instrumentation records its duration."""
        from kubelb.telemetry.conventions import http

        return self._call(http(method, scheme, host, port, url, instrumented=instrumented))

    def rpc(self, method: str) -> "Call":
        """See a gRPC call."""
        from kubelb.telemetry.conventions import rpc

        return self._call(rpc(method, self._target.host, self._target.port))

    def plain(self) -> "Call":
        """See a call of a function of the user's."""
        from kubelb.telemetry.conventions import plain

        return self._call(plain(self.service))

    def _call(self, wire: "Wire") -> "Call":
        from kubelb.telemetry.calls import Call

        if self._meters is None:
            self._open()
        return Call(self.service, wire, self._tracing(), self._histogram(wire.duration), self._clock)

    def _tracing(self) -> "Tracer | None":
        if self._tracer is None and (self._options.tracer_provider is not None or tracing()):
            from opentelemetry import trace

            from kubelb.telemetry.conventions import scope

            try:
                self._tracer = trace.get_tracer(*scope(), self._options.tracer_provider)
            except Exception as error:  # noqa: BLE001
                lost("a tracer", error)
        return self._tracer

    def _histogram(self, name: str) -> "Histogram | None":
        if not name or not (self._options.meter_provider is not None or metering()):
            return None
        if name not in self._histograms:
            from opentelemetry import metrics

            from kubelb.telemetry.conventions import BUCKETS, scope
            from kubelb.telemetry.names import DURATIONS

            self._histograms[name] = None
            try:
                self._histograms[name] = metrics.get_meter(*scope(), self._options.meter_provider).create_histogram(
                    name,
                    unit="s",
                    description=next(each.description for each in DURATIONS if each.name == name),
                    explicit_bucket_boundaries_advisory=BUCKETS,
                )
            except Exception as error:  # noqa: BLE001
                lost("a histogram", error)
        return self._histograms[name]


class Seen(Generic[T]):
    """A user's function, each of whose runs is an attempt of a call that is seen."""

    __slots__ = ("_call", "fn")

    def __init__(self, call: "Call", fn: Callable[[Attempt], T]) -> None:
        self._call = call
        self.fn = fn

    def __call__(self, attempt: Attempt) -> T:
        with self._call.attempt(attempt.endpoint, attempt.number):
            return self.fn(attempt)


class AioSeen(Generic[T]):
    """The same for one that returns an awaitable."""

    __slots__ = ("_call", "fn")

    def __init__(self, call: "Call", fn: Callable[[Attempt], Awaitable[T]]) -> None:
        self._call = call
        self.fn = fn

    async def __call__(self, attempt: Attempt) -> T:
        with self._call.attempt(attempt.endpoint, attempt.number):
            return await awaitable(self.fn, self.fn(attempt))
