"""Service: what stands behind a LoadBalancer. It wires the rooms together, and adapters make their attempts through it.

    target -> placing -> source -> feed -> balancer <- pick, run <- adapters, `call`

The constructor starts no thread and does no I/O, but that it imports what its discovery is made of, so that no request
waits for that, and for a target of the own namespace reads the small file in which a pod finds that. Discovery begins
with the first call that needs endpoints. From then on a call picks from what is known and never waits for discovery
again. An adapter takes it by `service_of(lb)` and keeps it; users need it only to take leases themselves.
"""

import contextlib
import os
import random
from collections.abc import Callable
from typing import Any, Protocol
from weakref import ref

from kubelb.clock import Clock
from kubelb.core.balancer import Balancer
from kubelb.core.events import Event
from kubelb.core.health.breaker import CircuitBreaker
from kubelb.core.health.limits import ConcurrencyLimits
from kubelb.core.health.outliers import OutlierDetection
from kubelb.core.health.slow_start import SlowStart
from kubelb.core.members import Place
from kubelb.core.options import check_kind
from kubelb.core.policies import Policy
from kubelb.core.retry import Retry
from kubelb.core.retry.budget import BudgetState
from kubelb.core.view import EndpointView
from kubelb.discovery.base import Discovery
from kubelb.discovery.options import DiscoveryOptions
from kubelb.errors import NotReady
from kubelb.model import Endpoint, Health, Snapshot
from kubelb.printable import shown
from kubelb.runtime.calls import Calls
from kubelb.runtime.feed import Feed
from kubelb.runtime.fork import settled
from kubelb.runtime.greenlets import look
from kubelb.runtime.hinting import seconds
from kubelb.runtime.life import Life
from kubelb.runtime.links import Links
from kubelb.runtime.listening import Changed, Listeners, changed
from kubelb.runtime.loops import refuse_trio
from kubelb.runtime.opening import Opening
from kubelb.runtime.placing import placing_of
from kubelb.runtime.readiness import Readiness
from kubelb.runtime.standing import Standing
from kubelb.runtime.switch import announce, off, switched_off
from kubelb.runtime.weakly import weakly
from kubelb.runtime.worker import worker
from kubelb.target import Target
from kubelb.telemetry.heard import Hear
from kubelb.telemetry.options import Telemetry
from kubelb.telemetry.telling import Telling
from kubelb.telemetry.watch import Watch

__all__ = ["Service", "service_of"]

SEED = -1
"""Version of the seed's snapshot: the changes of a source's first one are to its own version 0."""


