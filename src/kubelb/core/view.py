"""What a user sees of an endpoint: one typed line, with the reasons why it gets no traffic, or less."""

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from kubelb.core.health.circuits import CircuitPhase, Circuits, circuit_of
from kubelb.core.health.ejector import Ejector
from kubelb.core.health.guards import Guards
from kubelb.core.health.limits import Limiter
from kubelb.core.state import NEVER, EndpointState, Phase
from kubelb.printable import printable

__all__ = ["EndpointView", "view"]


class EndpointView(NamedTuple):
    """One endpoint at one moment.

    `state` is ``ready``, ``warming`` (slow start), ``ejected``, ``probing``, ``open`` or ``half-open`` (its circuit),
    ``full`` (its limit), ``resting`` (it said Retry-After), ``terminating``, ``not ready`` or ``elsewhere`` (another
    zone's, or another node's); where several are true, the first. Times are in seconds.
    """

    address: str
    zone: str
    state: str
    in_flight: int
    latency: float | None
    """Peak EWMA, or what its last failure counts for; None before the first answer."""
    ejection: float | None
    """Seconds until its probe; None where it is not ejected."""
    weight: float
    picks: int
    failures: int
    reasons: tuple[str, ...]
    """Why it gets no traffic, or less; and what a mechanism that only observes would have done."""
    pod: str = ""
    node: str = ""
    circuit: str = ""
    """Where its circuit stands: ``closed``, ``open``, ``half-open``; "" before its first outcome, and without one."""


def view(
    state: EndpointState, now: float, window: float, guards: Guards, limiter: Limiter | None = None
) -> EndpointView:
    """Describe a state; `window` is that of slow start."""
    endpoint = state.endpoint
    word, reasons = _standing(state, now, window, guards, limiter)
    circuit = circuit_of(state)
    return EndpointView(
        address=endpoint.authority,
        zone=printable(endpoint.zone),
        state=word,
        in_flight=state.in_flight,
        latency=None if state.stamp == NEVER else state.charge or state.cost,
        ejection=max(0.0, state.until - now) if word == "ejected" else None,
        weight=endpoint.weight,
        picks=state.picks,
        failures=state.failures,
        reasons=reasons,
        pod=printable(endpoint.pod),
        node=printable(endpoint.node),
        circuit=circuit.phase.value if circuit else "",
    )


def _standing(
    state: EndpointState, now: float, window: float, guards: Guards, limiter: Limiter | None
) -> tuple[str, tuple[str, ...]]:
    endpoint = state.endpoint
    if not state.in_use:
        if endpoint.terminating:
            return "terminating", ("it is shutting down; what runs on it may finish",)
        if not endpoint.ready:
            return "not ready", ("its readiness probe fails",)
        return "elsewhere", ("topology hints or the traffic policy send us to others",)
    found = [*_ejection(state, guards.ejector), *_circuits(state, now, guards.circuits), *_limits(state, limiter)]
    if state.rests_until > now:
        found.append(("resting", f"it is full and asked to be left alone for {state.rests_until - now:.1f} s more"))
    if (bound := guards.sinkholes.bounded.get(state)) is not None:
        found.append(("", f"bounded to its fair share: {bound.why}"))
    age = now - state.warm_since
    if age < window:
        found.append(("warming", f"new for {age:.0f} of {window:.0f} s of slow start"))
    word = next((word for word, _ in found if word), "ready")
    return word, tuple(reason for _, reason in found)


Found: TypeAlias = Iterator[tuple[str, str]]
"""A word for the endpoint's state, "" where it is not that, and the reason."""


def _ejection(state: EndpointState, ejector: Ejector | None) -> Found:
    if ejector is None or state.phase is Phase.ACTIVE:
        return
    if not ejector.enforces:
        yield "", f"observed: it would be ejected, {state.why}"
    elif state.phase is Phase.EJECTED:
        yield "ejected", state.why
    else:
        yield "probing", "its ejection is over; one request tries it"


def _circuits(state: EndpointState, now: float, circuits: Circuits | None) -> Found:
    for circuit in (circuit_of(state), circuits.own) if circuits else ():
        if circuit is None or circuit.phase is CircuitPhase.CLOSED:
            continue
        whose = "its circuit" if circuit.state else "the service's circuit"
        phase = circuit.phase.value
        if circuits is not None and not circuits.enforces:
            yield "", f"observed: {whose} would be {phase}, {circuit.why}"
            continue
        left = f" for {max(0.0, circuit.until - now):.1f} s more" if circuit.phase is CircuitPhase.OPEN else ""
        yield phase if circuit.state else "", f"{whose} is {phase}{left}: {circuit.why}"


def _limits(state: EndpointState, limiter: Limiter | None) -> Found:
    if limiter is None:
        return
    for limit, number, word in limiter.reached(state):
        observed = "" if limiter.enforces else "observed: "
        yield word if limiter.enforces else "", f"{observed}{limit}={number} requests are in flight"
