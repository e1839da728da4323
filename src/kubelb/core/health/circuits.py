"""Circuits: the state machines of one balancer, its service's and one for each endpoint.

Outcomes are written into a ring of the last so many, with one atomic append and no lock; only one that is bad, or that
belongs to a circuit which is not closed, is looked at further. What a circuit's numbers are is counted from the ring.

Trials are known by their start: a request begun when the open time was over. So a straggler from before says nothing,
and how many trials are in flight is read off the leases rather than kept: one that is cancelled or lost is no longer
there, and its place is given to another request a second later.

An observer sends no trials and refuses nothing: the first requests begun after the open time are its trials.

Pure decisions, as in `kubelb.core.health.ejector`: the Balancer calls them with its lock held. A circuit enters `away`
before its phase changes and leaves it after.
"""

import math
from collections import deque
from collections.abc import Collection, Iterable
from enum import Enum
from typing import Final

from kubelb.core.events import CircuitChanged
from kubelb.core.health.breaker import CircuitBreaker
from kubelb.core.state import NEVER, EndpointState

__all__ = ["BAD", "OK", "SLOW", "Circuit", "CircuitPhase", "Circuits", "circuit_of"]

OK, BAD, SLOW = 0, 1, 2
"""What went wrong with a call: bits of a small number."""
LOST_TRIAL = 1.0
"""Seconds after which a trial that ended without a verdict is given to another request."""


class CircuitPhase(Enum):
    """Where a circuit stands."""

    CLOSED = "closed"
    OPEN = "open"
    """No traffic until `Circuit.until`."""
    HALF_OPEN = "half-open"
    """A few requests are trying."""


class Circuit:
    """One state machine; `state` is None for the service's."""

    __slots__ = ("append", "calls", "permits", "phase", "state", "until", "why")

    def __init__(self, state: EndpointState | None, window: int) -> None:
        self.state = state
        self.phase = CircuitPhase.CLOSED
        self.calls: deque[int] = deque(maxlen=window)
        """What became of the last calls; of the trials while half-open."""
        self.append = self.calls.append
        self.until = NEVER
        """End of its open time; trials are what began after it."""
        self.permits = 0
        """Trials that may still be given out."""
        self.why = ""
        """What opened it."""

    def counts(self) -> tuple[int, int, int]:
        """Return failures, slow calls, and calls."""
        seen = tuple(self.calls)
        both = seen.count(BAD | SLOW)
        return seen.count(BAD) + both, seen.count(SLOW) + both, len(seen)


