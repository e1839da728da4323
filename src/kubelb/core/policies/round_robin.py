"""Each in turn.

Every picker starts at a random place and goes round in strides of its own, coprime to the number of endpoints, so that
each still comes once a round: many workers that start together, or see the same rolling restart, would otherwise send
their requests to the same pods in step (Envoy issues 3271, 32075). A stride costs nothing to draw; shuffling 10 000
endpoints at each change would cost 5 ms. The counter is an `itertools.count`, whose `next` is one C call, so no lock.
"""

import random
from collections.abc import Sequence
from itertools import count
from math import gcd

from kubelb.core.members import Members
from kubelb.core.policies.base import Picker, Policy
from kubelb.core.state import EndpointState
from kubelb.model import Request
from kubelb.records import record

__all__ = ["RoundRobin", "coprime_stride"]


@record(frozen=True, slots=True)
class RoundRobin(Policy):
    """Every endpoint in turn, from a random start.

    >>> import kubelb
    >>> lb = kubelb.LoadBalancer("static:///127.0.0.1:80,127.0.0.2:80", policy="round_robin")
    """

    def build(self, members: Members, rng: random.Random, before: Picker | None = None) -> "RoundRobinPicker":  # noqa: ARG002
        """Build a picker over the members."""
        states = members.states
        stride = coprime_stride(len(states), rng)
        return RoundRobinPicker(states, int(rng.random() * len(states)), stride)


def coprime_stride(total: int, rng: random.Random) -> int:
    """Return a random step in which `total` places are all visited before one comes again."""
    stride = 1 + int(rng.random() * total)
    while gcd(stride, total) > 1:  # 61 % of all pairs are coprime (6/pi^2): 1.6 draws
        stride = 1 + int(rng.random() * total)
    return stride


class RoundRobinPicker(Picker):
    """Counts in strides over a fixed order."""

    __slots__ = ("_count", "_next", "states")

    def __init__(self, states: Sequence[EndpointState], start: int, stride: int) -> None:
        self.states = states
        self._count = len(states)
        self._next = count(start, stride).__next__

    def pick(self, request: Request, now: float) -> EndpointState:  # noqa: ARG002
        return self.states[self._next() % self._count]
