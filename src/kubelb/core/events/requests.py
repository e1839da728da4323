"""What happens to requests: they are sent again, or refused, or fail by what this process lacks."""

from kubelb.core.events.base import Event, Level, only, place
from kubelb.core.events.counters import OBSERVED, Attribute, Counter

__all__ = ["BudgetExhausted", "LimitReached", "LocalTrouble", "Retried"]


class Retried(Event):
    """Attempt `number` follows after `delay` seconds because the one before ended with `reason`.

    `endpoint` and `pod` are those of the attempt before.
    """

    endpoint: str
    number: int
    reason: str
    delay: float
    pod: str = ""

    counter = Counter(
        "kubelb.retries",
        "{retry}",
        "Attempts that followed a failed one.",
        (Attribute("error.type", "reason", (), "what the attempt before ended with: 64 words at most, then `_OTHER`"),),
    )

    @property
    def level(self) -> Level:
        return "debug"

    @property
    def text(self) -> str:
        where = place(self.endpoint, self.pod)
        return f"attempt {self.number} follows in {self.delay * 1000:.0f} ms: {where} {self.reason}"

    @property
    def key(self) -> tuple[str, ...]:
        return self._key(self.endpoint, self.reason)


class BudgetExhausted(Event):
    """A retry was wanted and the budget had none left."""

    reason: str

    counter = Counter(
        "kubelb.retry.budget.exhausted", "{retry}", "Retries that were wanted and that the retry budget refused."
    )

    @property
    def text(self) -> str:
        return f"no retry after {self.reason}: the retry budget is used up"


class LimitReached(Event):
    """A request, a retry or a wait too many was refused; `limit` is the option of ConcurrencyLimits, `value` its value.

    `endpoint` is named where one was given more than it may have, which only an observer lets happen.
    """

    limit: str
    value: int
    endpoint: str = ""
    observed: bool = False
    pod: str = ""

    counter = Counter(
        "kubelb.limits.reached",
        "{refusal}",
        "Requests, retries and waits beyond a concurrency limit.",
        (
            Attribute(
                "kubelb.limit",
                "limit",
                ("max_requests", "max_requests_per_endpoint", "max_pending", "max_retries"),
                "the option of `ConcurrencyLimits`",
            ),
            OBSERVED,
        ),
    )

    @property
    def text(self) -> str:
        where = f"{place(self.endpoint, self.pod)}: " if self.endpoint else ""
        return f"{where}{self.limit}={self.value} is reached, and what is more refused{only(self.observed)}"

    @property
    def key(self) -> tuple[str, ...]:
        return self._key(self.limit, self.endpoint)


class LocalTrouble(Event):
    """An attempt failed by what this process or its host lacks, whatever the endpoint: it is not blamed for it.

    `kind` is a stable word: ``descriptors``, ``memory``, ``ports``, ``threads``, or ``network`` (no route to any).
    """

    endpoint: str
    kind: str
    reason: str
    cure: str = ""
    pod: str = ""

    counter = Counter(
        "kubelb.local.failures",
        "{failure}",
        "Attempts that failed by what this process or its host lacks.",
        (
            Attribute(
                "error.type", "kind", ("descriptors", "memory", "ports", "threads", "network"), "what there is none of"
            ),
        ),
    )

    @property
    def text(self) -> str:
        return f"{place(self.endpoint, self.pod)} is not to blame: {self.reason}; {self.cure}"

    @property
    def key(self) -> tuple[str, ...]:
        return self._key(self.kind)
