"""LoadBalancer: what a user holds, a facade of a dozen names. All work is done by the `Service` behind it."""

import random
from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from kubelb.clock import Clock, monotonic
from kubelb.core.health.breaker import CircuitBreaker
from kubelb.core.health.limits import ConcurrencyLimits
from kubelb.core.health.outliers import OutlierDetection
from kubelb.core.health.slow_start import SlowStart
from kubelb.core.policies import Policy
from kubelb.core.retry import Retry
from kubelb.core.view import EndpointView
from kubelb.discovery.base import Discovery
from kubelb.discovery.options import DiscoveryOptions
from kubelb.model import Health
from kubelb.runtime.functions import Functions
from kubelb.runtime.loops import refuse_trio
from kubelb.service import Service
from kubelb.target import Target
from kubelb.telemetry.heard import Hear
from kubelb.telemetry.options import Telemetry

__all__ = ["LoadBalancer"]

P = ParamSpec("P")
T = TypeVar("T")


def _names_moved_options(init: Callable[P, None]) -> Callable[P, None]:
    """Each option of discovery was once a keyword of its own: one that is given so is named, with its new place."""

    @wraps(init)
    def checked(*args: P.args, **options: P.kwargs) -> None:
        if moved := [name for name in DiscoveryOptions.__slots__ if name in options]:
            given = ", ".join(f"{name}=..." for name in moved)
            raise TypeError(
                f"LoadBalancer({given}): options of discovery are one value now; "
                f"give LoadBalancer(..., discovery=kubelb.DiscoveryOptions({given}))"
            )
        init(*args, **options)

    return checked


class LoadBalancer(Functions):
    """Balances over the endpoints of one service; safe to share between threads, event loops and adapters.

    `target` is a name such as ``"reviews.prod:http"``: a Service, by EndpointSlices, else by DNS; ``kube:///``,
    ``dns+srv://``, ``dns://`` and ``static:///`` name one source (see `kubelb.target`). ``"reviews:http"`` is in the
    own namespace: of a given kubeconfig or context the context's, else ``$KUBELB_NAMESPACE``, else that of the pod or
    of the kubeconfig. In its place a `Discovery` of your own may stand. Keyword options, all with a default:

    - `policy`: a Policy or its name, ``"peak_ewma"``;
    - `retry`: a Retry, None for one attempt only;
    - `outliers`: an OutlierDetection, None to eject none;
    - `limits`: a ConcurrencyLimits, None (the default) to refuse no request for their number;
    - `breaker`: a CircuitBreaker, None (the default) for none;
    - `slow_start`: a SlowStart, None for none;
    - `discovery`: a `DiscoveryOptions` (zone, kubeconfig, fallback port, ...), None (the default) for its defaults;
    - `ready_timeout`: seconds that a call waits at most for the first endpoints, 5.0; after one that waited in vain
      calls fail at once, until discovery has something else to say;
    - `telemetry`: False for no metrics and spans, a Telemetry to say where they go; by default wherever OpenTelemetry
      is set up to send them;
    - `clock`, `rng`: seconds and chance, for tests.

    ``$KUBELB_TARGETS`` may give a service other addresses, and ``$KUBELB_DISABLE`` switch kubelb off (see the guide on
    local work). Raises `TargetError` for a name that cannot be parsed, `ValueError` for an option out of range,
    `TypeError` for one of another kind.

    >>> lb = LoadBalancer("static:///127.0.0.1:8080,127.0.0.2:8080", policy="round_robin")
    >>> len({lb.call(lambda attempt: attempt.endpoint.authority) for _ in range(4)})
    2
    >>> lb.close()
    """

    @_names_moved_options
    def __init__(
        self,
        target: str | Discovery,
        *,
        policy: Policy | str = "peak_ewma",
        retry: Retry | None = Retry(),
        outliers: OutlierDetection | None = OutlierDetection(),
        limits: ConcurrencyLimits | None = None,
        breaker: CircuitBreaker | None = None,
        slow_start: SlowStart | None = SlowStart(),
        discovery: DiscoveryOptions | None = None,
        ready_timeout: float = 5.0,
        telemetry: Telemetry | bool = True,
        clock: Clock = monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._service: Service = Service(
            target,
            policy=policy,
            retry=retry,
            outliers=outliers,
            limits=limits,
            breaker=breaker,
            slow_start=slow_start,
            discovery=discovery,
            ready_timeout=ready_timeout,
            telemetry=telemetry,
            clock=clock,
            rng=rng,
        )

    @property
    def target(self) -> Target:
        """The parsed target; one of the own namespace gets that as soon as it is known."""
        return self._service.target

    # What there is to see

    def endpoints(self) -> tuple[EndpointView, ...]:
        """Return one line for each known endpoint: address, zone, state, in flight, latency, ejection, reasons."""
        return self._service.endpoints()

    def health(self) -> Health:
        """Return how well the service is known: source, synced, age, the last error and its cure, counts by state."""
        return self._service.health()

    def __repr__(self) -> str:
        return repr(self._service)

    # Readiness

    def wait_ready(self, timeout: float | None = None) -> None:
        """Block until endpoints are known, at most `timeout` seconds (`ready_timeout` by default).

        Raises NotReady when time is up, with what discovery is stuck on; UnknownService or NoEndpoints at once where
        the service is known and has nothing to send to; Closed. While kubelb is switched off it returns at once.
        """
        self._service.wait_ready(timeout)

    async def await_ready(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """The same for asyncio; RuntimeError under trio."""
        await self._service.await_ready(timeout)

    def resync_now(self) -> None:
        """Have discovery fetch everything again, without waiting for its next try."""
        self._service.resync_now()

    def on_event(self, hear: Hear) -> Callable[[], None]:
        """Have a callable hear each Event from now on; returns what takes it back, a callable without arguments.

        Events tell what changed beside the ordinary success of requests: endpoints that came, went, were ejected or are
        back, retries, limits, failures of discovery (`kubelb.events` lists them). `hear` is called in the thread
        where it happened, on the path of a request, too, so it must return soon; no lock is held meanwhile. What it
        raises is logged, once for each kind of exception, and harms no request. TypeError for what is no callable.

        It is a decorator, too; then the name is what takes it back.

        >>> lb = LoadBalancer("static:///127.0.0.1:9", retry=None)
        >>> names = []
        >>> @lb.on_event
        ... def names_of_events(event):
        ...     names.append(type(event).__name__)
        >>> lb.call(lambda attempt: attempt.number)
        1
        >>> names_of_events()
        >>> lb.close()
        """
        return self._service.on_event(hear)

    # Closing

    def close(self) -> None:
        """Stop discovery and refuse further calls; those under way may finish. Idempotent.

        Discovery for a load balancer that was dropped without it stops within half a minute.
        """
        self._service.close()

    async def aclose(self) -> None:
        """The same; it takes 50 ms at most, in a thread of its own, and is done also where this is cancelled.

        Raises RuntimeError under trio.
        """
        await self._service.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        refuse_trio("`async with` a LoadBalancer", "`with`")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __reduce__(self) -> Any:
        return self._service.__reduce__()
