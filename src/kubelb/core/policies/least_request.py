"""Fewest requests in flight: of all where there are at most four, else of two distinct random candidates.

Two random choices are within ln ln n of the emptiest server (Azar et al. 1994; Mitzenmacher 2001) and, unlike a full
scan, do not make every client run to the same one when their knowledge is stale. The two are drawn without replacement:
drawn with it, as Envoy does, the busier of two hosts still gets a quarter of the picks.
"""

import random
from collections.abc import Mapping, Sequence
from itertools import permutations

from kubelb.core.members import Members
from kubelb.core.policies.base import Needs, Picker, Policy
from kubelb.core.policies.two import two_that_fit
from kubelb.core.state import EndpointState, Usable
from kubelb.model import Request
from kubelb.records import record

__all__ = ["LeastRequest"]

SCAN_UP_TO = 4
"""A scan of four costs what two draws do, and finds the least."""


@record(frozen=True, slots=True)
class LeastRequest(Policy):
    """The endpoint with fewer requests in flight.

    >>> import kubelb
    >>> lb = kubelb.LoadBalancer("static:///127.0.0.1:80,127.0.0.2:80", policy=kubelb.policies.LeastRequest())
    """

    needs = Needs(by_load=True)

    def build(self, members: Members, rng: random.Random, before: Picker | None = None) -> Picker:  # noqa: ARG002
        """Build a picker: a scan for up to four states, two choices above."""
        states = members.states
        return ScanPicker(states, rng) if len(states) <= SCAN_UP_TO else TwoChoicesPicker(states, rng)


class ScanPicker(Picker):
    """The least of all; ties go to the first of a random order."""

    __slots__ = ("_orders", "_random", "states")

    def __init__(self, states: Sequence[EndpointState], rng: random.Random) -> None:
        self.states = states
        self._random = rng.random
        # All 24 of them: from a random start in one cyclic order, the successor of a busy endpoint would win more ties.
        self._orders = tuple(permutations(states))

    def pick(self, request: Request, now: float) -> EndpointState:  # noqa: ARG002
        order = self._orders[int(self._random() * len(self._orders))]
        best = order[0]
        least = len(best.leases)
        for state in order:
            busy = len(state.leases)
            if busy < least:
                best, least = state, busy
        return best

    def other(self, request: Request, now: float, fits: Usable) -> EndpointState | None:  # noqa: ARG002
        best = None
        for state in self._orders[int(self._random() * len(self._orders))]:
            if (best is None or len(state.leases) < len(best.leases)) and fits(state):
                best = state
        return best

    def scores(self, request: Request, now: float) -> Mapping[EndpointState, float]:  # noqa: ARG002
        return {state: len(state.leases) for state in self.states}


class TwoChoicesPicker(Picker):
    """The lesser of two distinct random candidates."""

    __slots__ = ("_count", "_random", "states")

    def __init__(self, states: Sequence[EndpointState], rng: random.Random) -> None:
        self.states = states
        self._count = len(states)
        self._random = rng.random

    def pick(self, request: Request, now: float) -> EndpointState:  # noqa: ARG002
        i = int(self._random() * self._count)
        j = int(self._random() * (self._count - 1))
        one, other = self.states[i], self.states[j + (j >= i)]
        return other if len(other.leases) < len(one.leases) else one

    def other(self, request: Request, now: float, fits: Usable) -> EndpointState | None:  # noqa: ARG002
        one, other = two_that_fit(self.states, self._random, fits)
        return other if one is not None and other is not None and len(other.leases) < len(one.leases) else one

    def scores(self, request: Request, now: float) -> Mapping[EndpointState, float]:  # noqa: ARG002
        return {state: len(state.leases) for state in self.states}