class Service(Calls):
    """One service, as this process knows it. Its options are those of `kubelb.LoadBalancer`."""

    def __init__(
        self,
        target: str | Discovery,
        *,
        policy: Policy | str,
        retry: Retry | None,
        outliers: OutlierDetection | None,
        limits: ConcurrencyLimits | None,
        breaker: CircuitBreaker | None,
        slow_start: SlowStart | None,
        discovery: DiscoveryOptions | None,
        ready_timeout: float,
        telemetry: Telemetry | bool,
        clock: Clock,
        rng: random.Random | None,
    ) -> None:
        self.placing = placing_of(target, discovery, clock)
        self.cluster_domain = self.placing.cluster_domain
        self.own_namespace = self.placing.own_namespace
        check_kind("retry", retry, Retry)
        if not isinstance(telemetry, Telemetry | bool):
            raise TypeError(f"telemetry={shown(telemetry)}: give True, False or a kubelb.Telemetry(...)")
        self.retry = retry or Retry(attempts=1, budget=None)
        self.always_flow = self.retry.retry is not None
        self.disabled = switched_off()
        self._clock = clock
        self.watch = Watch(self.target, telemetry, clock)
        self._telling = Telling(self.watch, clock, _later)
        self.balancer = Balancer(
            policy,
            service=str(self.target),
            outliers=outliers,
            limits=limits,
            breaker=breaker,
            slow_start=slow_start,
            here=_here(discovery or DiscoveryOptions()),
            clock=clock,
            rng=rng,
            emit=self.tell,
        )
        self.readiness = Readiness(self.balancer, ready_timeout, clock)
        self._budget = BudgetState(self.retry.budget, clock()) if self.retry.budget else None
        self.links = Links()
        self._standing = Standing(self.balancer, self.links)
        self._listeners = Listeners()
        me = ref(self)
        make, publish, tell = weakly(self._make_source), weakly(self._publish), weakly(self.tell)
        self.opening = Opening(self.balancer, make, publish, tell, lambda: me() is None, clock)
        # Of a seed that is refused whole nothing is published: calls wait for the first sync as without one.
        if seed := self.placing.seed(self.tell):
            self._publish(Snapshot(SEED, seed))
            if not self.placing.fixed:
                self.opening.begin_at_next_pick()
        self._fixed: Discovery | None = None
        if self.placing.fixed:
            self._fixed = self.placing.source(self.tell)
            snapshot, _ = self._fixed.poll(clock())
            if snapshot is not None:
                self._publish(snapshot)
        self.placing.preload()
        if self.disabled:
            announce(str(self.target), self.placing.portless(self.balancer.snapshot))
        self.watch.open(self, self._budget)
        self._life = Life(weakly(self._start_anew), weakly(self._new_locks), weakly(self.opening.too_late))

    def __repr__(self) -> str:
        return f"<LoadBalancer {self.target}{' closed' if self.opening.closed else ''} {self.balancer.policy!r}>"

    def __reduce__(self) -> Any:
        raise TypeError(f"{self!r} cannot be pickled or copied: it is a process's own; make one in each, by its target")

    @property
    def target(self) -> Target:
        """The parsed target, with the own namespace as soon as that is known."""
        return self.placing.target

    @property
    def ready_timeout(self) -> float:
        """Seconds that a call waits at most for the first endpoints."""
        return self.readiness.timeout

    # What is looked at

    def endpoints(self) -> tuple[EndpointView, ...]:
        """See `LoadBalancer.endpoints`."""
        self.opening.go_on()
        return self._standing.views()

    def health(self) -> Health:
        """See `LoadBalancer.health`."""
        self.opening.go_on()
        if self.disabled:
            return Health("disabled", synced=True, age=0.0)
        feed = self.opening.now
        source = self._fixed or (feed.source if feed else None)
        health = source.health() if source else self.placing.health(feed.problem if feed else "")
        return self._standing.health(health, self.opening.broken)

    def plain_endpoint(self) -> Endpoint:
        """Return the Service by its own name, for calls that go past kubelb; NoEndpoints where it has no port."""
        return self.placing.plain_endpoint(self.balancer.snapshot)

    # Readiness

    def wait_ready(self, timeout: float | None = None) -> None:
        """See `LoadBalancer.wait_ready`."""
        if not self._passed_by():
            until = self._until(timeout)
            if (feed := self.feed()) is not None:
                self.readiness.wait(feed, until)
            self._raise_unless_ready()

    async def await_ready(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """See `LoadBalancer.await_ready`."""
        refuse_trio("LoadBalancer.await_ready", "wait_ready", "lb.wait_ready")
        if not self._passed_by():
            until = self._until(timeout)
            if (feed := self.feed()) is not None:
                await self.readiness.wait_async(feed, until)
            self._raise_unless_ready()

    def resync_now(self) -> None:
        """See `LoadBalancer.resync_now`."""
        if (feed := self.feed()) is not None:
            feed.resync_now()

    def _passed_by(self) -> bool:
        return not self.opening.closed and (self.disabled or off() is not None)

    def _until(self, timeout: float | None) -> float:
        return self._clock() + (self.readiness.timeout if timeout is None else seconds("timeout", timeout))

    def _raise_unless_ready(self) -> None:
        error = self.balancer.refusal()
        if isinstance(error, NotReady):
            raise self.explained(error)
        if error is not None:
            raise error

    def _first_wait(self) -> float:
        return self.readiness.first_wait(self.opening.now)

    def _gave_up(self) -> None:
        self.readiness.gave_up(self.opening.now)

    # Opening and closing

    def feed(self) -> Feed | None:
        """Begin discovery if it has not begun; returns what tells of news, None where there will be none.

        Raises RuntimeError where there is no thread to be had, or threads have become greenlets meanwhile.
        """
        if self._fixed is None:
            return self.opening.feed()
        look()
        return None

    def close(self) -> None:
        """See `LoadBalancer.close`."""
        settled()  # what a parent has begun is not a child's to end
        self.opening.close()

    async def aclose(self) -> None:
        """See `LoadBalancer.aclose`."""
        import asyncio

        refuse_trio("LoadBalancer.aclose", "close", "lb.close")
        await asyncio.shield(asyncio.to_thread(self.close))

    def _make_source(self) -> Discovery:
        emit = weakly(self.tell)
        self.placing.find(self.tell, self._rename)
        return self.placing.source(emit, weakly(self._standing.reached))

    def _rename(self, target: Target) -> None:
        self.balancer.rename(str(target))
        self.watch.rename(target)

    # What happens

    def on_change(self, listener: Changed) -> None:
        """Call a bound method with what each new snapshot changed; it is held weakly and must return soon."""
        self._listeners.add(listener)

    def on_event(self, hear: Hear) -> Callable[[], None]:
        """See `LoadBalancer.on_event`."""
        return self._telling.on_event(hear)

    def tell(self, event: Event) -> None:
        """Report something that happened: to the log, to the counters and to callables of the user's."""
        self.readiness.heard(event)
        self._telling.tell(event, self.balancer.service)

    _emit = tell

    def _publish(self, snapshot: Snapshot) -> None:
        difference = self.balancer.update(snapshot)
        if difference.removed:
            self.watch.leave(difference.removed)
        self.tell(changed(str(self.target), snapshot, difference))
        self._listeners.tell(difference)

    # What a process tells

    def _start_anew(self) -> None:
        """In a forked child, on next use: nothing is in flight here."""
        self._new_locks()
        self._telling.after_fork_in_child()
        self.balancer.forget_in_flight()
        self.watch.after_fork_in_child(self)
        if self._budget:
            self._budget.forget()
        self.readiness.forget()
        self.opening.after_fork_in_child()

    def _new_locks(self) -> None:
        self.opening.new_lock()
        self._listeners.new_lock()


class _Served(Protocol):
    """What holds a Service: a LoadBalancer."""

    _service: Service


def service_of(lb: _Served) -> Service:
    """Return what adapters stand on."""
    return lb._service  # noqa: SLF001 - the one door


def _later(delay: float, job: Callable[[], None]) -> None:
    """Have a bound method called later, if its object is still there and there is a thread to be had."""
    with contextlib.suppress(RuntimeError):
        worker.call_at(worker.clock() + delay, weakly(job))


def _here(options: DiscoveryOptions) -> Place:
    """Return where this process is, as it was told; a zone that discovery learns is not in it."""
    zone = os.environ.get("KUBELB_ZONE", "") if options.zone is None else options.zone
    node = os.environ.get("NODE_NAME", "") if options.node is None else options.node
    return Place(zone=zone, node=node)
