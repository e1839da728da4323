"""Peak EWMA: the lesser of two by expected wait, cost x (in flight + 1). The default.

`cost` is a moving average of latency that jumps up at once and comes down slowly (Finagle, `PeakEwma.scala`): a sample
r above it replaces it, one below gives cost*w + r*(1-w) with w = exp(-dt/decay). It also decays while it is read, so
that an endpoint which was slow once is tried again. Failures are charged as `failure_penalty` seconds, or an endpoint
that fails in a millisecond would look like the best of all (Linkerd's load biaser, 2026): see `kubelb.core.charges` for
how long. A silence (a deadline that ended without an answer) counts as the time that it took, where there is a sample.

Two cases have no number to compare:
- *never sampled*: one request is its probe (load 0); until that has ended the others are held off (load UNKNOWN);
- *not sampled for one decay*: due one probe too. Decay alone is not enough: over a small set with one caller, two
  slow answers sent everything to the third endpoint for good. The end of a charge is stamped so as to be such a case.
"""

import math
import random
from collections.abc import Mapping, Sequence
from math import exp

from kubelb.core.members import Members
from kubelb.core.options import number
from kubelb.core.policies.base import Needs, Picker, Policy
from kubelb.core.policies.random import RandomPicker
from kubelb.core.policies.two import two_that_fit
from kubelb.core.state import NEVER, EndpointState, Usable
from kubelb.model import Request
from kubelb.records import record

__all__ = ["PeakEwma"]

UNKNOWN = 1e6
"""Seconds charged per request in flight on an endpoint that has never answered."""


@record(frozen=True, slots=True)
class PeakEwma(Policy):
    """The endpoint with the lesser expected wait, of two distinct random candidates.

    `decay` is the time constant in seconds (10.0); `failure_penalty` the seconds of latency that a failure counts for
    at least (5.0), until a probe succeeds: half a second later at first, up to four where failures go on.

    >>> import kubelb
    >>> lb = kubelb.LoadBalancer("static:///127.0.0.1:80", policy=kubelb.policies.PeakEwma(decay=5.0))
    """

    decay: float = 10.0
    failure_penalty: float = 5.0

    def __post_init__(self) -> None:
        for name, value in (("decay", self.decay), ("failure_penalty", self.failure_penalty)):
            if not 0 < number(value) < math.inf:
                raise ValueError(f"PeakEwma({name}={value!r}): give a positive number of seconds")

    @property
    def needs(self) -> Needs:
        """The average that it goes by."""
        return Needs(by_load=True, decay=self.decay, failure_penalty=self.failure_penalty)

    def build(self, members: Members, rng: random.Random, before: Picker | None = None) -> Picker:  # noqa: ARG002
        """Build a picker over the members."""
        states = members.states
        return PeakEwmaPicker(states, rng, self.decay) if len(states) > 1 else RandomPicker(states, rng)


class PeakEwmaPicker(Picker):
    """Two distinct random candidates, compared by load."""

    __slots__ = ("_count", "_decay", "_random", "states")

    def __init__(self, states: Sequence[EndpointState], rng: random.Random, decay: float) -> None:
        self.states = states
        self._count = len(states)
        self._random = rng.random
        self._decay = decay

    def pick(self, request: Request, now: float) -> EndpointState:  # noqa: ARG002
        i = int(self._random() * self._count)
        j = int(self._random() * (self._count - 1))
        states, decay = self.states, self._decay
        one, other = states[i], states[j + (j >= i)]
        # `load` twice, written out: two calls less in the one place where it counts.
        age = now - one.stamp
        first = one.cost * exp(-age / decay) * (len(one.leases) + 1) if age <= decay else load(one, now, decay)
        age = now - other.stamp
        second = other.cost * exp(-age / decay) * (len(other.leases) + 1) if age <= decay else load(other, now, decay)
        return other if second < first else one

    def other(self, request: Request, now: float, fits: Usable) -> EndpointState | None:  # noqa: ARG002
        one, other = two_that_fit(self.states, self._random, fits)
        if one is None or other is None:
            return one
        return other if load(other, now, self._decay) < load(one, now, self._decay) else one

    def scores(self, request: Request, now: float) -> Mapping[EndpointState, float]:  # noqa: ARG002
        return {state: load(state, now, self._decay) for state in self.states}


def load(state: EndpointState, now: float, decay: float) -> float:
    """Return the expected wait in seconds; lesser is better."""
    busy = len(state.leases)
    age = now - state.stamp
    if age > decay:
        if not busy:
            return 0.0  # due a probe
        if state.stamp == NEVER:
            return UNKNOWN * busy
    return state.cost * exp(-age / decay) * (busy + 1)
