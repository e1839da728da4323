"""Uniformly at random: no memory, no coordination, and the yardstick for everything else.

With Poisson arrivals each of n servers is an M/M/1 queue of its own, so at 90 % load the mean response time is 10
service times, against 2.6 for two random choices (Mitzenmacher 2001).
"""

import random
from collections.abc import Sequence

from kubelb.core.members import Members
from kubelb.core.policies.base import Picker, Policy
from kubelb.core.state import EndpointState
from kubelb.model import Request
from kubelb.records import record

__all__ = ["Random"]


@record(frozen=True, slots=True)
class Random(Policy):
    """Every endpoint with the same chance.

    >>> import kubelb
    >>> lb = kubelb.LoadBalancer("static:///127.0.0.1:80,127.0.0.2:80", policy=kubelb.policies.Random())
    """

    def build(self, members: Members, rng: random.Random, before: Picker | None = None) -> "RandomPicker":  # noqa: ARG002
        """Build a picker over the members."""
        return RandomPicker(members.states, rng)


class RandomPicker(Picker):
    """One draw a pick."""

    __slots__ = ("_count", "_random", "states")

    def __init__(self, states: Sequence[EndpointState], rng: random.Random) -> None:
        self.states = states
        self._count = len(states)
        self._random = rng.random

    def pick(self, request: Request, now: float) -> EndpointState:  # noqa: ARG002
        return self.states[int(self._random() * self._count)]
