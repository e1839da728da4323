"""Slow start: a newcomer among elders gets a growing share, not a flood.

By every measure of load a new pod is the emptiest of all. Its share starts at `min_share` and grows linearly to its
fair one over `window` (Envoy's slow start with aggression 1). It is a wrapper around any picker: a newcomer that was
chosen is accepted with the probability of its share, else a picker over the elders alone decides. Where newcomers are
in the majority the picker is asked again before that, or a few elders would be left with everything. So it works for
every policy, and while none is new the wrapper is not there at all. A policy that hashes says by the key whether a
newcomer is accepted, so that each key moves over to it once.

Where all are new there are no elders to compare with, and nothing is held back.
"""

import math
import random

from kubelb.core.options import number
from kubelb.core.policies.base import Picker, Wrapping
from kubelb.core.state import EndpointState, Usable
from kubelb.model import Request
from kubelb.records import record

__all__ = ["SlowStart", "SlowStartPicker"]

TRIES = 3
"""Times the picker is asked again at most: as many as there are newcomers to an elder."""


@record(frozen=True, slots=True)
class SlowStart:
    """`window` in seconds (30.0) until a newcomer has its full share, which starts at `min_share` (0.1).

    >>> SlowStart(window=30.0).share(15.0)
    0.5
    """

    window: float = 30.0
    min_share: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= number(self.window) < math.inf:
            raise ValueError(f"SlowStart(window={self.window!r}): give seconds, 0 to switch it off")
        if not 0 < number(self.min_share) <= 1:
            raise ValueError(f"SlowStart(min_share={self.min_share!r}): give a share above 0 and up to 1")

    def share(self, age: float) -> float:
        """Return the share of its fair traffic that an endpoint of this age gets."""
        return max(self.min_share, min(1.0, age / self.window)) if self.window else 1.0


class SlowStartPicker(Wrapping):
    """Wraps a picker while some endpoints are new."""

    __slots__ = ("_draws", "_elders", "_random", "_share", "_window")

    def __init__(self, inner: Picker, elders: Picker, crowd: int, config: SlowStart, rng: random.Random) -> None:
        """`elders` picks among them alone; `crowd` is the number of newcomers to each."""
        Wrapping.__init__(self, inner)
        self._draws = 1 + min(crowd, TRIES)
        self._elders = elders
        self._random = rng.random
        self._share = config.share
        self._window = config.window

    def pick(self, request: Request, now: float) -> EndpointState | None:
        state = None
        for draw in range(self._draws):
            state = self.inner.pick(request, now)
            if state is None:
                return None
            age = now - state.warm_since
            if age >= self._window or self.inner.chance(request, draw, self._random) < self._share(age):
                return state
        return self._elders.pick(request, now) or state

    def other(self, request: Request, now: float, fits: Usable) -> EndpointState | None:
        state = self.inner.other(request, now, fits)
        if state is None:
            return None
        age = now - state.warm_since
        if age >= self._window or self.inner.chance(request, 0, self._random) < self._share(age):
            return state
        return self._elders.other(request, now, fits) or state
