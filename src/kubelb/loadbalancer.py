"""LoadBalancer: what a user holds. It wires the rooms together, opens, closes and shows.

    target -> source -> feed -> balancer <- pick / call <- adapters

The constructor starts no thread and does no I/O, but that it imports what its discovery is made of, so that no request
waits for that, and for a target of the own namespace reads the small file in which a pod finds that. Discovery begins
with the first call that needs endpoints. From then on a call picks from what is known and never waits for discovery
again.
"""

import contextlib
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self
from weakref import ref

from kubelb.clock import Clock, monotonic
from kubelb.core.balancer import Balancer
from kubelb.core.events import DiscoveryFailed, DiscoveryRecovered, EndpointsChanged, Event
from kubelb.core.health.breaker import CircuitBreaker
from kubelb.core.health.limits import ConcurrencyLimits
from kubelb.core.health.outliers import OutlierDetection
from kubelb.core.health.slow_start import SlowStart
from kubelb.core.options import check_kind, number
from kubelb.core.policies import Policy
from kubelb.core.retry import Retry
from kubelb.core.retry.budget import BudgetState
from kubelb.core.view import EndpointView
from kubelb.discovery.base import Discovery
from kubelb.discovery.mapped import VARIABLE as TARGETS
from kubelb.discovery.mapped import mapped
from kubelb.discovery.namespace import in_own_namespace, placed
from kubelb.discovery.plain import plain_endpoint
from kubelb.discovery.select import (
    FAMILIES,
    Options,
    check_options,
    parse_families,
    preload,
    seed_endpoints,
    source_for,
)
from kubelb.discovery.static import StaticDiscovery
from kubelb.errors import NoEndpoints, NotReady, TargetError
from kubelb.model import Endpoint, Health, Snapshot
from kubelb.printable import shown
from kubelb.runtime.calls import Calls
from kubelb.runtime.feed import Feed
from kubelb.runtime.fork import settled
from kubelb.runtime.greenlets import TOO_LATE, PatchedTooLate, look
from kubelb.runtime.hinting import seconds
from kubelb.runtime.life import Life
from kubelb.runtime.links import Links
from kubelb.runtime.listening import Changed, Listeners
from kubelb.runtime.loops import refuse_trio
from kubelb.runtime.standing import Standing
from kubelb.runtime.switch import announce, off, switched_off
from kubelb.runtime.waiting import await_until, wait_until
from kubelb.runtime.weakly import weakly
from kubelb.runtime.worker import worker
from kubelb.target import Target, domain_of, parse_nameserver, parse_target
from kubelb.telemetry.logs import LogSink
from kubelb.telemetry.options import Telemetry
from kubelb.telemetry.watch import Watch

__all__ = ["LoadBalancer"]

SOURCES = {"": "endpointslices", "kube": "endpointslices", "dns": "dns", "dns+srv": "dns+srv", "static": "static"}
"""Where endpoints will come from, for as long as there is no source that says so itself."""
PROBE = 5.0
"""Seconds between two times that calls which fail at once have discovery ask again, out of its own turn."""
SEED = -1
"""Version of the seed's snapshot: the changes of a source's first one are to its own version 0."""


