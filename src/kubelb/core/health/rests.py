"""Rests: an endpoint that is full and says for how long gets no traffic for that time.

A 429 or 503 with a Retry-After is load and no failure: it is not ejected, needs no probe, and no number of them is too
many. It is believed for `MOST` seconds at most, since it is a server's word, and only while others are left: where all
in use rest, none does, because a request that is refused by a full service is told so by that service.

Whether the 429 was the endpoint's or the caller's own limit shows where a second endpoint of the same call says the
same. Then the first one's rest ends (`lift`): one greedy caller must not keep the endpoints from all others.

Pure decisions, as in `kubelb.core.health.ejector`: called with the balancer's lock held.
"""

from collections.abc import Collection, Iterable

from kubelb.core.state import NEVER, EndpointState

__all__ = ["MOST", "Rests"]

MOST = 30.0
"""Seconds that a rest may last."""


class Rests:
    """Those of one balancer. `resting` holds every state whose `rests_until` is not NEVER."""

    def __init__(self) -> None:
        self.resting: list[EndpointState] = []

    def begin(self, state: EndpointState, seconds: float, now: float) -> bool:
        """Let an endpoint rest; False where it rested already, or is not in use, so that nothing changes for picks."""
        if not state.in_use:
            return False
        begins = state.rests_until == NEVER
        if begins:
            self.resting.append(state)
        state.rests_until = max(state.rests_until, now + min(seconds, MOST))
        return begins

    def lift(self, states: Iterable[EndpointState]) -> bool:
        """End these rests; whether there was any."""
        some = [state for state in states if state.rests_until != NEVER]
        for state in some:
            state.rests_until = NEVER
        self.resting = [state for state in self.resting if state.rests_until != NEVER]
        return bool(some)

    def advance(self, now: float) -> None:
        """Let time pass, and forget what is no longer in use."""
        self.lift([state for state in self.resting if now >= state.rests_until or not state.in_use])

    def awake(self, states: tuple[EndpointState, ...]) -> tuple[EndpointState, ...]:
        """Return those that do not rest, or all of them where all do."""
        if not self.resting:
            return states
        return tuple(state for state in states if state.rests_until == NEVER) or states

    def wake(self) -> Collection[float]:
        """Return the times at which `advance` may have something to do."""
        return [state.rests_until for state in self.resting]
