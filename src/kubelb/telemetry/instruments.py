"""The instruments, as two tables: one line adds an event's counter, one line adds something that is looked at.

Names begin with ``kubelb.``, attributes too where OpenTelemetry's semantic conventions have none of their own. No
attribute names an endpoint: pods come and go, and each would leave its series behind.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from kubelb.core.events import (
    BudgetExhausted,
    CircuitChanged,
    DiscoveryFailed,
    DiscoveryRecovered,
    Ejected,
    EjectionSpared,
    EndpointsChanged,
    Event,
    LimitReached,
    LocalTrouble,
    Retried,
    Returned,
    ShareBounded,
    Skipped,
    SourceChanged,
    SpilledOver,
    TlsFilesChanged,
)

__all__ = ["EVENTS", "OTHER", "Attributes", "Counted"]

Attributes: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values, in a form that can be a key."""

OTHER = "_OTHER"
"""The semantic conventions' word for a value beyond those that are told apart."""


def _none(_: Any) -> Attributes:
    return ()


def _flag(name: str, value: bool) -> tuple[str, str]:
    return name, "true" if value else "false"


class Counted(NamedTuple):
    """The counter of one kind of event."""

    name: str
    unit: str
    description: str
    attributes: Callable[[Any], Attributes] = _none


EVENTS: dict[type[Event], Counted] = {
    Retried: Counted(
        "kubelb.retries",
        "{retry}",
        "Attempts that followed a failed one.",
        lambda event: (("error.type", event.reason or OTHER),),
    ),
    BudgetExhausted: Counted(
        "kubelb.retry.budget.exhausted", "{retry}", "Retries that were wanted and that the retry budget refused."
    ),
    Ejected: Counted(
        "kubelb.ejections",
        "{ejection}",
        "Endpoints that were ejected.",
        lambda event: (("kubelb.ejection.rule", event.rule), _flag("kubelb.observed", event.observed)),
    ),
    EjectionSpared: Counted(
        "kubelb.ejections.spared",
        "{ejection}",
        "Endpoints that breached a rule and were kept: cap, or correlation.",
        lambda event: (("kubelb.ejection.rule", event.rule), _flag("kubelb.observed", event.observed)),
    ),
    Returned: Counted(
        "kubelb.ejections.ended",
        "{ejection}",
        "Ejected endpoints that came back.",
        lambda event: (("kubelb.ejection.end", event.why), _flag("kubelb.observed", event.observed)),
    ),
    ShareBounded: Counted(
        "kubelb.share.bounds",
        "{change}",
        "Times that an endpoint was bounded to its fair share, as it refused what others answered, and no longer.",
        lambda event: (("kubelb.share.bound", "begun" if event.over else "ended"),),
    ),
    LimitReached: Counted(
        "kubelb.limits.reached",
        "{refusal}",
        "Requests, retries and waits beyond a concurrency limit.",
        lambda event: (("kubelb.limit", event.limit), _flag("kubelb.observed", event.observed)),
    ),
    LocalTrouble: Counted(
        "kubelb.local.failures",
        "{failure}",
        "Attempts that failed by what this process or its host lacks.",
        lambda event: (("error.type", event.kind),),
    ),
    CircuitChanged: Counted(
        "kubelb.circuit.changes",
        "{change}",
        "Circuits that opened, half-opened or closed.",
        lambda event: (
            ("kubelb.circuit.scope", "endpoint" if event.endpoint else "service"),
            ("kubelb.circuit.state", event.state),
            _flag("kubelb.observed", event.observed),
        ),
    ),
    EndpointsChanged: Counted("kubelb.discovery.updates", "{update}", "Sets of endpoints that were taken into use."),
    DiscoveryFailed: Counted(
        "kubelb.discovery.failures",
        "{failure}",
        "Failures to read the source of endpoints.",
        lambda event: (("error.type", event.kind),),
    ),
    DiscoveryRecovered: Counted(
        "kubelb.discovery.recoveries", "{recovery}", "Times the source of endpoints could be read again."
    ),
    SourceChanged: Counted(
        "kubelb.discovery.source.changes",
        "{change}",
        "Steps from one source of endpoints to another.",
        lambda event: (("kubelb.discovery.reason", event.kind), ("kubelb.discovery.source", event.source)),
    ),
    SpilledOver: Counted(
        "kubelb.discovery.spills",
        "{change}",
        "Times that topology hints were left, as no endpoint they name answered, and followed again.",
        lambda event: (("kubelb.discovery.spill", "over" if event.over else "back"),),
    ),
    Skipped: Counted(
        "kubelb.discovery.skipped", "{item}", "Things in the source that made no sense and were left out."
    ),
    TlsFilesChanged: Counted(
        "kubelb.tls.changes",
        "{change}",
        "TLS files that were not what they had been.",
        lambda event: (_flag("kubelb.tls.usable", not event.error),),
    ),
}
