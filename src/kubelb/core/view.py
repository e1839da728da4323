"""What a user sees of an endpoint: one typed line, with the reasons why it gets no traffic, or less."""

from typing import NamedTuple

from kubelb.core.state import NEVER, EndpointState, Phase

__all__ = ["EndpointView", "view"]


class EndpointView(NamedTuple):
    """One endpoint at one moment.

    `state` is ``ready``, ``warming`` (slow start), ``ejected``, ``probing``, ``terminating``, ``not ready`` or
    ``elsewhere`` (another zone's, or another node's). Times are in seconds.
    """

    address: str
    zone: str
    state: str
    in_flight: int
    latency: float | None
    """Peak EWMA; None before the first answer."""
    ejection: float | None
    """Seconds until its probe; None where it is not ejected."""
    weight: float
    picks: int
    failures: int
    reasons: tuple[str, ...]
    """Why it gets no traffic, or less; and what a mechanism that only observes would have done."""
    pod: str = ""
    node: str = ""


def view(state: EndpointState, now: float, window: float, *, observed: bool = False) -> EndpointView:
    """Describe a state; `window` is that of slow start, `observed` says that ejections are not enforced."""
    endpoint = state.endpoint
    word, reasons = _standing(state, now, window, observed)
    return EndpointView(
        address=endpoint.authority,
        zone=endpoint.zone,
        state=word,
        in_flight=state.in_flight,
        latency=None if state.stamp == NEVER else state.cost,
        ejection=max(0.0, state.until - now) if word == "ejected" else None,
        weight=endpoint.weight,
        picks=state.picks,
        failures=state.failures,
        reasons=reasons,
        pod=endpoint.pod,
        node=endpoint.node,
    )


def _standing(state: EndpointState, now: float, window: float, observed: bool) -> tuple[str, tuple[str, ...]]:
    endpoint = state.endpoint
    if not state.in_use:
        if endpoint.terminating:
            return "terminating", ("it is shutting down; what runs on it may finish",)
        if not endpoint.ready:
            return "not ready", ("its readiness probe fails",)
        return "elsewhere", ("topology hints or the traffic policy send us to others",)
    would = (f"observed: it would be ejected, {state.why}",) if observed and state.phase is not Phase.ACTIVE else ()
    if not would:
        if state.phase is Phase.EJECTED:
            return "ejected", (state.why,)
        if state.phase is not Phase.ACTIVE:
            return "probing", ("its ejection is over; one request tries it",)
    if now - state.warm_since < window:
        return "warming", (f"new for {now - state.warm_since:.0f} of {window:.0f} s of slow start", *would)
    return "ready", would
