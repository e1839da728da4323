"""The circuit breaker: a state machine that stops sending where too much fails or is slow, and tries again later.

    CLOSED --rate of failures or of slow calls--> OPEN --open_for is over--> HALF-OPEN --trials went well--> CLOSED
                                                    ^---------------------------- trials did not -'

Each endpoint has a circuit, and the service has one over all of them. An endpoint's that is open takes it out of the
choice, so other endpoints get its traffic; where all are open, and where the service's own is, requests are refused at
once with `Unusable`, and neither the caller nor the service waste time on each other.

Beside outlier detection (`kubelb.core.health.outliers`), which compares endpoints and therefore never judges all of
them, this one judges each by itself: it is for callers that would rather have an error soon than an answer late. The
numbers are those of Resilience4j (a window of 100 calls, 50 %), with 20 calls in place of 100 to begin with and 10 s in
place of 60, since an endpoint here is a pod and not a whole service.
"""

import math

from kubelb.core.options import check_flags, number, whole
from kubelb.records import record

__all__ = ["CircuitBreaker"]


@record(frozen=True, slots=True)
class CircuitBreaker:
    """Open where, of the last `window` outcomes (100) and at least `minimum_calls` (20), too many went wrong.

    That is `failure_rate` (0.5) of them failures, or `slow_call_rate` (0.5) slower than `slow_call_duration` seconds
    (60.0; infinity for none), measured up to the response headers. After `open_for` seconds (10.0) `trials` calls (5)
    decide by the same rates. A connect error, a reset, a timeout and a 5xx but 501 are failures; a 4xx and a 429 are
    answers; a cancelled call counts only where it was slow. A circuit knows no peers, so each timeout counts, but for
    one that ended late through a stall of this process.

    `per_endpoint` and `per_service` (both True) say which circuits there are. With ``observe=True`` they change and
    refuse nothing: events and `endpoints()` say what would be.

    >>> CircuitBreaker(failure_rate=0.2, slow_call_duration=1.0, per_service=False).trips(failures=4, slow=0, calls=20)
    True
    """

    failure_rate: float = 0.5
    slow_call_rate: float = 0.5
    slow_call_duration: float = 60.0
    window: int = 100
    minimum_calls: int = 20
    open_for: float = 10.0
    trials: int = 5
    per_endpoint: bool = True
    per_service: bool = True
    observe: bool = False

    def __post_init__(self) -> None:
        for name in ("failure_rate", "slow_call_rate"):
            if not 0 < number(rate := getattr(self, name)) <= 1:
                raise ValueError(f"CircuitBreaker({name}={rate!r}): give a share above 0 and up to 1, 0.5 for 50 %")
        if not number(self.slow_call_duration) > 0:
            raise ValueError(
                f"CircuitBreaker(slow_call_duration={self.slow_call_duration!r}): give positive seconds, "
                "math.inf where no call is too slow"
            )
        for name in ("window", "minimum_calls", "trials"):
            if not (whole(count := getattr(self, name)) and count >= 1):
                raise ValueError(f"CircuitBreaker({name}={count!r}): give a whole number, 1 or more")
        if max(self.minimum_calls, self.trials) > self.window:
            raise ValueError(
                f"CircuitBreaker(minimum_calls={self.minimum_calls!r}, trials={self.trials!r}, "
                f"window={self.window!r}): give a window that holds as many, or it never opens, or never closes"
            )
        if not 0 < number(self.open_for) < math.inf:
            raise ValueError(f"CircuitBreaker(open_for={self.open_for!r}): give a positive number of seconds")
        check_flags(self, "per_endpoint", "per_service", "observe")
        if not (self.per_endpoint or self.per_service):
            raise ValueError(
                "CircuitBreaker(per_endpoint=False, per_service=False): give one of them, or breaker=None for none"
            )

    def trips(self, failures: int, slow: int, calls: int) -> bool:
        """Whether so many failures and slow calls of these are too many."""
        return failures >= self.failure_rate * calls or slow >= self.slow_call_rate * calls
