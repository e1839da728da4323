"""Rests: an endpoint that is full and says for how long gets no traffic for that time.

A 429 or 503 with a Retry-After is load and no failure: it is not ejected, needs no probe, and no number of them is too
many. It is believed for `MOST` seconds at most, since it is a server's word. A rest is a preference: those that rest
are used where the others cannot be, or have been tried.

At most half of those that may be picked rest at a time, at least one of two, and none where it is the only one (the
allowance of ejection). Beyond that one that asks does not rest: nine requests of one caller must not send the traffic
of all others to the tenth pod. The first to ask keep their rest, so that a service which is full as a whole, and
refuses thousands of times a second, costs no new picker for each refusal. What was asked is remembered all the same,
since a call does not go on at once to an endpoint that has said that it is full.

Whether the 429 was the endpoint's or the caller's own limit shows where a second endpoint of the same call says the
same. Then what that call began ends (`lift`), and only that: each refusal is a `Claim` of its own, so that what other
calls were told still holds.

Pure decisions, as in `kubelb.core.health.ejector`: called with the balancer's lock held.
"""

from collections.abc import Collection, Iterable

from kubelb.core.health.ejector import allowance
from kubelb.core.state import NEVER, EndpointState

__all__ = ["MOST", "Claim", "Rests"]

MOST = 30.0
"""Seconds that a rest may last."""

CLAIMS = 64
"""Claims that are kept of one endpoint; the longest ones, as the others change nothing while these hold."""


class Claim:
    """One answer's word that its endpoint is full."""

    __slots__ = ("state", "until")

    def __init__(self, state: EndpointState, until: float) -> None:
        self.state = state
        self.until = until


class Rests:
    """Those of one balancer. `resting` holds every state whose `rests_until` is not NEVER."""

    def __init__(self) -> None:
        self.resting: list[EndpointState] = []
        self._claims: dict[EndpointState, list[Claim]] = {}

    def begin(self, state: EndpointState, seconds: float, now: float, count: int) -> tuple[Claim | None, bool]:
        """Hear that an endpoint is full, of `count` that may be picked.

        Return the claim, and whether a rest begins: not where it rests already, is not in use, or enough rest.
        """
        if not state.in_use:
            return None, False
        claim = Claim(state, now + min(seconds, MOST))
        claims = [each for each in self._claims.get(state, ()) if each.until > now]
        claims.append(claim)
        if len(claims) > CLAIMS:
            claims.remove(min(claims, key=_until))
        self._claims[state] = claims
        state.full_until = max(map(_until, claims))
        if state.rests_until != NEVER:
            state.rests_until = state.full_until
        elif len(self.resting) < allowance(count):
            self.resting.append(state)
            state.rests_until = state.full_until
            return claim, True
        return claim, False

    def lift(self, claims: Iterable[Claim]) -> bool:
        """End what these answers began; whether that ended any rest."""
        changed = False
        for claim in claims:
            state = claim.state
            left = [each for each in self._claims.pop(state, ()) if each is not claim]
            state.full_until = max(map(_until, left), default=NEVER)
            if left:
                self._claims[state] = left
            if state.rests_until != NEVER:
                state.rests_until = state.full_until
                changed = changed or not left
        if changed:
            self._forget()
        return changed

    def advance(self, now: float) -> None:
        """Let time pass, and forget what is no longer in use."""
        for state in [state for state in self._claims if now >= state.full_until or not state.in_use]:
            del self._claims[state]
            state.full_until = NEVER
        for state in self.resting:
            if now >= state.rests_until or not state.in_use:
                state.rests_until = NEVER
        self._forget()

    def awake(self, states: tuple[EndpointState, ...]) -> tuple[EndpointState, ...]:
        """Return those of `states`, which may be picked, that do not rest.

        Where more of them rest than may, as others have left or were ejected, those wake whose rests end first.
        """
        if not self.resting:
            return states
        among = dict.fromkeys(states)
        resting = sorted((state for state in self.resting if state in among), key=lambda state: state.rests_until)
        surplus = len(resting) - allowance(len(states))
        if surplus > 0:
            for state in resting[:surplus]:
                state.rests_until = NEVER
            self._forget()
        for state in resting[max(0, surplus) :]:
            del among[state]
        return tuple(among)

    def wake(self) -> Collection[float]:
        """Return the times at which `advance` may have something to do."""
        return [state.rests_until for state in self.resting]

    def _forget(self) -> None:
        self.resting = [state for state in self.resting if state.rests_until != NEVER]


def _until(claim: Claim) -> float:
    return claim.until
