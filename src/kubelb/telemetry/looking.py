"""What is looked at when metrics are collected: how each counter and gauge of `names.py` reads a load balancer."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple, Protocol, TypeAlias

from kubelb.core.balancer import Balancer
from kubelb.core.events import Attributes, Event
from kubelb.core.view import EndpointView
from kubelb.model import Health
from kubelb.telemetry import names
from kubelb.telemetry.tally import Tally

__all__ = ["ROWS", "Balanced", "Row"]

Readings: TypeAlias = Iterable[tuple[Attributes, float]]


class Balanced(Protocol):
    """A load balancer, as far as metrics look at it."""

    balancer: Balancer

    def endpoints(self) -> tuple[EndpointView, ...]:
        """What is known of each endpoint."""
        ...

    def health(self) -> Health:
        """How well the service is known."""
        ...


Read: TypeAlias = Callable[[Balanced, Tally], Readings]


class Row(NamedTuple):
    """One instrument, and what its numbers come from."""

    name: str
    kind: str
    unit: str
    description: str
    read: Read


def _requests(lb: Balanced, tally: Tally) -> Readings:
    yield (), tally.totals(lb.balancer).requests


def _picks(lb: Balanced, tally: Tally) -> Readings:
    totals = tally.totals(lb.balancer)
    yield (), totals.successes + totals.failures + totals.others + totals.active


def _attempts(lb: Balanced, tally: Tally) -> Readings:
    totals = tally.totals(lb.balancer)
    yield ((names.OUTCOME, "success"),), totals.successes
    yield ((names.OUTCOME, "failure"),), totals.failures
    yield ((names.OUTCOME, "other"),), totals.others


def _active(lb: Balanced, tally: Tally) -> Readings:
    yield (), tally.totals(lb.balancer).active


def _endpoints(lb: Balanced, tally: Tally) -> Readings:
    counts = dict.fromkeys(tally.states, 0)
    for view in lb.endpoints():
        counts[view.state] = counts.get(view.state, 0) + 1
    tally.states = tuple(counts)  # one that was there once goes on as 0: a series that ends keeps its last value
    for state, count in counts.items():
        yield ((names.STATE, state),), count


def _budget(lb: Balanced, tally: Tally) -> Readings:
    if tally.budget is not None:
        yield (), tally.budget.available(lb.balancer.requests, lb.balancer.clock())


def _health(of: Callable[[Health], float | None], lb: Balanced, tally: Tally) -> Readings:  # noqa: ARG001 - as the other rows
    health = lb.health()
    value = of(health)
    if value is not None:
        yield ((names.SOURCE, health.source),), value


def _events(kind: type[Event], lb: Balanced, tally: Tally) -> Readings:
    return tally.events(kind, observing=lb.balancer.observing).items()


READERS: dict[str, Read] = {
    names.REQUESTS: _requests,
    names.PICKS: _picks,
    names.ENDED: _attempts,
    names.ACTIVE: _active,
    names.ENDPOINTS: _endpoints,
    names.BUDGET: _budget,
    names.AGE: partial(_health, lambda health: health.age),
    names.SYNCED: partial(_health, lambda health: float(health.synced)),
    names.STALE: partial(_health, lambda health: float(health.stale)),
    **{kind.counter.name: partial(_events, kind) for kind in Event.kinds() if kind.counter},
}

ROWS = tuple(Row(*each[:4], READERS[each.name]) for each in names.INSTRUMENTS if each.name in READERS)
