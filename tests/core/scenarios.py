"""What may happen around a call, described once; run by hand and by each of the three drivers.

Times are in units: a second under virtual time, some milliseconds where a driver really waits.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import tenacity

from kubelb.core.retry import Retry, RetryBudget
from kubelb.model import ANY, IDEMPOTENT, Outcome, Request, Sent, Verdict

NO_WAIT = tenacity.wait_fixed(0)


@dataclass(frozen=True)
class Reply:
    """How one attempt goes: after `took` units it ends so; None: it never ends by itself."""

    took: float | None
    kind: str = "ok"
    open: bool = False
    hint: float | None = None

    def outcome(self, number: int, unit: float) -> Outcome:
        hint = None if self.hint is None else self.hint * unit
        common: dict[str, Any] = {"open": self.open, "retry_after": hint, "reason": self.kind, "value": number}
        match self.kind:
            case "ok":
                return Outcome(**common)
            case "refused":
                return Outcome(Verdict.FAILED, sent=Sent.NEVER, retryable=True, **common)
            case "reset":
                return Outcome(Verdict.FAILED, sent=Sent.MAYBE, retryable=True, **common)
            case "503":
                return Outcome(Verdict.FAILED, retryable=True, **common)
            case "429":
                return Outcome(Verdict.BUSY, retryable=True, **common)
            case "full":
                return Outcome(Verdict.FULL, retryable=True, **common)
            case "500":
                return Outcome(Verdict.FAILED, **common)
            case "idle":
                return Outcome(Verdict.NEUTRAL, sent=Sent.MAYBE, retryable=True, **common)
            case "cancelled":
                return Outcome(Verdict.CANCELLED, sent=Sent.MAYBE, **common)
        raise AssertionError(self.kind)


@dataclass(frozen=True)
class Scenario:
    """Attempt n goes as replies[n - 1]; what is expected follows."""

    name: str
    replies: tuple[Reply, ...]
    ends: str
    """`reason` of the outcome, or the name of the error raised."""
    by: int = 0
    """The attempt whose outcome came back; the last one where 0."""
    took: float = 0.0
    """Units until the end."""
    request: Request = IDEMPOTENT
    retry: Retry = field(default_factory=lambda: Retry(wait=NO_WAIT))
    pods: int = 3
    deadline: float | None = None
    hedge: float | None = None
    cancelled: tuple[int, ...] = ()
    discarded: tuple[int, ...] = ()
    tries: tuple[str, ...] = ()
    apart: bool = True
    """Every attempt on an endpoint of its own."""
    arrives: float | None = None
    """When the first snapshot comes; None: it is there."""
    ready: float | None = None
    vanishes: float | None = None
    """When all endpoints go."""

    def __str__(self) -> str:
        return self.name


def stop_after(units: float) -> Callable[[Any], bool]:
    """tenacity's stop_after_delay, in units (virtual time only)."""
    return tenacity.stop_after_delay(units)


