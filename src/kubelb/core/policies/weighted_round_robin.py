"""Each in turn, as often as its weight says: the static stride scheduler of gRFC A58.

Weights are scaled so that the largest is `FULL`. Endpoints are visited round after round; in round g the i-th serves if
`(weight * g + i * OFFSET) mod FULL >= FULL - weight`, else it is passed over. That is one turn in every FULL / weight
rounds, evenly spaced, without a queue and without a lock: the place in the schedule is a counter, an `itertools.count`
whose `next` is one C call. OFFSET sets neighbours half a cycle apart, so that equal ones do not serve in one round.

Two things differ from gRPC's own, and neither changes a share:

- an endpoint heavier than the mean stands in several places, each with a part of its weight. A place is then passed
  over every other time at most, where one endpoint of weight 100 among 1000 of weight 1 would cost 91 looks a pick;
- places are visited in an order and from a start of each picker's own, so that many workers do not send their requests
  to the same pods in step (Envoy issues 3271, 32075).
"""

import random
from collections.abc import Sequence
from itertools import count
from math import ceil, fsum

from kubelb.core.members import Members
from kubelb.core.policies.base import Picker, Policy
from kubelb.core.policies.round_robin import RoundRobin, coprime_stride
from kubelb.core.policies.weights import weights_of
from kubelb.core.state import EndpointState
from kubelb.model import Request
from kubelb.records import record

__all__ = ["WeightedRoundRobin"]

FULL = 65535
"""The scaled weight of whatever serves in every round; a share is kept to within 1 of it."""
OFFSET = 32767


@record(frozen=True, slots=True)
class WeightedRoundRobin(Policy):
    """Every endpoint in turn, in proportion to `Endpoint.weight`; round robin where all weights are equal.

    A weight that is zero, negative, infinite or NaN counts as the mean of the others.

    >>> import kubelb
    >>> lb = kubelb.LoadBalancer("static:///127.0.0.1:80,127.0.0.2:80", policy="weighted_round_robin")
    """

    def build(self, members: Members, rng: random.Random, before: Picker | None = None) -> Picker:  # noqa: ARG002
        """Build a picker over the members."""
        states = members.states
        weights = weights_of(states)
        if min(weights) == max(weights):
            return RoundRobin().build(members, rng)
        mean = fsum(weights) / len(weights)
        places: list[tuple[EndpointState, float]] = []
        for state, weight in zip(states, weights, strict=True):
            parts = ceil(weight / mean)
            places += [(state, weight / parts)] * parts
        total = len(places)
        stride = coprime_stride(total, rng)
        places = [places[place * stride % total] for place in range(total)]
        largest = max(weight for _, weight in places)
        scaled = [max(1, round(weight / largest * FULL)) for _, weight in places]
        start = int(rng.random() * total * FULL)
        return StridePicker(states, [state for state, _ in places], scaled, start)


class StridePicker(Picker):
    """Reads the schedule from where its counter stands."""

    __slots__ = ("_count", "_next", "_places", "_weights", "states")

    def __init__(
        self, states: Sequence[EndpointState], places: Sequence[EndpointState], weights: Sequence[int], start: int
    ) -> None:
        self.states = states
        self._places = places
        self._weights = weights
        self._count = len(places)
        self._next = count(start).__next__

    def pick(self, request: Request, now: float) -> EndpointState:  # noqa: ARG002
        while True:
            generation, place = divmod(self._next(), self._count)
            weight = self._weights[place]
            if (weight * generation + place * OFFSET) % FULL >= FULL - weight:
                return self._places[place]
