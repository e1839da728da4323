"""Fewest requests in flight: of all where there are at most four, else of two distinct random candidates.

Two random choices are within ln ln n of the emptiest server (Azar et al. 1994; Mitzenmacher 2001) and, unlike a full
scan, do not make every client run to the same one when their knowledge is stale. The two are drawn without replacement:
drawn with it, as Envoy does, the busier of two hosts still gets a quarter of the picks.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar

from kubelb.core.policies.base import Picker
from kubelb.core.state import EndpointState
from kubelb.model import Request

__all__ = ["LeastRequest"]

SCAN_UP_TO = 4
"""A scan of four costs what two draws do, and finds the least."""


@dataclass(frozen=True, slots=True)
class LeastRequest:
    """The endpoint with fewer requests in flight.

    >>> import kubelb
    >>> lb = kubelb.LoadBalancer("static:///127.0.0.1:80,127.0.0.2:80", policy=kubelb.policies.LeastRequest())
    """

    by_load: ClassVar[bool] = True

    def build(self, states: Sequence[EndpointState], rng: random.Random) -> Picker:
        """Build a picker: a scan for up to four states, two choices above."""
        return ScanPicker(states, rng) if len(states) <= SCAN_UP_TO else TwoChoicesPicker(states, rng)


class ScanPicker:
    """The least of all; ties go to the first of a random order."""

    __slots__ = ("_orders", "_random")

    def __init__(self, states: Sequence[EndpointState], rng: random.Random) -> None:
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


class TwoChoicesPicker:
    """The lesser of two distinct random candidates."""

    __slots__ = ("_count", "_random", "_states")

    def __init__(self, states: Sequence[EndpointState], rng: random.Random) -> None:
        self._states = states
        self._count = len(states)
        self._random = rng.random

    def pick(self, request: Request, now: float) -> EndpointState:  # noqa: ARG002
        i = int(self._random() * self._count)
        j = int(self._random() * (self._count - 1))
        one, other = self._states[i], self._states[j + (j >= i)]
        return other if len(other.leases) < len(one.leases) else one
