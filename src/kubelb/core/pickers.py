"""Pickers: what a balancer picks with between two changes, one value that is replaced as a whole.

`picker` takes ordinary requests. `other` finds an endpoint for a request that has been elsewhere, or whose caller
cannot use the one it was given: it goes by the policy where the policy can search, else by a few draws, else by a
picker of its own for the endpoints that are left: those awake that were not tried, else those that rest, else again
those awake, else what the caller can use.
"""

from collections.abc import Callable, Collection
from typing import TypeAlias

from kubelb.core.policies.base import Picker
from kubelb.core.refusal import Unconnected
from kubelb.core.state import EndpointState, Usable
from kubelb.errors import LoadBalancerError
from kubelb.model import Request

__all__ = ["Pickers"]

States: TypeAlias = tuple[EndpointState, ...]
DRAWS = 4
"""Times the picker is asked for an endpoint not tried yet, before a picker for just those is built."""


class Pickers:
    """The pickers of one moment; never altered."""

    __slots__ = ("_build", "_service", "awake", "base", "eligible", "everyone", "gate", "picker")

    def __init__(
        self,
        service: str,
        build: Callable[[States], Picker],
        eligible: States,
        base: Picker,
        picker: Picker | None = None,
        gate: Callable[[], LoadBalancerError] | None = None,
        awake: States | None = None,
        everyone: States = (),
    ) -> None:
        self._service = service
        self._build = build
        self.eligible = eligible
        """Those that may be picked, resting ones included."""
        self.awake = eligible if awake is None else awake
        """Those of them that do not rest, which `base` picks among."""
        self.everyone = everyone
        """All that are in use, ejected ones included."""
        self.base = base
        """The policy's picker with slow start; for second tries, which are neither probes nor trials."""
        self.picker = picker or base
        """The same with what wraps it while probes or trials are due."""
        self.gate = gate
        """Returns the error of a second try while the service's circuit is not closed; None while it is."""

    def has_other_than(self, tried: Collection[EndpointState]) -> bool:
        """Whether any endpoint that may be picked is not among these."""
        eligible = self.eligible
        return len(eligible) > len(tried) or any(state not in tried for state in eligible)

    def other(
        self, request: Request, now: float, avoid: Collection[EndpointState], usable: Usable | None
    ) -> EndpointState:
        """Choose one that is not in `avoid`, or one of those where there is no other, that the caller can use.

        Raises Unconnected where it can use none.
        """
        base = self.base

        def fits(state: EndpointState) -> bool:
            return state not in avoid and (usable is None or usable(state))

        search: Callable[..., EndpointState | None] | None = getattr(base, "pick_other", None)
        if search is not None:
            if (found := search(request, now, fits)) is not None:
                return found
        else:
            for _ in range(DRAWS):
                state = base.pick(request, now)
                if fits(state):
                    return state
        able = self.eligible if usable is None else tuple(filter(usable, self.eligible))
        if not able and usable is not None:
            reason = f"no connection to any of {len(self.eligible)} endpoints can be used now"
            raise Unconnected(self._service, reason)
        fresh = tuple(state for state in able if state not in avoid)
        rest = self._awake(fresh) or fresh or self._awake(able) or able
        return self._build(rest).pick(request, now) if rest else base.pick(request, now)

    def _awake(self, states: States) -> States:
        awake = self.awake
        if len(awake) == len(self.eligible):
            return states
        return tuple(filter(set(awake).__contains__, states))
