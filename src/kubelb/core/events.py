"""Frozen records of what happened; the only thing telemetry sees.

Rooms emit them through a callable ``emit(event)`` that never blocks and never raises. No event exists for the ordinary
success of a request: those are counted where they happen. No event holds a secret, or a control character: texts that
may repeat what others wrote are made fit to be printed when the event is made (see `kubelb.printable`), so that none of
those that listen has to think of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from kubelb.printable import printable

__all__ = [
    "BudgetExhausted",
    "CircuitChanged",
    "DiscoveryFailed",
    "DiscoveryRecovered",
    "Ejected",
    "EjectionSpared",
    "Emit",
    "EndpointsChanged",
    "Event",
    "LimitReached",
    "LocalTrouble",
    "Retried",
    "Returned",
    "ShareBounded",
    "Skipped",
    "SourceChanged",
    "SpilledOver",
    "TlsFilesChanged",
    "discard",
]


@dataclass(frozen=True, slots=True)
class _Told:
    """What tells of something in words, some of them perhaps another's."""

    _words: ClassVar[tuple[str, ...]] = ("reason",)

    def __post_init__(self) -> None:
        for name in self._words:
            given = getattr(self, name)
            made = printable(given) if isinstance(given, str) else tuple(map(printable, given))
            if made != given:
                object.__setattr__(self, name, made)


@dataclass(frozen=True, slots=True)
class EndpointsChanged(_Told):
    """A new set is in use, or, with a `problem`, none: an unknown service is not the same as an empty one."""

    _words: ClassVar[tuple[str, ...]] = ("problem",)

    service: str
    version: int
    used: int
    parked: int
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Ejected(_Told):
    """An endpoint gets no traffic for `duration` seconds; `times` is how often in a row.

    `rule` is ``"consecutive-failures"`` or ``"failure-share"``; the numbers behind it are `failures` (in a row, or in
    the window), and for a share the `requests` in the window, the least that the share can be (`bound`, the lower end
    of its 95 % interval) and its peers' `median`. With `observed` nothing was done: it is what would have been.
    """

    service: str
    endpoint: str
    reason: str
    duration: float
    times: int
    rule: str = ""
    failures: int = 0
    requests: int = 0
    bound: float = 0.0
    median: float = 0.0
    observed: bool = False


@dataclass(frozen=True, slots=True)
class EjectionSpared(_Told):
    """An endpoint breached a rule and was kept: the cap, the last one, or a correlated failure. Fields as above."""

    service: str
    endpoint: str
    reason: str
    rule: str = ""
    failures: int = 0
    requests: int = 0
    bound: float = 0.0
    median: float = 0.0
    observed: bool = False


@dataclass(frozen=True, slots=True)
class Returned:
    """An ejected endpoint is back; `why` is ``"probe"``, ``"correlated"`` or ``"too few are left"``."""

    service: str
    endpoint: str
    why: str
    observed: bool = False


@dataclass(frozen=True, slots=True)
class ShareBounded(_Told):
    """An endpoint refuses what its peers answer, and gets its fair share and no more (`over`); or no longer does."""

    service: str
    endpoint: str
    over: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Retried(_Told):
    """Attempt `number` follows after `delay` seconds because the one before ended with `reason`."""

    service: str
    endpoint: str
    number: int
    reason: str
    delay: float


@dataclass(frozen=True, slots=True)
class BudgetExhausted(_Told):
    """A retry was wanted and the budget had none left."""

    service: str
    reason: str


@dataclass(frozen=True, slots=True)
class LimitReached:
    """A request, a retry or a wait too many was refused; `limit` is the option of ConcurrencyLimits, `value` its value.

    `endpoint` is named where one was given more than it may have, which only an observer lets happen.
    """

    service: str
    limit: str
    value: int
    endpoint: str = ""
    observed: bool = False


@dataclass(frozen=True, slots=True)
class LocalTrouble(_Told):
    """An attempt failed by what this process or its host lacks, whatever the endpoint: it is not blamed for it.

    `kind` is a stable word: ``descriptors``, ``memory``, ``ports``, ``threads``, or ``network`` (no route to any).
    """

    service: str
    endpoint: str
    kind: str
    reason: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class CircuitChanged(_Told):
    """A circuit is ``"open"`` for `duration` seconds, ``"half-open"`` or ``"closed"``; `endpoint` "": the service's.

    The numbers are those of its window, or of its trials: `failures` and `slow` ones of so many `calls`.
    """

    service: str
    endpoint: str
    state: str
    reason: str
    calls: int = 0
    failures: int = 0
    slow: int = 0
    duration: float = 0.0
    observed: bool = False


@dataclass(frozen=True, slots=True)
class DiscoveryFailed(_Told):
    """The source can't be read for now; the last known good set stays in use.

    `kind` is a stable word: ``unreachable``, ``unauthorized``, ``forbidden``, ``throttled``, ``server-error``,
    ``malformed``, ``credentials``, ``missing-extra``, ``expired``, ``silent``, ``absent`` (DNS has the name no more,
    which is not believed at once), ``internal`` (a mistake of kubelb's own, or a limit of the process, survived).
    """

    _words: ClassVar[tuple[str, ...]] = ("reason", "cure")

    service: str
    kind: str
    reason: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class DiscoveryRecovered:
    """The source is read again after a failure that lasted `seconds`."""

    service: str
    seconds: float


@dataclass(frozen=True, slots=True)
class SourceChanged(_Told):
    """Endpoints come from another rung of the ladder: `source` now, `before` until now.

    `kind` says why: a word of `DiscoveryFailed`, ``late`` (no answer yet), ``empty`` (no endpoints there),
    ``missing-extra``, or ``recovered`` for the way up.
    """

    _words: ClassVar[tuple[str, ...]] = ("reason", "cure")

    service: str
    source: str
    before: str
    kind: str
    reason: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class SpilledOver(_Told):
    """Topology hints are not followed (`over`), because no endpoint that they name answers; or they are again."""

    _words: ClassVar[tuple[str, ...]] = ("reason",)

    service: str
    over: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Skipped(_Told):
    """Something in the source made no sense and was left out."""

    _words: ClassVar[tuple[str, ...]] = ("what", "reason")

    service: str
    what: str
    reason: str


@dataclass(frozen=True, slots=True)
class TlsFilesChanged(_Told):
    """A CA or certificate file is not what it was; new connections use it, unless `error` says why they cannot."""

    _words: ClassVar[tuple[str, ...]] = ("files", "error")

    service: str
    files: tuple[str, ...]
    error: str = ""


Event: TypeAlias = (
    BudgetExhausted
    | CircuitChanged
    | DiscoveryFailed
    | DiscoveryRecovered
    | Ejected
    | EjectionSpared
    | EndpointsChanged
    | LimitReached
    | LocalTrouble
    | Retried
    | Returned
    | ShareBounded
    | Skipped
    | SourceChanged
    | SpilledOver
    | TlsFilesChanged
)
Emit: TypeAlias = Callable[[Event], None]


def discard(event: Event) -> None:
    """Emit to nothing."""
