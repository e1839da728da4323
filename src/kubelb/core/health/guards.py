"""Guards: outlier detection and circuit breakers as the balancer sees them, one thing that says which may be picked.

Either may be missing, and either may only observe; then it bars none, nothing is due and nothing wakes for it. An
endpoint gets ordinary traffic where neither bars it, its probe when its ejection is over and its circuit is not open,
and trials when its circuit is half-open and it is not ejected. A probe is a trial too where both are asked for.

Called with the balancer's lock held, `bars` and `circuit` aside.
"""

from collections import Counter
from collections.abc import Collection, Iterator

from kubelb.core.events import Event
from kubelb.core.health.circuits import Circuit, CircuitPhase, Circuits, circuit_of
from kubelb.core.health.ejector import Ejector
from kubelb.core.health.rests import Rests
from kubelb.core.health.sinkholes import Sinkholes
from kubelb.core.state import EndpointState, Phase
from kubelb.errors import Unusable

__all__ = ["Guards"]


class Guards:
    """The two of one balancer."""

    def __init__(self, ejector: Ejector | None, circuits: Circuits | None, service: str = "") -> None:
        self.ejector = ejector
        self.circuits = circuits
        self.rests = Rests()
        self.sinkholes = Sinkholes(service)

    @property
    def circuit(self) -> str:
        """Where the service's circuit stands; "" where there is none."""
        own = self.circuits.own if self.circuits else None
        return own.phase.value if own else ""

    @property
    def gate(self) -> Circuit | None:
        """The service's circuit where that keeps requests back."""
        circuits = self.circuits
        if circuits is None or not circuits.enforces or circuits.own is None:
            return None
        return None if circuits.own.phase is CircuitPhase.CLOSED else circuits.own

    def bars(self, state: EndpointState) -> bool:
        """Whether an endpoint gets no ordinary traffic now."""
        ejector, circuits = self.ejector, self.circuits
        return (ejector is not None and ejector.bars(state)) or (circuits is not None and circuits.bars(state))

    def barring(self) -> bool:
        """Whether there may be any state that `bars` is true of."""
        return bool((self.ejector and self.ejector.away) or (self.circuits and self.circuits.away))

    def due(self) -> Iterator[EndpointState]:
        """Return the endpoints that the next requests should try, as often as they should."""
        ejector, circuits = self.ejector, self.circuits
        if ejector is not None:
            for state in ejector.away:
                circuit = circuit_of(state) if circuits is not None and circuits.enforces else None
                if state.phase is Phase.DUE and (circuit is None or circuit.phase is not CircuitPhase.OPEN):
                    yield state
        if circuits is not None and circuits.enforces:
            for circuit in circuits.away:
                if (of := circuit.state) is not None and not (ejector is not None and ejector.bars(of)):
                    yield from [of] * (circuit.permits if circuit.phase is CircuitPhase.HALF_OPEN else 0)

    def drop(self, states: Collection[EndpointState], now: float) -> list[Event]:
        """Let go of endpoints whose probe or trials are due, and which the policy would not pick: none ever tries them.

        They count as well again, and not towards what may be away.
        """
        events = list[Event](self.ejector.drop(states, now)) if self.ejector else []
        return events + (list(self.circuits.drop(states)) if self.circuits else [])

    def claim(self, state: EndpointState) -> bool:
        """Make a request the probe or a trial of an endpoint; False where none is wanted any more."""
        ejector, circuits = self.ejector, self.circuits
        circuit = circuit_of(state)
        trial = circuits is not None and circuit is not None and circuits.claim(circuit)
        return ejector.claim(state) if ejector is not None and ejector.bars(state) else trial

    def gate_opens(self) -> bool:
        """Whether the service's circuit wants a trial now."""
        own = self.circuits.own if self.circuits else None
        return own is not None and own.phase is CircuitPhase.HALF_OPEN and own.permits > 0

    def claim_gate(self) -> bool:
        """Make a request a trial of the service's circuit."""
        circuits = self.circuits
        return circuits is not None and circuits.own is not None and circuits.claim(circuits.own)

    def advance(self, in_use: Collection[EndpointState], now: float) -> list[Event]:
        """Let time pass."""
        self.rests.advance(now)
        events = self.sinkholes.advance(now)
        if self.ejector:
            self.ejector.advance(now)
        if self.circuits:
            events += self.circuits.advance(in_use, now)
        return events

    def settle(self, in_use: Collection[EndpointState], now: float) -> list[Event]:
        """After a change of the set: forget what left it."""
        self.rests.advance(now)
        self.sinkholes.settle()
        if self.circuits:
            self.circuits.settle()
        return self.ejector.settle(in_use, now) if self.ejector else []

    def wake(self, now: float) -> float:
        """Return the time at which `advance` may have something to do."""
        times = [guard.wake(now) for guard in (self.ejector, self.circuits) if guard]
        return min((*times, *self.rests.wake(), self.sinkholes.wake()))

    # Why a pick is refused, for pickers that only refuse: they are asked later, when another request comes

    def barred(self, service: str, states: Collection[EndpointState], now: float) -> Unusable:
        """Return the error where none of these may be picked, whose circuits are not closed or which are ejected."""
        words = Counter(self.word(state) for state in states)
        circuits = [circuit for state in states if (circuit := circuit_of(state))]
        waits = [circuit.until - now for circuit in circuits if circuit.phase is CircuitPhase.OPEN]
        trying = any(circuit.phase is CircuitPhase.HALF_OPEN for circuit in circuits)
        when = "trials are under way" if trying else f"the next trial is in {max(0.0, min(waits, default=0.0)):.1f} s"
        reason = f"no circuit of {len(states)} endpoints is closed; {when}"
        return Unusable(service, reason, {"known": len(states), **words})

    def gated(self, service: str, circuit: Circuit, now: float) -> Unusable:
        """Return the error where the service's circuit keeps a request back."""
        if circuit.phase is CircuitPhase.OPEN:
            reason = f"the circuit of the service is open for {max(0.0, circuit.until - now):.1f} s more: {circuit.why}"
        else:
            reason = f"the circuit of the service is half-open and its trials are under way: {circuit.why}"
        failures, slow, calls = circuit.counts()
        return Unusable(service, reason, {"calls": calls, "failures": failures, "slow": slow})

    def word(self, state: EndpointState) -> str:
        """Return what keeps an endpoint from ordinary traffic; "ready" where nothing does."""
        if self.ejector is not None and self.ejector.bars(state):
            return "ejected"
        circuit = circuit_of(state)
        return f"circuit {circuit.phase.value}" if circuit else "ready"
