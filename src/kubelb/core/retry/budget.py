"""One budget for every extra try: retries, never-sent ones and hedges.

Attempts limit what one request may cost; only a budget limits what all of them may. With three tries in each of three
layers a dead service sees 27 times its traffic; with a budget of 20 % a layer it sees 1.2 times (Finagle's RetryBudget,
adopted by Linkerd; the SRE book, chapter 22).

Two sources are asked in turn:
- a *share* of the first attempts of the last `window` seconds, read from the balancer's own counter, so that a request
  that succeeds costs the budget nothing;
- a *floor*: a bucket that starts with `floor` tokens, holds as many (one at least) and refills at `floor` a second, so
  that a quiet service can retry at all.

So extra tries never pass ``ratio * requests + floor * (seconds + 1)``, over any stretch of time.
"""

import math
import threading
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from kubelb.core.options import number

__all__ = ["BudgetState", "RetryBudget"]

SLOTS = 10
"""Marks a window: the share is counted to within a tenth of it."""


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """`ratio` extra tries per request (0.2), counted over `window` seconds (10.0), plus `floor` a second (10.0)."""

    ratio: float = 0.2
    floor: float = 10.0
    window: float = 10.0

    def __post_init__(self) -> None:
        if not 0 <= number(self.ratio) < math.inf:
            raise ValueError(f"RetryBudget(ratio={self.ratio!r}): give a share of 0 or more, 0.2 for 20 %")
        if not 0 <= number(self.floor) < math.inf:
            raise ValueError(f"RetryBudget(floor={self.floor!r}): give tries a second, 0 or more")
        if not 0 < number(self.window) < math.inf:
            raise ValueError(f"RetryBudget(window={self.window!r}): give a positive number of seconds")


class _Mark(NamedTuple):
    time: float
    requests: int
    spent: int
    """Withdrawn from the share until then."""


class BudgetState:
    """What one balancer has spent. Only failures come here, so its lock is not on the path of a success."""

    def __init__(self, config: RetryBudget, now: float) -> None:
        self.config = config
        self._lock = threading.Lock()
        self._marks = deque([_Mark(now, 0, 0)])
        self._spent = 0
        self._tokens = config.floor
        self._refilled = now

    def withdraw(self, requests: int, now: float) -> bool:
        """Take one extra try, if there is one. `requests` is the number of first attempts so far."""
        config = self.config
        with self._lock:
            allowed = config.ratio * self._recent(requests, now)
            if self._spent - self._marks[0].spent + 1 <= allowed:
                self._spent += 1
                return True
            self._tokens = min(max(config.floor, 1.0), self._tokens + (now - self._refilled) * config.floor)
            self._refilled = now
            if self._tokens >= 1:
                self._tokens -= 1
                return True
            return False

    def available(self, requests: int, now: float) -> int:
        """Return how many extra tries could be taken now. Looking changes nothing."""
        config = self.config
        with self._lock:
            past = [mark for mark in self._marks if mark.time <= now - config.window]
            oldest = past[-1] if past else self._marks[0]
            share = config.ratio * self._since(oldest, requests, now) - (self._spent - oldest.spent)
            tokens = min(max(config.floor, 1.0), self._tokens + (now - self._refilled) * config.floor)
        return max(0, math.floor(share)) + math.floor(tokens)

    def _recent(self, requests: int, now: float) -> float:
        """Return the first attempts of the last window, and move the marks along."""
        window = self.config.window
        marks = self._marks
        while len(marks) > 1 and marks[1].time <= now - window:
            marks.popleft()
        if now - marks[-1].time >= window / SLOTS:
            marks.append(_Mark(now, requests, self._spent))
        return self._since(marks[0], requests, now)

    def _since(self, oldest: _Mark, requests: int, now: float) -> float:
        # Where nothing was asked for longer than a window, its requests count in proportion.
        return (requests - oldest.requests) * min(1.0, self.config.window / max(now - oldest.time, 1e-9))

    def forget(self) -> None:
        """In a forked child: a lock of its own."""
        self._lock = threading.Lock()
