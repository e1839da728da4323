"""Calls that telemetry watches: what stands between them and the sub-channels while they run.

`Attempts` takes the place of `Calling.at` for one call, so every kind of call is seen alike, whatever makes its
attempts: this thread, grpcio's, a task. Each attempt gets a span and carries its trace context as metadata; where
OpenTelemetry's own interceptors sit on the sub-channel they do both, below the span of the call.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeAlias
from weakref import ref

from kubelb.core.state import EndpointState
from kubelb.telemetry.conventions import rpc_answer

if TYPE_CHECKING:
    from kubelb.telemetry.calls import Call, Try

__all__ = ["Attempts", "WhenOver", "when_over"]

WhenOver: TypeAlias = "Callable[[Any, Call | Try], None]"
"""Ends what is seen when a call object has ended: `when_over` for sync ones, asyncio has its own."""

INSTRUMENTATION = "opentelemetry.instrumentation.grpc"
_END = object()


class Attempts:
    """Returns an endpoint's multicallable for one more attempt. `blocks`: calling it returns a response, not a call."""

    def __init__(self, at: Callable[[EndpointState], Any], call: "Call", blocks: bool, when_over: WhenOver) -> None:
        self._at = at
        self._call = call
        self._blocks = blocks
        self._when_over = when_over
        self._number = 0

    def __call__(self, state: EndpointState) -> "_Attempt":
        bound = self._at(state)
        self._number += 1
        attempt = self._call.attempt(state.endpoint, self._number, own=not _instrumented(bound))
        return _Attempt(bound, attempt, self._blocks, self._when_over)


class _Attempt:
    """A multicallable for one attempt."""

    def __init__(self, bound: Any, attempt: "Try", blocks: bool, when_over: WhenOver) -> None:
        self._bound = bound
        self._attempt = attempt
        self._blocks = blocks
        self._when_over = when_over

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Any:
        make = self._block if self._blocks else self._begin
        return make(self._bound, request, timeout, metadata, credentials, wait_for_ready, compression)

    def with_call(self, *said: Any) -> Any:
        """As a multicallable's."""
        return self._block(self._bound.with_call, *said)

    def future(self, *said: Any) -> Any:
        """As a multicallable's."""
        return self._begin(self._bound.future, *said)

    def _block(self, make: Callable[..., Any], request: Any, *said: Any) -> Any:
        with self._attempt as attempt:
            value = make(request, **_said(attempt, *said))
            attempt.answered(rpc_answer("OK"))
            return value

    def _begin(self, make: Callable[..., Any], request: Any, *said: Any) -> Any:
        attempt = self._attempt
        with attempt.current():
            call = make(request, **_said(attempt, *said))
        if not hasattr(call, "add_done_callback"):
            return _Within(call, attempt)
        self._when_over(call, attempt)
        return call


class _Within:
    """A bare iterator, which OpenTelemetry's interceptors make of a call: its span begins when it is first read."""

    def __init__(self, inner: Any, attempt: "Try") -> None:
        self._inner = inner
        self._attempt = attempt

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        with self._attempt.current():
            message = next(self._inner, _END)
        if message is _END:
            self._attempt.end({})
            raise StopIteration
        return message

    def close(self) -> None:
        """End it, which it cannot be while it is read: raises ValueError then, AttributeError where it never can."""
        self._inner.close()


def when_over(call: Any, seen: "Call | Try") -> None:
    """End what is seen when a call object has ended, or was dropped. The object is referred to weakly."""
    add = getattr(call, "add_callback", None)
    if add is None:  # an interceptor's own future, which is no call
        call.add_done_callback(lambda ended: seen.end(rpc_answer(_code(ended))))
        return
    weak = ref(call)

    def over() -> None:
        ended = weak()
        seen.end(rpc_answer("CANCELLED" if ended is None else _code(ended)))

    if not add(over):
        over()


def _code(call: Any) -> str:
    try:
        return str(getattr(call.code(), "name", "UNKNOWN"))
    except Exception:  # noqa: BLE001 - an interceptor's own object, in a thread that must go on
        return "UNKNOWN"


def _said(
    attempt: "Try", timeout: float | None, metadata: Any, credentials: Any, wait_for_ready: Any, compression: Any
) -> Mapping[str, Any]:
    """Return the arguments of a multicallable, with the attempt's own trace context in the place of any other."""
    carrier = attempt.carrier()
    if carrier:
        kept: Iterable[tuple[str, Any]] = (item for item in metadata or () if item[0] not in carrier)
        metadata = [*kept, *carrier.items()]  # grpcio 1.80 trips over a tuple when it says what is wrong with one
    said = {"timeout": timeout, "metadata": metadata, "credentials": credentials, "compression": compression}
    return said if wait_for_ready is None else said | {"wait_for_ready": wait_for_ready}


def _instrumented(bound: Any) -> bool:
    """Whether OpenTelemetry's own interceptors make spans of what this multicallable does."""
    interceptors = getattr(bound, "_interceptors", None) or ()
    return any(type(one).__module__.startswith(INSTRUMENTATION) for one in (bound, *interceptors))
