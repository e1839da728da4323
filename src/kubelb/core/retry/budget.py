"""One budget for every extra try: retries, never-sent ones and hedges.

Attempts limit what one request may cost; only a budget limits what all of them may. With three tries in each of three
layers a dead service sees 27 times its traffic; with a budget of 20 % a layer it sees 1.2 times (Finagle's RetryBudget,
adopted by Linkerd; the SRE book, chapter 22).

One bucket, read from the balancer's own counter, so that a request that succeeds costs the budget nothing:
- it starts with `reserve` tokens, so that the first requests of a process can be repeated;
- each first attempt puts `ratio` of a token in; where `floor` is given, so does the time;
- it holds the larger one of `reserve` and what the last `window` seconds have put in; what is beyond that is lost;
- each extra try takes one out.

No token is spent twice, so extra tries never pass

    ratio * requests + floor * seconds + reserve                 since the start,
    ratio * requests + floor * seconds + what it holds           over any stretch of time,

however few the requests are: 1.2 times, and ten tries that come but once. Time by itself gives nothing unless it is
asked to. Finagle's and Linkerd's ten tries a second in each process triple the traffic of a service of five requests a
second, just when that is down, and forty workers make it forty times ten. What holds for every size
must grow with the traffic alone, as gRPC's throttling of retries does (gRFC A6).
"""

import math
import threading
from collections import deque
from typing import NamedTuple

from kubelb.core.options import number
from kubelb.records import record

__all__ = ["BudgetState", "RetryBudget"]

SLOTS = 10
"""Marks a window: what it has put in is counted to within a tenth of it."""


RESERVE = 10.0
"""Tries that a process has from its start, and may keep."""


@record(frozen=True, slots=True)
class RetryBudget:
    """`ratio` extra tries per request (0.2), and `reserve` of them (10.0) that a process has from its start.

    What is not spent is kept: up to `reserve`, or what the last `window` seconds (10.0) gave, if that is more. `floor`
    more tries a second (none) are for traffic so rare that a fifth of it is nothing. A service that is down sees
    ``floor / rate`` of its traffic more then: ten a second triple five requests a second.
    Where `floor` is given, `reserve` is as much unless it is given too.

    >>> RetryBudget(ratio=0.1).held, RetryBudget(floor=2.0).held
    (10.0, 2.0)
    """

    ratio: float = 0.2
    floor: float | None = None
    window: float = 10.0
    reserve: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= number(self.ratio) < math.inf:
            raise ValueError(f"RetryBudget(ratio={self.ratio!r}): give a share of 0 or more, 0.2 for 20 %")
        if self.floor is not None and not 0 <= number(self.floor) < math.inf:
            raise ValueError(f"RetryBudget(floor={self.floor!r}): give tries a second, 0 or more, or None")
        if not 0 < number(self.window) < math.inf:
            raise ValueError(f"RetryBudget(window={self.window!r}): give a positive number of seconds")
        if self.reserve is not None and not 0 <= number(self.reserve) < math.inf:
            raise ValueError(f"RetryBudget(reserve={self.reserve!r}): give a number of tries, 0 or more, or None")

    @property
    def held(self) -> float:
        """What a process has from its start, and may keep: `reserve`, with its default filled in."""
        if self.reserve is not None:
            return self.reserve
        return RESERVE if self.floor is None else self.floor


class _Mark(NamedTuple):
    time: float
    requests: int


class BudgetState:
    """What one balancer may spend. Only failures come here, so its lock is not on the path of a success."""

    def __init__(self, config: RetryBudget, now: float) -> None:
        self.config = config
        self._lock = threading.Lock()
        self._marks = deque([_Mark(now, 0)])
        self._tokens = config.held
        self._filled = _Mark(now, 0)
        """Until when time and requests have been put in."""

    def withdraw(self, requests: int, now: float) -> bool:
        """Take one extra try, if there is one. `requests` is the number of first attempts so far."""
        window, marks = self.config.window, self._marks
        with self._lock:
            while len(marks) > 1 and marks[1].time <= now - window:
                marks.popleft()
            if now - marks[-1].time >= window / SLOTS:
                marks.append(_Mark(now, requests))
            self._tokens = self._holding(marks[0], requests, now)
            self._filled = _Mark(now, requests)
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True

    def available(self, requests: int, now: float) -> int:
        """Return how many extra tries could be taken now. Looking changes nothing."""
        with self._lock:
            past = [mark for mark in self._marks if mark.time <= now - self.config.window]
            return math.floor(self._holding(past[-1] if past else self._marks[0], requests, now))

    def _holding(self, oldest: _Mark, requests: int, now: float) -> float:
        """Return what is in the bucket now; `oldest` is the mark at the beginning of the window."""
        config, filled = self.config, self._filled
        given = config.ratio * (requests - filled.requests) + (config.floor or 0.0) * (now - filled.time)
        # Where nothing was asked for longer than a window, its requests count in proportion.
        part = min(1.0, config.window / max(now - oldest.time, 1e-9))
        recent = config.ratio * (requests - oldest.requests) * part
        return min(max(config.held, recent, 1.0), self._tokens + given)

    def forget(self) -> None:
        """In a forked child: a lock of its own."""
        self._lock = threading.Lock()
