"""Balancer: owns the endpoint states.

    update(snapshot)   diff by identity; survivors keep latency, ejection and what is in flight; a new Picker
    pick(request)      a Lease on one endpoint; takes no lock, allocates the Lease and nothing else
    record(...)        what leases report: latency, failures in a row, ejection

Threads. `pick` and `record` may run anywhere at any time and touch no lock in the ordinary case. One lock guards the
tables and the ejector; it is held for microseconds, never while foreign code runs: a policy's `build` and the sink of
events are called outside it. Decide inside, act outside: every decision returns the events it made, and a rebuild
takes a generation number along, so that of two rebuilds the one that saw more wins. A rebuild that an interrupt cuts
short is made up for by a pick soon after, because whatever calls for one also sets `wake` (`_changed`).

Time. `wake` is the next moment at which something changes by itself (an ejection ends, a slow start is over). `pick`
reads the clock anyway and compares once, so no timer is needed and virtual time works as well as real time.

Processes. `pick` is also where a fork is noticed of which Python was not told: it asks `kubelb.process.here` (20 ns).

It knows no socket, thread, request body or client.
"""

import math
import random
import threading
from collections.abc import Callable, Collection, Iterable
from functools import partial

from kubelb.clock import Clock, monotonic
from kubelb.core.charges import excused
from kubelb.core.events import Emit, Event, LocalTrouble, Skipped, discard
from kubelb.core.health.breaker import CircuitBreaker
from kubelb.core.health.circuits import Circuit, CircuitPhase, Circuits
from kubelb.core.health.ejector import Ejector
from kubelb.core.health.guards import Guards
from kubelb.core.health.limits import ConcurrencyLimits, Limiter
from kubelb.core.health.outliers import OutlierDetection
from kubelb.core.health.rests import Claim
from kubelb.core.health.silence import PEERS
from kubelb.core.health.slow_start import SlowStart
from kubelb.core.keys import KeySource
from kubelb.core.lease import Lease
from kubelb.core.local import Trouble
from kubelb.core.members import NOWHERE, Members, Place
from kubelb.core.options import check_kind
from kubelb.core.picking.builder import Builder
from kubelb.core.picking.seen import Seen, look
from kubelb.core.policies import Policy, policy_from
from kubelb.core.policies.weights import strange_weights
from kubelb.core.reach import LATELY
from kubelb.core.refusal import refusal
from kubelb.core.state import EndpointState, Phase, Usable
from kubelb.core.table import Difference, Table
from kubelb.core.tracking import CircuitTracker, Tracker
from kubelb.core.view import EndpointView, view
from kubelb.core.whence import whence
from kubelb.errors import LoadBalancerError
from kubelb.model import ANY, Outcome, Request, Snapshot
from kubelb.process import here, settle

__all__ = ["Balancer"]

REBUILD = 0.05
"""Seconds after which a rebuild that was due and has not come is done by the next pick, at the least."""

TIMES, AT_MOST = 4, 10.0
"""It is waited for so many times as long as the last one took, and so many seconds at the most: one that is under way
on a busy machine is not to be begun again by every thread that picks meanwhile."""

AT_ONCE = 100
"""Endpoints of which a rest makes a new picker at once; in a larger set the next pick after `REBUILD` does, for all."""


