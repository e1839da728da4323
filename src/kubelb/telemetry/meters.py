"""Meters: one set of instruments for each meter provider, shared by every load balancer of the process.

OpenTelemetry collects by calling back; each callback adds up what the load balancers of one name say. They are held
weakly. One that was closed reports nothing more; where another of its name goes on, what it had counted stays in the
sum, or that counter would fall. A counter never goes back either way, whatever threads made of a plain integer.
"""

import threading
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ReferenceType, WeakKeyDictionary, ref

from kubelb.core.events import Attributes
from kubelb.telemetry.conventions import scope
from kubelb.telemetry.looking import ROWS, Balanced, Row
from kubelb.telemetry.names import SERVICE
from kubelb.telemetry.tally import Tally

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

__all__ = ["Meters", "after_fork_in_child", "meters_for"]

COUNTERS = tuple(row for row in ROWS if row.kind == "counter")


class _Member:
    """One load balancer."""

    def __init__(self, lb: Balanced, tally: Tally, service: str) -> None:
        self.lb: ReferenceType[Balanced] = ref(lb)
        self.tally = tally
        self.service = service
        self.counted: dict[tuple[str, Attributes], float] = {}
        """The counters as they were last read."""

    def read(self, row: Row, lb: Balanced) -> Iterable[tuple[Attributes, float]]:
        for attributes, value in row.read(lb, self.tally):
            if row.kind == "counter":
                key = row.name, attributes
                self.counted[key] = highest = max(value, self.counted.get(key, 0))
                yield attributes, highest
            else:
                yield attributes, value


class Meters:
    """The instruments of one provider and what feeds them."""

    def __init__(self, meter: "Meter") -> None:
        self._lock = threading.Lock()
        self._members: list[_Member] = []
        self._closed: dict[str, dict[tuple[str, Attributes], float]] = {}
        """By service, what those counted that are closed."""
        for row in ROWS:
            make = getattr(meter, f"create_observable_{row.kind}")
            make(row.name, callbacks=[partial(self._observe, row)], unit=row.unit, description=row.description)

    def add(self, lb: Balanced, tally: Tally, service: str) -> None:
        """Report a load balancer, until it is closed or gone; once, however often it is said."""
        with self._lock:
            if any(member.tally is tally for member in self._members):
                return
            self._members.append(_Member(lb, tally, service))

    def rename(self, tally: Tally, service: str) -> None:
        """Report a load balancer under another name; what it has counted goes with it."""
        with self._lock:
            for member in self._members:
                if member.tally is tally:
                    member.service = service

    def after_fork_in_child(self, tally: Tally) -> None:
        """A lock of our own; what was counted was the parent's."""
        self._lock = threading.Lock()
        self._closed = {}
        for member in self._members:
            if member.tally is tally:
                member.counted = {}

    def _observe(self, row: Row, _: "CallbackOptions") -> "list[Observation]":
        from opentelemetry.metrics import Observation

        sums: dict[Attributes, float] = defaultdict(int)
        with self._lock:
            live = self._live()
            for service, counted in self._closed.items():
                for (name, attributes), value in counted.items():
                    if name == row.name:
                        sums[(SERVICE, service), *attributes] += value
        for member, lb in live:  # outside the lock: they have locks of their own
            for attributes, value in member.read(row, lb):
                sums[(SERVICE, member.service), *attributes] += value
        return [Observation(value, dict(attributes)) for attributes, value in sums.items()]

    def _live(self) -> list[tuple[_Member, Balanced]]:
        """Return those that are open, having taken leave of the others."""
        live: list[tuple[_Member, Balanced]] = []
        ended: list[_Member] = []
        for member in self._members:
            lb = member.lb()
            if lb is not None and not lb.balancer.closed:
                live.append((member, lb))
                continue
            if lb is not None:
                for row in COUNTERS:
                    for _ in member.read(row, lb):
                        pass
            ended.append(member)
        if ended:
            self._members = [member for member, _ in live]
            for member in ended:
                kept = self._closed.setdefault(member.service, defaultdict(int))
                for key, value in tuple(member.counted.items()):  # another thread may still be reading it
                    kept[key] += value
        going_on = {member.service for member, _ in live}
        self._closed = {service: kept for service, kept in self._closed.items() if service in going_on}
        return live


_made: WeakKeyDictionary[Any, Meters] = WeakKeyDictionary()
_lock = threading.Lock()


def meters_for(provider: "MeterProvider | None") -> Meters:
    """Return the set of a provider, of the process's own for None: one that is set later serves it from then on."""
    from opentelemetry import metrics

    key = metrics if provider is None else provider
    with _lock:
        if key not in _made:
            _made[key] = Meters(metrics.get_meter(*scope(), provider))
        return _made[key]


def after_fork_in_child() -> None:
    """Replace what a thread of the parent may have held."""
    global _lock  # noqa: PLW0603 - a lock that another thread held is of no use
    _lock = threading.Lock()
