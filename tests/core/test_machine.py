"""A model of the Balancer, run beside it through any history: what is in flight, who is known, who may be picked.

With each mechanism missing, acting, or only observing.
"""

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from kubelb.core import EndpointState, Lease, Phase
from kubelb.core.health.breaker import CircuitBreaker
from kubelb.core.health.circuits import circuit_of
from kubelb.core.health.ejector import allowance
from kubelb.core.health.limits import ConcurrencyLimits
from kubelb.core.health.outliers import OutlierDetection
from kubelb.core.policies import REGISTRY
from kubelb.core.state import NEVER
from kubelb.errors import LoadBalancerError, NoEndpoints, Overloaded, Unusable
from kubelb.model import CANCELLED, SUCCESS, Changes, Endpoint, Outcome, Request, Snapshot

from .kit import Rig, busy, failed, pod

OUTCOMES = st.sampled_from([SUCCESS, failed(), failed(), failed(), busy(1.0), CANCELLED, None])
WORLD = st.dictionaries(
    st.integers(0, 6), st.tuples(st.sampled_from(["used", "used", "parked"]), st.integers(0, 1)), max_size=7
)
BREAKERS = (
    CircuitBreaker(minimum_calls=5, window=10, per_service=False),
    CircuitBreaker(minimum_calls=10, window=20, trials=2),
    CircuitBreaker(minimum_calls=5, window=10, observe=True),
)