class Circuits:
    """The decisions of one balancer. `away` holds every circuit that is not closed, the service's aside."""

    def __init__(self, service: str, config: CircuitBreaker) -> None:
        self.service = service
        self.config = config
        self.enforces: Final = not config.observe
        self.own = Circuit(None, config.window) if config.per_service else None
        """The service's."""
        self.away: list[Circuit] = []

    def of(self, state: EndpointState) -> tuple[Circuit, ...]:
        """Return the circuits that an outcome of this endpoint is written into, made where they were not."""
        its = Circuit(state, self.config.window) if self.config.per_endpoint else None
        state.circuits = circuits = tuple(circuit for circuit in (its, self.own) if circuit is not None)
        return circuits

    def bars(self, state: EndpointState) -> bool:
        """Whether an endpoint gets no traffic now, trials aside."""
        circuit = circuit_of(state) if self.enforces else None
        return circuit is not None and circuit.phase is not CircuitPhase.CLOSED

    def matters(self, circuit: Circuit, what: int, start: float) -> bool:
        """Whether a call's end calls for `report`. Needs no lock."""
        if start < circuit.until:
            return False  # a straggler's
        return circuit.phase is not CircuitPhase.CLOSED or (what != OK and self._trips(circuit))

    def report(self, circuit: Circuit, what: int, start: float, now: float) -> list[CircuitChanged]:
        """Take a call's end that matters; alters the phase and returns what happened."""
        state = circuit.state
        if start < circuit.until or (state is not None and not (state.in_use and circuit is circuit_of(state))):
            return []  # meanwhile it opened, or its endpoint left
        if circuit.phase is CircuitPhase.CLOSED:
            return [self._open(circuit, now)] if self._trips(circuit) else []
        events = [self._half_open(circuit)] if circuit.phase is CircuitPhase.OPEN else []
        circuit.append(what)
        return events + self._decide(circuit, now)

    def claim(self, circuit: Circuit) -> bool:
        """Make a request a trial; False where no more are wanted."""
        granted = circuit.phase is CircuitPhase.HALF_OPEN and circuit.permits > 0
        circuit.permits -= granted
        return granted

    def advance(self, in_use: Collection[EndpointState], now: float) -> list[CircuitChanged]:
        """Let time pass: open times end, lost trials are given out again."""
        self.away = [circuit for circuit in self.away if circuit.phase is not CircuitPhase.CLOSED]
        events: list[CircuitChanged] = []
        for circuit in self._changing() if self.enforces else ():
            if circuit.phase is CircuitPhase.OPEN and now >= circuit.until:
                events.append(self._half_open(circuit))
            elif circuit.phase is CircuitPhase.HALF_OPEN:
                events += self._decide(circuit, now)  # `report` has done so, unless an interrupt cut it short
                flying = trials((circuit.state,) if circuit.state else in_use, circuit.until)
                circuit.permits = max(0, self.config.trials - len(circuit.calls) - flying)
        return events

    def settle(self) -> None:
        """After a change of the set: forget what left it."""
        self.away = [circuit for circuit in self.away if circuit.state and circuit.state.in_use]

    def drop(self, states: Collection[EndpointState]) -> list[CircuitChanged]:
        """Close the circuits of those of these that are half-open, and which none will try."""
        half_open = [circuit for circuit in self.away if circuit.phase is CircuitPhase.HALF_OPEN]
        return [self._close(circuit) for circuit in half_open if circuit.state in states]

    def wake(self, now: float) -> float:
        """Return the time at which `advance` may have something to do."""
        if not self.enforces:
            return math.inf
        times = (c.until if c.phase is CircuitPhase.OPEN else now + LOST_TRIAL for c in self._changing())
        return min(times, default=math.inf)

    def _changing(self) -> Iterable[Circuit]:
        own = self.own
        return [*self.away, own] if own is not None and own.phase is not CircuitPhase.CLOSED else self.away

    def _decide(self, circuit: Circuit, now: float) -> list[CircuitChanged]:
        """Open or close a half-open circuit whose trials suffice for that."""
        failures, slow, calls = circuit.counts()
        if self.config.trips(failures, slow, self.config.trials):  # however the others end
            return [self._open(circuit, now)]
        return [self._close(circuit)] if calls >= self.config.trials else []

    def _trips(self, circuit: Circuit) -> bool:
        failures, slow, calls = circuit.counts()
        return calls >= self.config.minimum_calls and self.config.trips(failures, slow, calls)

    def _open(self, circuit: Circuit, now: float) -> CircuitChanged:
        failures, slow, calls = circuit.counts()
        if circuit.state is not None and circuit not in self.away:
            self.away.append(circuit)
        what = "calls" if circuit.phase is CircuitPhase.CLOSED else "trials"
        circuit.why = f"{failures} of {calls} {what} failed" + (f", {slow} were slow" if slow else "")
        circuit.until = now + self.config.open_for
        circuit.phase = CircuitPhase.OPEN
        return self._changed(circuit, circuit.why, calls, failures, slow, self.config.open_for)

    def _half_open(self, circuit: Circuit) -> CircuitChanged:
        circuit.calls.clear()
        circuit.permits = self.config.trials
        circuit.phase = CircuitPhase.HALF_OPEN
        return self._changed(circuit, f"{self.config.trials} trials decide")

    def _close(self, circuit: Circuit) -> CircuitChanged:
        failures, slow, calls = circuit.counts()
        circuit.calls.clear()
        circuit.phase = CircuitPhase.CLOSED
        return self._changed(circuit, f"{failures} of {calls} trials failed", calls, failures, slow)

    def _changed(
        self, circuit: Circuit, reason: str, calls: int = 0, failures: int = 0, slow: int = 0, duration: float = 0.0
    ) -> CircuitChanged:
        where, pod = (circuit.state.endpoint.authority, circuit.state.endpoint.pod) if circuit.state else ("", "")
        numbers = calls, failures, slow, duration
        return CircuitChanged(self.service, where, circuit.phase.value, reason, *numbers, not self.enforces, pod)


def circuit_of(state: EndpointState) -> Circuit | None:
    """Return the endpoint's own circuit; None where it has none, or none yet."""
    return next((circuit for circuit in state.circuits if circuit.state is not None), None)


def trials(states: Iterable[EndpointState], since: float) -> int:
    """Count the requests in flight that began after `since`."""
    leases = (mark() for state in states for mark in tuple(state.leases) if mark is not None)
    return sum(1 for lease in leases if lease is not None and lease.start >= since)