class Balancer:
    """Chooses an endpoint for each request and learns from how it ends. Usable alone, for any client:

    >>> from kubelb import Endpoint, Snapshot
    >>> balancer = Balancer("round_robin")
    >>> _ = balancer.update(Snapshot(1, (Endpoint("10.0.0.1", 80), Endpoint("10.0.0.2", 80))))
    >>> lease = balancer.pick()
    >>> lease.endpoint.port
    80
    >>> lease.release()

    `policy` is a Policy or its name. `outliers` and `slow_start` may be None. `here` says where this process is,
    `clock` returns monotonic seconds, `rng` is the only source of chance, `emit` receives events. A policy whose picker
    raises, or returns what is no state, is passed over for that request: it is picked at random. Raises from `pick`
    only what `kubelb.errors` names: NotReady before the first snapshot, UnknownService and NoEndpoints where there is
    nothing to pick, Unusable where nothing may be picked now, by the policy or by what keeps endpoints out.
    """

    def __init__(
        self,
        policy: Policy | str = "peak_ewma",
        *,
        service: str = "balancer",
        outliers: OutlierDetection | None = OutlierDetection(),
        limits: ConcurrencyLimits | None = None,
        breaker: CircuitBreaker | None = None,
        slow_start: SlowStart | None = SlowStart(),
        here: Place = NOWHERE,
        clock: Clock = monotonic,
        rng: random.Random | None = None,
        emit: Emit = discard,
    ) -> None:
        check_kind("outliers", outliers, OutlierDetection)
        check_kind("limits", limits, ConcurrencyLimits)
        check_kind("breaker", breaker, CircuitBreaker)
        check_kind("slow_start", slow_start, SlowStart)
        self.policy = policy_from(policy)
        self.needs = needs = self.policy.needs
        """What the policy wants of adapters and of statistics."""
        self.here = here
        """Where this process is, as policies see it."""
        self.service = service
        self.clock = clock
        self.rng = rng or random.Random()
        self.requests = 0
        """First attempts so far: what the retry budget is a share of."""
        self.observing = any(each is not None and each.observe for each in (outliers, limits, breaker))
        """Whether any of them only reports what it would have done."""
        self._emit = emit
        self._slow_start = slow_start
        ejector = Ejector(service, outliers, self.rng) if outliers else None
        circuits = Circuits(service, breaker) if breaker else None
        self._guards = Guards(ejector, circuits, service)
        judge = partial(self._judge, ejector) if ejector else None
        options = clock, needs.decay, needs.failure_penalty, judge, outliers.pace if outliers else math.inf
        self._tracker = (
            CircuitTracker(*options, circuits, partial(self._hear, circuits)) if circuits else Tracker(*options)
        )
        self._tracker.rest, self._tracker.ours, self._tracker.alike = self._rest, self._ours, self._alike
        if needs.by_load:
            self._tracker.refuse = self._refuse
        self._guards.sinkholes.peers = lambda: self._picking.awake
        self._lock = threading.Lock()
        self._generation = 0
        self._table = Table(self._tracker)
        self._snapshot: Snapshot | None = None
        self._closed = False
        parts = service, self.policy, self._guards, slow_start, self._claim
        self._builder = Builder(*parts, clock=clock, rng=self.rng, tell=self._tell)
        self._picking = self._builder.nothing()
        if ejector:
            ejector.eligible = lambda: self._picking.eligible
        self._picker = self._picking.front
        self._wake = math.inf
        self._took = 0.0
        """Seconds that the last rebuild took."""
        self._errand: Callable[[], object] | None = None
        self._lease: Callable[[EndpointState, float], Lease] = Lease
        self._lease_again: Callable[[EndpointState, float], Lease] = Lease
        self.limiter: Limiter | None = None
        """What keeps to `limits`; None where there are none, and then no pick asks."""
        if limits:
            self.limiter = limiter = Limiter(service, limits, emit, self.pick, lambda: self._picking.eligible)
            self._lease, self._lease_again = limiter.lease, limiter.lease_again
            self.pick = limiter.pick  # type: ignore[method-assign]

    @property
    def key_source(self) -> KeySource | None:
        """Where adapters find the key of a request whose caller gives none; None where the policy wants no such key."""
        return self.needs.key

    @property
    def closed(self) -> bool:
        """Whether every pick is refused for good."""
        return self._closed

    @property
    def version(self) -> int | None:
        """Version of the snapshot in use; None before the first."""
        return self._snapshot.version if self._snapshot else None

    @property
    def snapshot(self) -> Snapshot | None:
        """The snapshot in use."""
        return self._snapshot

    def states(self) -> tuple[EndpointState, ...]:
        """Return the state of every known endpoint, parked ones included."""
        with self._lock:
            return tuple(self._table.states.values())

    def pick(
        self, request: Request = ANY, avoid: Collection[EndpointState] = (), usable: Usable | None = None
    ) -> Lease:
        """Choose an endpoint. `avoid` holds states tried before: they are taken again only when there are no others.

        `usable` says whether this caller can use a state now (its connection is ready); others are passed over.
        Raises Unusable where it is never true.
        """
        now = self.clock()
        if now >= self._wake or not here[0]:
            self._sweep(now)
        if avoid:
            return self._pick_again(request, now, avoid, usable)
        try:
            state = self._picker.pick(request, now)
            if state is None:
                state = self._picking.first(request, now, usable)
            elif usable is not None and not usable(state):
                state = self._picking.other(request, now, (), usable)
            lease = self._lease(state, now)
        except LoadBalancerError:
            raise
        except Exception as error:  # noqa: BLE001 - the policy's: raised by its picker, or by what it returned
            return self._despite(error, request, now, avoid, usable)
        self.requests += 1
        return lease

    def _pick_again(
        self, request: Request, now: float, avoid: Collection[EndpointState], usable: Usable | None
    ) -> Lease:
        picking = self._picking
        if picking.gate is not None:
            raise picking.gate()
        try:
            return self._lease_again(picking.other(request, now, avoid, usable), now)
        except LoadBalancerError:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            return self._despite(error, request, now, avoid, usable)

    def _despite(
        self,
        error: Exception,
        request: Request,
        now: float,
        avoid: Collection[EndpointState],
        usable: Usable | None,
    ) -> Lease:
        """What a picker raises costs the policy its turn, not the caller its request: pick at random, and tell."""
        picking = self._picking
        if not picking.eligible:
            raise error
        state = picking.chance(request, avoid, usable)
        lease = (self._lease_again if avoid else self._lease)(state, now)
        self.requests += not avoid
        reason = f"its picker failed with {whence(error)}; picked at random"
        self._tell([Skipped(self.service, f"policy {self.policy!r}", reason)])
        return lease

    def has_other_than(self, tried: Collection[EndpointState]) -> bool:
        """Whether any endpoint that may be picked is not among these."""
        return self._picking.has_other_than(tried)

    def has_room_beside(self, tried: Collection[EndpointState]) -> bool:
        """Whether any endpoint that may be picked is not among these, and has not asked to be left alone."""
        now = self.clock()
        if now >= self._wake:
            self._sweep(now)
        return any(state.full_until <= now and state not in tried for state in self._picking.eligible)

    def lift(self, outcomes: Collection[Outcome], failures: int = 0) -> None:
        """Take back what these ends of leases have charged and begun: it was the caller's own limit, or the service's
        way. What other calls were told holds.

        `failures` is how many of each were counted in a row for it.
        """
        now = self.clock()
        for outcome in outcomes:
            state = outcome.lease.state
            excused(state, now, self._tracker.decay)
            state.consecutive = max(0, state.consecutive - failures)
        claims = [outcome.rest for outcome in outcomes if outcome.rest is not None]
        if not claims:
            return
        with self._lock:
            self._changed(now)
            changed = self._guards.rests.lift(claims)
        if changed:
            self._rebuild_small(now)

    def serves(self, state: EndpointState) -> bool:
        """Whether requests may go there now, a probe aside: it is in use, not ejected, and its circuit closed."""
        return state.in_use and not self._guards.bars(state)

    @property
    def circuit(self) -> str:
        """Where the service's circuit stands: ``"closed"``, ``"open"``, ``"half-open"``; "" where there is none."""
        return self._guards.circuit

    def update(self, snapshot: Snapshot) -> Difference:
        """Take over a snapshot; returns the states that came and went."""
        now = self.clock()
        with self._lock:
            self._changed(now)
            difference = self._table.apply(snapshot, None if self._snapshot is None else self._snapshot.version)
            self._snapshot = snapshot
            if self._slow_start and self._slow_start.window and difference.elders:
                self._table.warm(difference.entered, now)
            events = self._guards.settle(self._table.used.values(), now)
        self._rebuild(now)
        self._tell(events)
        self._tell(strange_weights(self.service, difference.entered))
        return difference

    def refusal(self) -> LoadBalancerError | None:
        """Return the error that a pick would raise where there are no endpoints; None where there are any."""
        if self._closed:
            return self._builder.closed()
        return None if self._table.used else refusal(self.service, self._snapshot)

    def close(self) -> None:
        """Refuse every pick from now on; leases that are out may still report."""
        now = self.clock()
        with self._lock:
            self._closed = True
            self._changed(now)
        self._rebuild(now)

    def rename(self, service: str) -> None:
        """Speak of the service by this name from now on, in errors and events: its namespace was found."""
        now = self.clock()
        guards = self._guards
        named = self._builder, self.limiter, guards.ejector, guards.circuits, guards.sinkholes
        with self._lock:
            self.service = service
            for part in named:
                if part is not None:
                    part.service = service
            self._changed(now)
        self._rebuild(now)

    def at_next_pick(self, errand: Callable[[], object]) -> None:
        """Have the next pick run `errand` first, once, in its thread: what a forked child uses to start anew."""
        self._errand = errand
        self._wake = -math.inf

    def view(self) -> tuple[EndpointView, ...]:
        """Describe every known endpoint as it stands now."""
        window = self._slow_start.window if self._slow_start else 0.0
        now = self.clock()
        return tuple(view(state, now, window, self._guards, self.limiter) for state in self.states())

    def forget_in_flight(self) -> None:
        """In a forked child: nothing is in flight here, and chance and turns must differ from the parent's."""
        self._lock = threading.Lock()
        self.rng.seed()
        self._table.mend()
        for state in self._table.states.values():
            state.leases.clear()
        if self.limiter is not None:
            self.limiter.forget()
        self._wake = -math.inf  # the next pick builds a picker of its own

    def _judge(self, ejector: Ejector, state: EndpointState, failures: int, start: float, now: float) -> None:
        """What the tracker calls when a failure or the end of an endpoint's absence may change a phase."""
        if not (ejector.breached(state, failures, start, now) if failures else ejector.probed(state, start)):
            return
        with self._lock:
            if ejector.enforces:
                self._changed(now)
            if failures:
                events = ejector.decide(state, self._table.used.values(), start, now)
            elif (events := ejector.succeeded(state, start, now)) and self._slow_start and ejector.enforces:
                self._table.warm((state,), now)
        if events and ejector.enforces:
            self._rebuild(now)
        self._tell(events)

    def _rest(self, state: EndpointState, seconds: float, start: float, now: float) -> Claim | None:
        """What the tracker calls when an endpoint answers that it is full; returns what takes it back."""
        ejector = self._guards.ejector
        if ejector is not None and state.phase is Phase.PROBING and ejector.probed(state, start):
            with self._lock:
                self._changed(now)
                ejector.postpone(state, seconds, now)
        if not seconds:
            return None
        with self._lock:
            claim, begins = self._guards.rests.begin(state, seconds, now, len(self._picking.eligible))
            if begins:
                self._changed(now)
        if begins:
            self._rebuild_small(now)
        return claim

    def _refuse(self, state: EndpointState, now: float) -> None:
        """What the tracker calls when a request did not end well, where the policy is drawn to what ends soon."""
        sinkholes = self._guards.sinkholes
        if not sinkholes.refuses(state, now) or self._guards.bars(state):
            return
        with self._lock:
            self._changed(now)
            events = sinkholes.begin(state, now)
        self._rebuild_small(now)
        self._tell(events)

    def _rebuild_small(self, now: float) -> None:
        """After a rest or a bound began or ended: in a large set the next pick does it, for all of them at once."""
        if self._picking.known <= AT_ONCE:
            self._rebuild(now)

    def _ours(self, state: EndpointState, trouble: Trouble) -> None:
        """What the tracker calls when an attempt failed by what we lack."""
        endpoint = state.endpoint
        self._tell([LocalTrouble(self.service, endpoint.authority, *trouble, endpoint.pod)])

    def _alike(self, state: EndpointState, now: float) -> bool:
        """Whether every endpoint has lately been without a route, and none has answered since; asks some of many.

        Those that get no traffic now are asked, too: one that rests has answered, so there was a route to it.
        """
        peers = self._picking.everyone
        some = peers[:: max(1, len(peers) // PEERS)]
        return all(peer is state or self._cut_off(peer, now) for peer in some)

    def _cut_off(self, peer: EndpointState, now: float) -> bool:
        """Whether nothing is known of an endpoint that says that there is a route to it."""
        if peer.phase is not Phase.ACTIVE and now - peer.charged >= LATELY:
            return True  # it was away at that time, and is no witness of what is now
        return bool(peer.consecutive or peer.cut_off) and now - peer.unreachable < LATELY

    def _hear(self, circuits: Circuits, circuit: Circuit, what: int, start: float, now: float) -> None:
        """What the tracker calls when a call's end may change a circuit."""
        if not circuits.matters(circuit, what, start):
            return
        with self._lock:
            if circuits.enforces:
                self._changed(now)
            events = circuits.report(circuit, what, start, now)
            back = bool(events) and self._slow_start and circuits.enforces and circuit.phase is CircuitPhase.CLOSED
            if back and circuit.state is not None:
                self._table.warm((circuit.state,), now)
        if events and circuits.enforces:
            self._rebuild(now)
        self._tell(events)

    def _claim(self, state: EndpointState | None, gated: bool) -> bool | None:
        """What a picking calls for a request that goes to `state`: make it a probe there, and a trial of the service.

        False where the endpoint wants none any more, None where the service does not. Both or neither are made.
        """
        guards = self._guards
        with self._lock:
            if gated and not guards.gate_opens():
                return None
            if state is not None and not guards.claim(state):
                return False
            return not gated or guards.claim_gate()

    def _changed(self, now: float) -> None:
        """Under the lock, before anything is altered: whatever cuts the change short, a rebuild follows."""
        self._generation += 1
        self._wake = min(self._wake, now + self._patience())

    def _patience(self) -> float:
        """Return the seconds after which a rebuild that has not come was cut short, as far as can be told."""
        return max(REBUILD, min(TIMES * self._took, AT_MOST))

    def _sweep(self, now: float) -> None:
        if not here[0]:
            settle()
        errand, self._errand = self._errand, None
        if errand is not None:
            try:
                errand()
            except BaseException:  # an interrupt, too: the next pick takes it over
                self._errand = errand
                raise
        with self._lock:
            if now < self._wake:
                return  # another thread was faster
            self._generation += 1
            self._wake = now + self._patience()
            events = self._guards.advance(self._table.used.values(), now)
        self._rebuild(now)
        self._tell(events)

    def _rebuild(self, now: float) -> None:
        while True:
            with self._lock:
                seen = self._look(now)
            began = self.clock()
            made = self._builder.of(seen, self._members(seen), self._picking, closed=self._closed)
            self._took = self.clock() - began
            with self._lock:
                if seen.generation != self._generation:
                    continue
                if not made.unwanted:
                    self._picking, self._picker, self._wake = made, made.front, seen.wake
                    return
                self._changed(now)
                events = self._guards.drop(made.unwanted, now)
            self._tell(events)

    def _members(self, seen: Seen) -> Members:
        """Return what a policy sees of those awake."""
        return Members(seen.awake, seen.everyone, self.here, self.service, known=self.states, reasons=self._reasons)

    def _reasons(self, state: EndpointState) -> tuple[str, ...]:
        window = self._slow_start.window if self._slow_start else 0.0
        return view(state, self.clock(), window, self._guards, self.limiter).reasons

    def _look(self, now: float) -> Seen:
        window = self._slow_start.window if self._slow_start else 0.0
        used, guards = ({}, Guards(None, None)) if self._closed else (self._table.used, self._guards)
        seen = look(self._generation, self._snapshot, used, self._table.warming(now - window), guards, now)
        wake = -math.inf if self._errand else min(seen.wake, seen.oldest + window)
        return seen._replace(wake=wake)

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            self._emit(event)

    def __repr__(self) -> str:
        return (
            f"<Balancer {self.service} {self.policy!r} version={self.version} eligible={len(self._picking.eligible)}>"
        )