class LoadBalancer(Calls):
    """Balances over the endpoints of one service; safe to share between threads, event loops and adapters.

    `target` is a name such as ``"reviews.prod:http"``: a Service, by EndpointSlices, else by DNS; ``kube:///``,
    ``dns+srv://``, ``dns://`` and ``static:///`` name one source (see `kubelb.target`). ``"reviews:http"`` is in the
    own namespace: of a given `kubeconfig` or `context` the context's, else ``$KUBELB_NAMESPACE``, else that of the pod
    or of the kubeconfig. Keyword options, all with a default:

    - `policy`: a Policy or its name, ``"peak_ewma"``;
    - `retry`: a Retry, None for one attempt only;
    - `outliers`: an OutlierDetection, None to eject none;
    - `limits`: a ConcurrencyLimits, None (the default) to refuse no request for their number;
    - `breaker`: a CircuitBreaker, None (the default) for none;
    - `slow_start`: a SlowStart, None for none;
    - `node`, `zone`: where the caller is; else ``$NODE_NAME`` and ``$KUBELB_ZONE``, else learnt from the slices;
    - `traffic_policy`: ``"Cluster"``, or ``"Local"`` for endpoints on the own node only;
    - `require_serving`, `avoid_terminating`: stricter than kube-proxy about pods that are published while not ready;
    - `strict_hints`: True to follow topology hints, as kube-proxy does, also where no endpoint that they name answers;
    - `allow_special_addresses`: True to dial link-local, multicast, broadcast and unspecified addresses, too, wherever
      they are from; by default they are left out, and told (``169.254.169.254`` is a cloud's metadata server);
    - `max_stale`: seconds without word from discovery after which `health()` says stale; never, by default;
    - `seed`: ``"ip:port"`` addresses to use until the first sync;
    - `kubeconfig`, `context`: else ``$KUBECONFIG``, the pod's own files, ``~/.kube/config``;
    - `cluster_domain`: ``"cluster.local"``, or what the target says, ``SVC.NS.svc.DOMAIN``;
    - `fallback_port`: port number to use with A records, where neither slices nor SRV records can be had;
    - `nameserver`: ``"IP"`` or ``"IP:PORT"`` to ask for DNS names; else those of ``/etc/resolv.conf``;
    - `families`: ``("IPv4", "IPv6")``, the preferred one first: where a service has both, the first that this host has
      a route to is used; ``("IPv4",)`` for one alone. Of slices and DNS, not of ``static:///`` and `seed`;
    - `ready_timeout`: seconds that a call waits at most for the first endpoints, 5.0; after one that waited in vain
      calls fail at once, until discovery has something else to say;
    - `telemetry`: False for no metrics and spans, a Telemetry to say where they go; by default wherever OpenTelemetry
      is set up to send them.

    ``$KUBELB_TARGETS`` may give a service other addresses, and ``$KUBELB_DISABLE`` switch kubelb off (see the guide on
    local work). Raises `TargetError` for a name or nameserver that cannot be parsed, `ValueError` for an option out of
    range, `TypeError` for one of another kind.

    >>> lb = LoadBalancer("static:///127.0.0.1:8080,127.0.0.2:8080", policy="round_robin")
    >>> len({lb.call(lambda attempt: attempt.endpoint.authority) for _ in range(4)})
    2
    >>> lb.close()
    """

    def __init__(
        self,
        target: str,
        *,
        policy: Policy | str = "peak_ewma",
        retry: Retry | None = Retry(),
        outliers: OutlierDetection | None = OutlierDetection(),
        limits: ConcurrencyLimits | None = None,
        breaker: CircuitBreaker | None = None,
        slow_start: SlowStart | None = SlowStart(),
        node: str | None = None,
        zone: str | None = None,
        traffic_policy: str = "Cluster",
        require_serving: bool = False,
        avoid_terminating: bool = False,
        strict_hints: bool = False,
        allow_special_addresses: bool = False,
        max_stale: float | None = None,
        seed: Iterable[str] | None = None,
        kubeconfig: str | None = None,
        context: str | None = None,
        cluster_domain: str = "cluster.local",
        fallback_port: int | None = None,
        nameserver: str | None = None,
        families: Sequence[str] = FAMILIES,
        ready_timeout: float = 5.0,
        telemetry: Telemetry | bool = True,
        clock: Clock = monotonic,
        rng: random.Random | None = None,
    ) -> None:
        given = parse_target(target)
        self.target: Target = placed(given, kubeconfig, context)
        self.own_namespace = bool(given.service and not given.namespace)
        """Whether the target named none, so that the Service's name alone is one of its hosts."""
        check_kind("retry", retry, Retry)
        if not isinstance(telemetry, Telemetry | bool):
            raise TypeError(f"telemetry={shown(telemetry)}: give True, False or a kubelb.Telemetry(...)")
        _check_seconds(ready_timeout)
        self.cluster_domain = cluster_domain = domain_of(self.target, cluster_domain)
        self.ready_timeout = ready_timeout
        self.retry = retry or Retry(attempts=1, budget=None)
        self._options = Options(
            node=node,
            zone=zone,
            traffic_policy=traffic_policy,
            require_serving=require_serving,
            avoid_terminating=avoid_terminating,
            strict_hints=strict_hints,
            allow_special_addresses=allow_special_addresses,
            max_stale=max_stale,
            kubeconfig=kubeconfig,
            context=context,
            cluster_domain=cluster_domain,
            fallback_port=fallback_port,
            nameserver=None if nameserver is None else parse_nameserver(nameserver),
            families=parse_families(families),
        )
        check_options(self.target, self._options)
        self._off = switched_off()
        self._source_target = mapped(self.target, given, cluster_domain) or self.target
        """Where endpoints are looked for: the target, but where ``KUBELB_TARGETS`` has another place for it."""
        self._clock = clock
        self._log = LogSink(clock, _later)
        self.watch = Watch(self.target, telemetry, clock)
        self.balancer = Balancer(
            policy,
            service=str(self.target),
            outliers=outliers,
            limits=limits,
            breaker=breaker,
            slow_start=slow_start,
            clock=clock,
            rng=rng,
            emit=self._emit,
        )
        self._budget = BudgetState(self.retry.budget, clock()) if self.retry.budget else None
        self.always_flow = self.retry.retry is not None
        self.links = Links()
        self._failing: float | None = None
        """Since when discovery has told of failures; None while it is well."""
        self._in_vain = False
        """Whether a call has waited since then for the first endpoints, and got none."""
        self._probe_at = float("-inf")
        self._unplaced: float | None = None
        """Since when the own namespace is asked for in vain."""
        self._lock = threading.Lock()
        self._closed = False
        self._feed: Feed | None = None
        self._resume = False
        """Whether discovery, which a parent had begun, is still to begin here."""
        self._broken = ""
        """Why nothing can work any more."""
        self._listeners = Listeners()
        self._standing = Standing(self.balancer, self.links)
        seeds = () if seed is None else seed_endpoints(seed)
        unused = self._source_target is not self.target or self._may_be_mapped()
        # Of a seed that is refused whole nothing is published: calls wait for the first sync as without one.
        if seeds and not unused and (dialled := self._dialled(seeds)):
            self._publish(Snapshot(SEED, dialled))
            self.balancer.at_next_pick(self._begin)
        self._static: Discovery | None = None
        if self._source_target.scheme == "static":  # complete from the start: nothing to open, nothing to wait for
            self._static = source_for(self._source_target, self._options, clock, self._emit)
            snapshot, _ = self._static.poll(clock())
            if snapshot is not None:
                self._publish(snapshot)
        preload(self._source_target)
        if self._off:
            announce(str(self.target), self._portless())
        self.watch.open(self, self._budget)
        self._life = Life(weakly(self._start_anew), weakly(self._new_locks), weakly(self._too_late))

    # What users look at

    def endpoints(self) -> tuple[EndpointView, ...]:
        """Return one line for each known endpoint: address, zone, state, in flight, latency, ejection, reasons."""
        self._go_on()
        return self._standing.views()

    def health(self) -> Health:
        """Return how well the service is known: source, synced, age, the last error and its cure, counts by state."""
        self._go_on()
        if self._off:
            return Health("disabled", synced=True, age=0.0)
        feed = self._feed
        source = self._static or (feed.source if feed else None)
        error, _, cure = (feed.problem if feed else "").partition("; ")
        if source:
            health = source.health()
        else:
            kind = "" if self._unplaced is None else "credentials"
            health = Health(SOURCES[self._source_target.scheme], error=error, cure=cure, kind=kind)
        counts = Counter(view.state for view in self.endpoints())
        error, cure = self._standing.trouble()
        if error and (not health.error or error in health.error):
            health = replace(health, error=health.error or error, cure=health.cure or cure)
        if self._broken:
            health = replace(health, error=self._broken, cure="patch first")
        return replace(health, counts=dict(sorted(counts.items())))

    def __repr__(self) -> str:
        return f"<LoadBalancer {self.target}{' closed' if self._closed else ''} {self.balancer.policy!r}>"

    # Readiness

    def wait_ready(self, timeout: float | None = None) -> None:
        """Block until endpoints are known, at most `timeout` seconds (`ready_timeout` by default).

        Raises NotReady when time is up, with what discovery is stuck on; UnknownService or NoEndpoints at once where
        the service is known and has nothing to send to; Closed. While kubelb is switched off it returns at once.
        """
        if self._passed_by():
            return
        until = self._until(timeout)
        feed = self.feed()
        while feed is not None and not self._known() and self._clock() < until:
            wait_until(feed, self._known, until, self._clock)
        self._raise_unless_ready()

    async def await_ready(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """The same for asyncio; RuntimeError under trio."""
        refuse_trio("LoadBalancer.await_ready", "wait_ready", "lb.wait_ready")
        if self._passed_by():
            return
        until = self._until(timeout)
        feed = self.feed()
        while feed is not None and not self._known() and self._clock() < until:
            await await_until(feed, self._known, until, self._clock)
        self._raise_unless_ready()

    def resync_now(self) -> None:
        """Have discovery fetch everything again, without waiting for its next try."""
        feed = self.feed()
        if feed is not None:
            feed.resync_now()

    # Opening and closing

    def close(self) -> None:
        """Stop discovery and refuse further calls; those under way may finish. Idempotent.

        Discovery for a load balancer that was dropped without it stops within half a minute.
        """
        settled()  # what a parent has begun is not a child's to end
        with self._lock:
            self._closed = True
            feed, self._feed = self._feed, None
        self.balancer.close()
        if feed is not None:
            feed.close()

    async def aclose(self) -> None:
        """The same; it takes 50 ms at most, in a thread of its own, and is done also where this is cancelled.

        Raises RuntimeError under trio.
        """
        import asyncio

        refuse_trio("LoadBalancer.aclose", "close", "lb.close")

        await asyncio.shield(asyncio.to_thread(self.close))

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

    # For adapters

    def on_change(self, listener: Changed) -> None:
        """Call a bound method with what each new snapshot changed; it is held weakly and must return soon."""
        self._listeners.add(listener)

    def feed(self) -> Feed | None:
        """Begin discovery if it has not begun; returns what tells of news, None where there will be none.

        Raises RuntimeError where there is no thread to be had, or threads have become greenlets meanwhile.
        """
        look()
        with self._lock:
            if self._closed or self._static is not None:
                return None
            if self._feed is None:
                # It holds us weakly: its threads would keep alive for ever what is dropped without `close`.
                me = ref(self)
                make, publish = weakly(self._make_source), weakly(self._publish)
                self._feed = Feed(make, publish, worker, self._clock, gone=lambda: me() is None)
            self._feed.start()
            return self._feed

    def tell(self, event: Event) -> None:
        """Report something that happened, to whatever listens to this load balancer's events."""
        self._emit(event)

    def plain_endpoint(self) -> Endpoint:
        """Return the Service itself, by its own name, for calls that go past kubelb; NoEndpoints where it has no port.

        It is where ``KUBELB_TARGETS`` says, if that names the service. Of a fixed list it is the first that may be
        dialled: what is refused is so while kubelb is switched off, too.
        """
        target, snapshot = self._source_target, self.balancer.snapshot
        if target.scheme == "static" and snapshot is not None:
            if not snapshot.endpoints:
                raise NoEndpoints(str(self.target), snapshot.problem)
            return snapshot.endpoints[0]
        return plain_endpoint(target, self.cluster_domain, self._options.fallback_port)

    # What a process tells

    def _start_anew(self) -> None:
        """In a forked child, on next use: nothing is in flight here and the parent's stream is the parent's."""
        self._new_locks()
        self._log.after_fork_in_child()
        self.balancer.forget_in_flight()
        self.watch.after_fork_in_child(self)
        if self._budget:
            self._budget.forget()
        self._failing, self._in_vain = None, False
        feed, self._feed = self._feed, None
        if feed is not None:
            feed.abandon()
            self._resume = True
        if self._resume:
            self.balancer.at_next_pick(self._begin)

    def _new_locks(self) -> None:
        self._lock = threading.Lock()
        self._listeners.new_lock()

    def _too_late(self) -> None:
        """Refuse, from the next pick on, what could only hang."""
        self._broken = TOO_LATE
        self.balancer.at_next_pick(self._refuse)

    def _refuse(self) -> None:
        raise PatchedTooLate(f"{self!r}: {TOO_LATE}")

    def _go_on(self) -> None:
        """Where a parent had begun discovery, begin it here too: not only picks want to hear of new endpoints."""
        settled()
        if self._resume and not self._broken:
            self._begin()

    def _begin(self) -> None:
        """Begin discovery while requests are served from what is known: what it lacks costs none of them."""
        try:
            self.feed()
            self._resume = False
        except PatchedTooLate:
            raise
        except RuntimeError as error:
            cure = "is this process at a limit (ulimit, pids)?"
            self._emit(DiscoveryFailed(str(self.target), "internal", f"discovery cannot begin: {error}", cure))
            self.balancer.at_next_pick(self._begin)

    def __reduce__(self) -> Any:
        raise TypeError(f"{self!r} cannot be pickled or copied: it is a process's own; make one in each, by its target")

    def _make_source(self) -> Discovery:
        self._place()
        options, emit = self._options, weakly(self._emit)
        if self._source_target is not self.target:  # no name of the cluster, whose nameserver is not asked for it
            options = replace(options, nameserver=None)
        return source_for(self._source_target, options, self._clock, emit, weakly(self._standing.reached))

    def _dialled(self, seed: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        """The seed without addresses that are no server's."""
        source = StaticDiscovery(
            seed,
            allow_special_addresses=self._options.allow_special_addresses,
            service=str(self.target),
            emit=self._emit,
        )
        snapshot, _ = source.poll(0.0)
        return snapshot.endpoints if snapshot else ()

    def _may_be_mapped(self) -> bool:
        """Whether ``KUBELB_TARGETS`` can only be asked when the own namespace is found; a seed must not go before."""
        return bool(self.own_namespace and not self.target.namespace and os.environ.get(TARGETS, "").strip())

    def _place(self) -> None:
        """Find the own namespace in a kubeconfig, where the target is in it and it was not at hand.

        ``KUBELB_TARGETS`` is asked again then: it may name the service with its namespace.
        """
        given = self.target
        try:
            if self._source_target is not given:
                return
            target = in_own_namespace(given, self._options.kubeconfig, self._options.context)
            if target is not given:
                self._source_target = mapped(target, given, self.cluster_domain) or target
                self.target = target
                self.balancer.rename(str(target))
                self.watch.rename(target)
        except TargetError as error:
            reason, _, cure = str(error).partition("; ")
            self._unplaced = self._clock() if self._unplaced is None else self._unplaced
            self._emit(DiscoveryFailed(str(given), "credentials", reason, cure))
            raise
        since, self._unplaced = self._unplaced, None
        if since is not None:
            self._emit(DiscoveryRecovered(str(self.target), self._clock() - since))

    def _portless(self) -> str:
        """Why calls that need an address of kubelb's are refused while it is switched off; "" where they are not."""
        try:
            self.plain_endpoint()
        except NoEndpoints as error:
            return error.reason
        return ""

    def _passed_by(self) -> bool:
        return not self._closed and (self._off or off() is not None)

    def _until(self, timeout: float | None) -> float:
        return self._clock() + (self.ready_timeout if timeout is None else seconds("timeout", timeout))

    def _known(self) -> bool:
        hopeless = self._feed is not None and bool(self._feed.problem)
        return self._closed or hopeless or (self.balancer.version or 0) > 0

    def _raise_unless_ready(self) -> None:
        error = self.balancer.refusal()
        if isinstance(error, NotReady):
            raise self.explained(error)
        if error is not None:
            raise error

    def _publish(self, snapshot: Snapshot) -> None:
        difference = self.balancer.update(snapshot)
        if difference.removed:
            self.watch.leave(difference.removed)
        self._emit(
            EndpointsChanged(
                str(self.target),
                snapshot.version,
                len(snapshot.endpoints),
                len(snapshot.parked),
                tuple(state.endpoint.authority for state in difference.added),
                tuple(state.endpoint.authority for state in difference.removed),
                snapshot.problem,
            )
        )
        self._listeners.tell(difference)

    def _gave_up(self) -> None:
        self._in_vain = self._stuck()

    def _stuck(self) -> bool:
        """Whether discovery has failed in every way that it knows, and is trying none for the first time just now."""
        feed = self._feed
        return self._failing is not None and not (feed is not None and getattr(feed.source, "waiting", False))

    def _first_wait(self) -> float:
        feed, since = self._feed, self._failing
        if feed is None or since is None:
            return self.ready_timeout
        now = self._clock()
        # A client's own timeout may be no longer than this wait, so that no call ever comes to its end.
        if not (self._in_vain or (now >= since + self.ready_timeout and self._stuck())):
            return self.ready_timeout
        if now >= self._probe_at:
            self._probe_at = now + PROBE
            feed.resync_now()
        return 0.0

    def _emit(self, event: Event) -> None:
        # One load balancer has one name: a source may be for another target, and an event may have an older name.
        if event.service != self.balancer.service:
            event = replace(event, service=self.balancer.service)
        if isinstance(event, DiscoveryFailed):
            if self._failing is None:
                self._failing = self._clock()
        elif isinstance(event, DiscoveryRecovered):
            self._failing, self._in_vain = None, False
        self._log(event)
        self.watch.count(event)


def _later(delay: float, job: Callable[[], None]) -> None:
    """Have a bound method called later, if its object is still there and there is a thread to be had."""
    with contextlib.suppress(RuntimeError):
        worker.call_at(worker.clock() + delay, weakly(job))


def _check_seconds(ready_timeout: object) -> None:
    if not number(ready_timeout) >= 0:
        raise ValueError(f"ready_timeout={shown(ready_timeout)}: give a number of seconds, 0 or more")
