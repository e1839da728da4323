"""What is looked at when metrics are collected: the second table, and how each of its rows reads a load balancer."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, Protocol

from kubelb.core.balancer import Balancer
from kubelb.core.events import Event
from kubelb.core.view import EndpointView
from kubelb.model import Health
from kubelb.telemetry.instruments import EVENTS, Attributes
from kubelb.telemetry.tally import Tally

__all__ = ["ROWS", "Balanced", "Row"]

Readings = Iterable[tuple[Attributes, float]]


class Balanced(Protocol):
    """A load balancer, as far as metrics look at it."""

    balancer: Balancer

    def endpoints(self) -> tuple[EndpointView, ...]:
        """What is known of each endpoint."""
        ...

    def health(self) -> Health:
        """How well the service is known."""
        ...


class Row(NamedTuple):
    """One instrument. `kind` is ``counter``, ``up_down_counter`` or ``gauge``; its numbers come from `read`."""

    name: str
    kind: str
    unit: str
    description: str
    read: Callable[[Balanced, Tally], Readings]


def _requests(lb: Balanced, tally: Tally) -> Readings:
    yield (), tally.totals(lb.balancer).requests


def _picks(lb: Balanced, tally: Tally) -> Readings:
    totals = tally.totals(lb.balancer)
    yield (), totals.successes + totals.failures + totals.others + totals.active


def _attempts(lb: Balanced, tally: Tally) -> Readings:
    totals = tally.totals(lb.balancer)
    yield (("kubelb.outcome", "success"),), totals.successes
    yield (("kubelb.outcome", "failure"),), totals.failures
    yield (("kubelb.outcome", "other"),), totals.others


def _active(lb: Balanced, tally: Tally) -> Readings:
    yield (), tally.totals(lb.balancer).active


def _endpoints(lb: Balanced, tally: Tally) -> Readings:
    counts = dict.fromkeys(tally.states, 0)
    for view in lb.endpoints():
        counts[view.state] = counts.get(view.state, 0) + 1
    tally.states = tuple(counts)  # one that was there once goes on as 0: a series that ends keeps its last value
    for state, count in counts.items():
        yield (("kubelb.endpoint.state", state),), count


def _budget(lb: Balanced, tally: Tally) -> Readings:
    if tally.budget is not None:
        yield (), tally.budget.available(lb.balancer.requests, lb.balancer.clock())


def _health(of: Callable[[Health], float | None], lb: Balanced, tally: Tally) -> Readings:  # noqa: ARG001 - as the other rows
    health = lb.health()
    value = of(health)
    if value is not None:
        yield (("kubelb.discovery.source", health.source),), value


def _events(kind: type[Event], lb: Balanced, tally: Tally) -> Readings:  # noqa: ARG001 - as above
    return tally.events(kind).items()


def _row(kind: type[Any]) -> Row:
    counted = EVENTS[kind]
    return Row(counted.name, "counter", counted.unit, counted.description, partial(_events, kind))


ROWS: tuple[Row, ...] = (
    Row("kubelb.requests", "counter", "{request}", "Calls that picked an endpoint: first attempts.", _requests),
    Row("kubelb.picks", "counter", "{pick}", "Times that an endpoint was picked, for retries too.", _picks),
    Row(
        "kubelb.attempts", "counter", "{attempt}", "Attempts that ended, by what that says of the endpoint.", _attempts
    ),
    Row("kubelb.attempts.active", "up_down_counter", "{attempt}", "Attempts in flight, bodies included.", _active),
    Row("kubelb.endpoints", "up_down_counter", "{endpoint}", "Known endpoints, by state.", _endpoints),
    Row(
        "kubelb.retry.budget.available",
        "gauge",
        "{retry}",
        "Retries that the retry budget would allow at this moment.",
        _budget,
    ),
    Row(
        "kubelb.discovery.age",
        "gauge",
        "s",
        "Time since the source of endpoints was last heard of.",
        partial(_health, lambda health: health.age),
    ),
    Row(
        "kubelb.discovery.synced",
        "gauge",
        "1",
        "1 once endpoints are known, 0 before.",
        partial(_health, lambda health: float(health.synced)),
    ),
    Row(
        "kubelb.discovery.stale",
        "gauge",
        "1",
        "1 while the age is beyond max_stale, else 0.",
        partial(_health, lambda health: float(health.stale)),
    ),
    *map(_row, EVENTS),
)
