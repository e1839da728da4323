"""Findings -> Snapshot. Pure: time comes with each finding.

What is known is a table for each family. A finding replaces the tables that it speaks of; a partial one only adds. One
family is used, as for slices, so that no pod of two addresses counts twice: the first of `families` that has any
address and that this host has a route to; where it has one to neither, the first that has any address.
Of several priorities the lowest is used; the others are known, and parked.

A name that is gone is believed slowly. CoreDNS answers NXDOMAIN for a headless Service that has no ready pod just now,
while it starts, and for a moment now and then; so the last set stays for `hold` seconds and until a second answer has
said the same. Then the service is empty, not unknown: DNS cannot tell the two apart.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from kubelb.discovery.dns.finding import FAMILIES, Finding
from kubelb.discovery.dns.wording import why_empty
from kubelb.model import Address, Endpoint, Snapshot
from kubelb.target import Target

__all__ = ["HOLD", "Reducer", "Routed"]

Routed: TypeAlias = Callable[[str], bool]
"""Whether this host has a route to an address."""

HOLD = 30.0
"""Seconds for which a name that is gone keeps its endpoints."""
ANSWERS = 2
"""Answers that have to say so, at least."""


class Reducer:
    """`synced` is whether anything was found out; `holding` whether a set is kept that DNS no longer has."""

    def __init__(
        self,
        target: Target,
        *,
        families: Sequence[str] = FAMILIES,
        routed: Routed = lambda _: True,
        hold: float = HOLD,
        version: int = 0,
    ) -> None:
        self.synced = False
        self.holding = False
        self._target = target
        self._hold = hold
        self._version = version
        self._families = tuple(families)
        self._routed = routed
        self._tables: dict[str, dict[Address, Endpoint]] = {family: {} for family in FAMILIES}
        self._absent_since: float | None = None
        self._absent_times = 0
        self._last: Finding | None = None
        self._published: tuple[object, ...] | None = None

    @property
    def known(self) -> bool:
        """Whether there is any endpoint."""
        return any(self._tables.values())

    def take(self, finding: Finding, now: float) -> None:
        """Take over what was found out."""
        self.synced = True
        if finding.absent and self._holds(now):
            return
        self.holding = False
        self._last = finding
        if finding.absent:
            for table in self._tables.values():
                table.clear()
            return
        self._absent_since, self._absent_times = None, 0
        for family, endpoints in finding.endpoints.items():
            fresh = {endpoint.address: endpoint for endpoint in endpoints}
            self._tables[family] = self._tables[family] | fresh if finding.partial else fresh

    def snapshot(self) -> Snapshot | None:
        """Return what changed since the last one; None where nothing did."""
        if self._last is None:
            return None
        known = self._known()
        best = min((endpoint.priority for endpoint in known.values()), default=0)
        used = _sorted(each for each in known.values() if each.priority == best)
        parked = _sorted(each for each in known.values() if each.priority != best)
        ports = tuple(f":{port}" for port in sorted({each.port for each in known.values()})) or self._last.ports
        problem = "" if used else why_empty(self._target, self._last)
        state = used, parked, ports, problem
        if state == self._published:
            return None
        self._published = state
        self._version += 1
        return Snapshot(self._version, used, parked, ports=ports, problem=problem)

    def _known(self) -> dict[Address, Endpoint]:
        """The table of the family that is used."""
        tables = [table for table in map(self._tables.__getitem__, self._families) if table]
        if len(tables) > 1:
            tables.sort(key=lambda table: not self._routed(next(iter(table))[0]))
        return tables[0] if tables else {}

    def _holds(self, now: float) -> bool:
        if self._absent_since is None:
            self._absent_since = now
        self._absent_times += 1
        self.holding = self.known and (self._absent_times < ANSWERS or now - self._absent_since < self._hold)
        return self.holding


def _sorted(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    return tuple(sorted(endpoints, key=lambda endpoint: endpoint.address))