BOTH = [
    Scenario("first ok", (Reply(0),), "ok"),
    Scenario("fail then ok", (Reply(1, "503"), Reply(1)), "ok", took=2, tries=("503",)),
    Scenario("reset then ok", (Reply(0, "reset"), Reply(0)), "ok", tries=("reset",)),
    Scenario("an idle connection was closed", (Reply(0, "idle"), Reply(0)), "ok", tries=("idle",)),
    Scenario("three fail", (Reply(0, "503"),) * 3, "503", tries=("503", "503")),
    Scenario("500 is an answer", (Reply(0, "500"),), "500"),
    Scenario("the caller gave up", (Reply(0, "cancelled"),), "cancelled"),
    Scenario(
        "never sent goes at once to another endpoint",
        (Reply(0, "refused"), Reply(0)),
        "ok",
        request=ANY,
        retry=Retry(wait=tenacity.wait_fixed(1000)),
        tries=("refused",),
    ),
    Scenario(
        "never sent and nobody else: waits",
        (Reply(0, "refused"), Reply(0)),
        "ok",
        pods=1,
        apart=False,
        took=2,
        retry=Retry(wait=lambda state: 2.0 * UNIT.seconds),
        tries=("refused",),
    ),
    Scenario("not idempotent, maybe sent: never repeated", (Reply(0, "reset"),), "reset", request=ANY),
    Scenario("not idempotent, answered: never repeated", (Reply(0, "503"),), "503", request=ANY),
    Scenario(
        "a body that cannot be produced again", (Reply(0, "refused"),), "refused", request=Request(replayable=False)
    ),
    Scenario("one attempt", (Reply(0, "503"),), "503", retry=Retry(attempts=1)),
    Scenario("budget exhausted", (Reply(0, "503"),), "503", retry=Retry(wait=NO_WAIT, budget=RetryBudget(0, 0))),
    Scenario(
        "no time left for another try",
        (Reply(1, "503"),),
        "503",
        deadline=3,
        took=1,
        retry=Retry(wait=lambda state: 5.0 * UNIT.seconds),
    ),
    Scenario("no time for a first", (), "DeadlineExceeded", deadline=0),
    Scenario("Retry-After beyond the deadline", (Reply(0, "429", hint=9),), "429", deadline=5, pods=1),
    Scenario(
        "Retry-After within it",
        (Reply(0, "429", hint=2), Reply(0)),
        "ok",
        deadline=5,
        pods=1,
        apart=False,
        took=2,
        tries=("429",),
    ),
    Scenario("Retry-After beyond reason", (Reply(0, "429", hint=1e6),), "429", pods=1),
    Scenario(
        "Retry-After is not waited for while others are left",
        (Reply(0, "429", hint=9), Reply(0)),
        "ok",
        deadline=30,
        retry=Retry(wait=tenacity.wait_fixed(1000)),
        tries=("429",),
    ),
    Scenario(
        "full ones are left for others, until none is left",
        (Reply(0, "full", hint=900), Reply(0, "full", hint=900), Reply(0)),
        "ok",
        deadline=30,
        tries=("full", "full"),
    ),
    Scenario(
        "all are full",
        (Reply(0, "full", hint=900), Reply(0, "full", hint=900)),
        "full",
        pods=2,
        deadline=30,
        retry=Retry(),
        tries=("full",),
    ),
    Scenario(
        "two of one call that limit the caller end it",
        (Reply(0, "429", hint=1), Reply(0, "429", hint=1)),
        "429",
        deadline=30,
        retry=Retry(),
        tries=("429",),
    ),
    Scenario(
        "they are waited for where that was asked for",
        (Reply(0, "429", hint=2), Reply(0, "429", hint=2), Reply(0)),
        "ok",
        deadline=30,
        retry=Retry(wait=NO_WAIT, max_wait=9),
        took=2,
        tries=("429", "429"),
    ),
    Scenario("no sleep where no deadline was set", (Reply(0, "full", hint=900),), "full", pods=1, retry=Retry()),
    Scenario("Retry-After of a 503 is its own affair", (Reply(0, "503", hint=1000), Reply(0)), "ok", tries=("503",)),
    Scenario(
        "Retry-After of the only endpoint",
        (Reply(0, "503", hint=2), Reply(0)),
        "ok",
        deadline=9,
        pods=1,
        apart=False,
        took=2,
        tries=("503",),
    ),
    Scenario(
        "a failed response is thrown away before the next try",
        (Reply(0, "503", open=True), Reply(0, open=True)),
        "ok",
        discarded=(1,),
        tries=("503",),
    ),
    Scenario(
        "the last failed response comes back whole",
        (Reply(0, "503", open=True),) * 3,
        "503",
        discarded=(1, 2),
        tries=("503", "503"),
    ),
    Scenario(
        "a user's retry strategy",
        (Reply(0, "500"), Reply(0)),
        "ok",
        retry=Retry(wait=NO_WAIT, retry=tenacity.retry_if_result(lambda value: value == 1)),
        tries=("500",),
    ),
    Scenario(
        "a user's retry strategy does not make it safe",
        (Reply(0, "500"),),
        "500",
        request=ANY,
        retry=Retry(retry=tenacity.retry_always),
    ),
    Scenario(
        "a user's retry strategy may call a success worth repeating",
        (Reply(0), Reply(0)),
        "ok",
        by=2,
        retry=Retry(wait=NO_WAIT, retry=tenacity.retry_if_result(lambda value: value == 1)),
        tries=("ok",),
    ),
    Scenario(
        "a user's stop strategy",
        (Reply(0, "503"), Reply(0, "503")),
        "503",
        retry=Retry(attempts=9, wait=NO_WAIT, stop=tenacity.stop_after_attempt(2)),
        tries=("503",),
    ),
    Scenario("waits for the first snapshot", (Reply(0),), "ok", arrives=2, ready=50, took=2),
    Scenario("the first snapshot does not come", (), "NotReady", arrives=90, ready=3, took=3),
    Scenario("nor before the deadline", (), "DeadlineExceeded", arrives=90, ready=60, deadline=3, took=3),
    Scenario("nobody is to wait", (), "NotReady", arrives=90),
    Scenario("everything gone meanwhile", (Reply(4, "503", open=True),), "503", vanishes=2, took=4),
    Scenario("nothing there", (), "NoEndpoints", pods=0),
    # Hedging
    Scenario("hedge not needed", (Reply(1),), "ok", hedge=4, took=1),
    Scenario("hedge wins", (Reply(None), Reply(1)), "ok", hedge=4, took=5, cancelled=(1,), by=2),
    Scenario("hedge loses", (Reply(6), Reply(None)), "ok", hedge=4, took=6, cancelled=(2,), by=1),
    Scenario(
        "both fail, the third is good",
        (Reply(6, "503"), Reply(8, "reset"), Reply(1)),
        "ok",
        hedge=4,
        took=13,
        tries=("503", "reset"),
    ),
    Scenario(
        "both fail and that was all",
        (Reply(8, "503"), Reply(8, "reset")),
        "reset",
        hedge=4,
        retry=Retry(wait=NO_WAIT, attempts=2),
        took=12,
        tries=("503",),
    ),
    Scenario(
        "the first fails while the last hedge may still win",
        (Reply(8, "503", open=True), Reply(8, open=True)),
        "ok",
        hedge=4,
        retry=Retry(wait=NO_WAIT, attempts=2),
        took=12,
        by=2,
        tries=("503",),
        discarded=(1,),
    ),
    Scenario("no hedge for what is not idempotent", (Reply(8),), "ok", hedge=4, request=ANY, took=8),
    Scenario("no hedge without another endpoint", (Reply(8),), "ok", hedge=4, pods=1, took=8),
    Scenario("no hedge without budget", (Reply(8),), "ok", hedge=4, took=8, retry=Retry(budget=RetryBudget(0, 0))),
    Scenario(
        "a hedge that fails leaves the first alone",
        (Reply(12), Reply(1, "503")),
        "ok",
        hedge=4,
        retry=Retry(wait=NO_WAIT, attempts=2),
        took=12,
        by=1,
        tries=("503",),
    ),
    Scenario("everything gone before the hedge", (Reply(8),), "ok", hedge=4, took=8, vanishes=2),
]

VIRTUAL = [
    Scenario(
        "a user's stop_after_delay under our clock",
        (Reply(3, "503"), Reply(3, "503"), Reply(3, "503")),
        "503",
        took=9,
        retry=Retry(attempts=9, wait=NO_WAIT, stop=stop_after(8)),
        tries=("503", "503"),
    ),
    Scenario(
        "a user's wait_exponential",
        (Reply(0, "503"), Reply(0, "503"), Reply(0)),
        "ok",
        took=3,
        retry=Retry(wait=tenacity.wait_exponential(multiplier=1, min=0)),
        tries=("503", "503"),
    ),
]


class Unit:
    """How long a unit is, for strategies that speak in seconds."""

    seconds = 1.0


UNIT = Unit()