class Machine(RuleBasedStateMachine):
    """Leases are held by the model alone, so a lease that it drops is lost to the world."""

    leases = Bundle("leases")

    @initialize(
        policy=st.sampled_from(sorted(REGISTRY)),
        world=WORLD,
        seed=st.integers(0, 99),
        outliers=st.sampled_from([None, OutlierDetection(), OutlierDetection(observe=True)]),
        limits=st.sampled_from([None, ConcurrencyLimits(6, 3, max_retries=2), ConcurrencyLimits(2, 1, observe=True)]),
        breaker=st.sampled_from([None, *BREAKERS]),
    )
    def begin(
        self,
        policy: str,
        world: dict[int, tuple[str, int]],
        seed: int,
        outliers: OutlierDetection | None,
        limits: ConcurrencyLimits | None,
        breaker: CircuitBreaker | None,
    ) -> None:
        self.outliers, self.limits, self.breaker = outliers, limits, breaker
        self.rig = Rig(0, policy, seed=seed, outliers=outliers, limits=limits, breaker=breaker)
        self.again: set[int] = set()
        self.held: dict[int, Lease] = {}
        self.names = iter(range(10**9))
        self.snapshot = Snapshot(0)
        self.move(world, False)

    @rule(world=WORLD, hint=st.booleans())
    def move(self, world: dict[int, tuple[str, int]], hint: bool) -> None:
        """Discovery says what there is now."""
        before = self.snapshot
        used = tuple(pod(n, g) for n, (where, g) in world.items() if where == "used")
        parked = tuple(pod(n, g) for n, (where, g) in world.items() if where == "parked")
        changes = None
        if hint and before.version:
            left = {endpoint.address for endpoint in used + parked}
            gone = tuple(e for e in before.endpoints + before.parked if e.address not in left)
            changes = Changes(before.version, _new(used, before.endpoints), _new(parked, before.parked), gone)
        self.snapshot = Snapshot(before.version + 1, used, parked, changes=changes)
        self.rig.balancer.update(self.snapshot)

    @rule(target=leases, key=st.none() | st.sampled_from("abcdefgh"))
    def pick(self, key: str | None) -> int | None:
        """Somebody sends a request, with a key or without."""
        try:
            lease = self.rig.balancer.pick(Request(key=key))
        except NoEndpoints:
            assert not self.snapshot.endpoints
            return None
        except (Overloaded, Unusable) as error:
            self._deserved(error)
            return None
        assert lease.endpoint in self.snapshot.endpoints
        assert lease.state.phase in (Phase.ACTIVE, Phase.PROBING) or not self.enforced(self.outliers)
        assert self.circuit(lease.state) != "open" or not self.enforced(self.breaker)
        return self._hold(lease)

    @staticmethod
    def enforced(option: Any) -> bool:
        """Whether a mechanism is there and acts."""
        return option is not None and not option.observe

    @staticmethod
    def circuit(state: EndpointState) -> str:
        circuit = circuit_of(state)
        return circuit.phase.value if circuit else "closed"

    def _deserved(self, error: Overloaded | Unusable) -> None:
        """Whoever was refused was refused by something that is at its limit, or open."""
        states = [state for state in self.rig.balancer.states() if state.in_use]
        if isinstance(error, Overloaded):
            assert self.limits is not None
            full = len(self.held) >= (self.limits.max_requests or 0)
            assert self.enforced(self.limits)
            assert full or ("max_retries" in error.counts and len(self.again) >= 2)
        elif "at their limit" in error.counts:
            each = (self.limits and self.limits.max_requests_per_endpoint) or 0
            assert self.enforced(self.limits)
            assert all(state.in_flight >= each for state in self.rig.picking.eligible)
        else:
            assert self.enforced(self.breaker)
            gate = self.rig.balancer.circuit in {"open", "half-open"}
            assert gate or not any(self.rig.balancer.serves(state) for state in states)

    @rule(target=leases, lease=leases)
    def retry(self, lease: int | None) -> int | None:
        """Somebody sends a request again, elsewhere."""
        if lease not in self.held or not self.snapshot.endpoints:
            return None
        tried = [self.held[lease].state]
        self.rig.balancer.has_room_beside(tried)  # rests end as time passes
        other = self.rig.balancer.has_other_than(tried)
        try:
            again = self.rig.balancer.pick(avoid=tried)
        except (Overloaded, Unusable) as error:
            self._deserved(error)
            return None
        if not self.enforced(self.limits):  # else another one may have been full
            assert (again.state not in tried) == other
        assert self.rig.balancer.serves(again.state)
        name = self._hold(again)
        self.again.add(name)
        return name

    @rule(lease=consumes(leases), outcome=OUTCOMES, twice=st.booleans())
    def release(self, lease: int | None, outcome: Outcome | None, twice: bool) -> None:
        """A request ends."""
        if lease in self.held:
            held = self.held.pop(lease)
            self.again.discard(lease)
            held.release(outcome)
            if twice:
                held.release(failed())

    @rule(lease=leases, good=st.booleans())
    def observe(self, lease: int | None, good: bool) -> None:
        """Headers come."""
        if lease in self.held:
            self.held[lease].observe(Outcome(open=True) if good else failed(open=True))

    @rule(lease=consumes(leases))
    def lose(self, lease: int | None) -> None:
        """A request is dropped and nobody says so."""
        self.held.pop(lease, None)  # type: ignore[arg-type]
        self.again.discard(lease)  # type: ignore[arg-type]

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.rig.clock.advance(seconds)

    @precondition(lambda self: self.snapshot.endpoints)
    @rule(data=st.data(), times=st.integers(1, 11))
    def fail(self, data: st.DataObject, times: int) -> None:
        """One endpoint fails several times in a row."""
        endpoint: Endpoint = data.draw(st.sampled_from(self.snapshot.endpoints))
        state = next(state for state in self.rig.balancer.states() if state.endpoint == endpoint)
        for _ in range(times):
            Lease(state, self.rig.clock()).release(failed())

    @precondition(lambda self: self.snapshot.endpoints)
    @rule(data=st.data(), good=st.integers(0, 30), bad=st.integers(1, 30))
    def waver(self, data: st.DataObject, good: int, bad: int) -> None:
        """One endpoint fails a part of the time."""
        endpoint: Endpoint = data.draw(st.sampled_from(self.snapshot.endpoints))
        state = next(state for state in self.rig.balancer.states() if state.endpoint == endpoint)
        for turn in range(good + bad):
            fails = bad * (turn + 1) // (good + bad) > bad * turn // (good + bad)
            Lease(state, self.rig.clock()).release(failed() if fails else SUCCESS)

    def _hold(self, lease: Lease) -> int:
        name = next(self.names)
        self.held[name] = lease
        return name

    @invariant()
    def agrees(self) -> None:
        """Known, in flight, phases, allowance, eligibility and the view are what the history makes them."""
        balancer = self.rig.balancer
        states = balancer.states()
        assert {state.endpoint for state in states} == {*self.snapshot.endpoints, *self.snapshot.parked}
        flying = Counter(id(lease.state) for lease in self.held.values())
        assert all(state.in_flight == flying[id(state)] for state in states)
        used = [state for state in states if state.in_use]
        assert {state.endpoint for state in used} == set(self.snapshot.endpoints)
        away = [state for state in states if state.phase is not Phase.ACTIVE]
        assert all(state.in_use for state in away)
        assert len(away) <= allowance(len(used))
        barred = set(away if self.enforced(self.outliers) else ())
        if self.enforced(self.breaker):
            barred |= {state for state in used if self.circuit(state) != "closed"}
        resting = {state for state in used if state.rests_until != NEVER}
        assert set(self.rig.picking.eligible) == set(used) - barred
        assert set(self.rig.picking.awake) == set(used) - barred - resting
        assert len(resting - barred) <= allowance(len(set(used) - barred))
        assert (balancer.refusal() is None) == bool(used)
        words = {view.address: view.state for view in balancer.view()}
        for state in states:
            word = words[state.endpoint.authority]
            assert (word in {"ejected", "probing", "open", "half-open"}) == (state in barred)
        if (limiter := balancer.limiter) is not None:
            assert len(limiter.requests) == len(self.held)
            assert len(limiter.retries) == len(self.again)
            if self.enforced(self.limits):
                assert len(self.held) <= 6
                assert len(self.again) <= 2
        if not (self.enforced(self.outliers) or self.enforced(self.breaker)):
            assert not barred

    def teardown(self) -> None:
        """However it went, an endpoint that is used and answers is back after a while."""
        if not hasattr(self, "held"):
            return
        self.held.clear()
        if self.snapshot.endpoints:
            self.again.clear()
            self.rig.clock.advance(1000)
            for _ in range(100):
                self.rig.clock.advance(1.5)
                try:
                    self.rig.balancer.pick().release()
                except Unusable as error:
                    self._deserved(error)
            if self.enforced(self.outliers):
                assert all(state.phase is Phase.ACTIVE for state in self.rig.balancer.states())
            if self.enforced(self.breaker):
                assert {self.circuit(state) for state in self.rig.balancer.states() if state.in_use} == {"closed"}
                assert self.rig.balancer.circuit in {"closed", ""}
        else:
            try:
                self.rig.balancer.pick()
            except LoadBalancerError:
                return
            raise AssertionError("picked from nothing")


def _new(now: tuple[Endpoint, ...], before: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    return tuple(endpoint for endpoint in now if endpoint not in before)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=80, stateful_step_count=40)
