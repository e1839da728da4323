"""Full jitter: how long to wait before trying again.

The n-th wait is uniform in [0, min(cap, (2^n - 1) * base)], as Envoy draws it: retries of many callers that failed
together must not come back together.
"""

import math
import random
from typing import Any

from kubelb.core.options import check_kind, number
from kubelb.records import field, record

__all__ = ["FullJitter"]


@record(frozen=True, slots=True)
class FullJitter:
    """A tenacity wait strategy (a callable over its RetryCallState, ``+`` included) that takes its own `rng`.

    `base` 0.025 s, `cap` 0.25 s. tenacity's own jitter draws from the process-wide generator.

    >>> import random
    >>> 0 <= FullJitter().delay(1, random.Random(7)) <= 0.025
    True
    """

    base: float = 0.025
    cap: float = 0.25
    rng: random.Random | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= number(self.base) <= number(self.cap) < math.inf:
            raise ValueError(
                f"FullJitter(base={self.base!r}, cap={self.cap!r}): give seconds, the base not above the cap"
            )
        check_kind("rng", self.rng, random.Random)

    def delay(self, number: int, rng: random.Random) -> float:
        """Return the seconds to wait after attempt `number`, counted from 1."""
        ceiling = min(self.cap, self.base * (2.0 ** min(number, 60) - 1))
        return ceiling * (self.rng or rng).random()

    def __call__(self, retry_state: Any) -> float:
        return self.delay(retry_state.attempt_number, self.rng or _shared)

    def __add__(self, other: Any) -> Any:
        from tenacity import wait_combine

        return wait_combine(self, other)

    def __radd__(self, other: Any) -> Any:
        return self if other == 0 else self + other  # 0: what sum() starts from


_shared = random.SystemRandom()  # without a state that forked children would share
