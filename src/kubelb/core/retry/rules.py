"""Retry: the value that says how often, when and under which conditions to try again.

Safety is not an option. A request is sent again only if it is idempotent, or no byte of it was written to a connection;
and only if its body can be produced again. Nothing that a user passes here widens that: a POST that may have been
processed is repeated only where the caller said ``idempotent=True``.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

from kubelb.core.options import check_kind, number, whole
from kubelb.core.retry.backoff import FullJitter
from kubelb.core.retry.budget import RetryBudget
from kubelb.model import Outcome, Request, Sent, Verdict
from kubelb.records import record

__all__ = ["Retry", "may_repeat", "worth_repeating"]

Strategy: TypeAlias = Callable[[Any], Any]
"""A tenacity strategy: a callable over its RetryCallState."""
_SUCH_AS = {
    "wait": "wait_fixed(0.1)",
    "stop": "stop_after_delay(2), or None",
    "retry": "retry_if_exception_type(OSError), or None",
}


@record(frozen=True, slots=True)
class Retry:
    """Try up to `attempts` times (3, the first included), each on another endpoint.

    `budget` bounds the extra tries of all requests together; None for no bound. `wait`, `stop` and `retry` take
    tenacity's strategies: `wait` in place of full jitter from 25 to 250 ms, `stop` beside `attempts`, `retry` to call
    more outcomes worth repeating (an exception of your own, a result). One that raises, or returns what makes no sense,
    is reported by a log line, and what kubelb does without it is done.

    `max_wait` is the longest Retry-After, in seconds, that is waited for where no other endpoint is left; None: 5 where
    the call has a deadline or a timeout, else no more than any retry waits. Where it is given, it is waited for what is
    the caller's own limit, too: two endpoints of one call that say 429.

    >>> from tenacity import stop_after_delay, wait_fixed
    >>> Retry(attempts=5, wait=wait_fixed(0.1), stop=stop_after_delay(2)).attempts
    5
    """

    attempts: int = 3
    budget: RetryBudget | None = RetryBudget()
    wait: Strategy = FullJitter()
    stop: Strategy | None = None
    retry: Strategy | None = None
    max_wait: float | None = None

    def __post_init__(self) -> None:
        if not (whole(self.attempts) and self.attempts >= 1):
            raise ValueError(f"Retry(attempts={self.attempts!r}): give a whole number, 1 or more; the first try counts")
        check_kind("budget", self.budget, RetryBudget)
        if self.max_wait is not None and not 0 <= number(self.max_wait) < math.inf:
            raise ValueError(f"Retry(max_wait={self.max_wait!r}): give seconds, 0 or more, or None")
        given: tuple[tuple[str, object], ...] = (("wait", self.wait), ("stop", self.stop), ("retry", self.retry))
        for name, strategy in given:
            if not (callable(strategy) or (strategy is None and name != "wait")):
                raise TypeError(f"Retry({name}={strategy!r}): give a strategy of tenacity's, such as {_SUCH_AS[name]}")


def may_repeat(request: Request, outcome: Outcome) -> bool:
    """Whether it is safe to send the request again after this outcome."""
    return (request.replayable or outcome.fresh) and (request.idempotent or outcome.sent is Sent.NEVER)


def worth_repeating(outcome: Outcome) -> bool:
    """Whether another endpoint may do better: it was never sent, or the protocol says so."""
    return outcome.verdict is not Verdict.CANCELLED and (outcome.sent is Sent.NEVER or outcome.retryable)
