"""EndpointSlices of one service -> Snapshot. Pure: no socket, no thread, no clock but the `now` it is given.

    replace(all slices)   a list: the truth, whatever was known before
    upsert(slice)         ADDED, MODIFIED
    delete(slice)         DELETED
    snapshot(now)         what to publish, None while nothing differs from the last one

States: *unsynced* until the first list, then *synced* for ever: no later failure empties it. An event older than what
is known of its slice changes nothing, so replayed and reordered events leave the newest of each slice, and any order of
arrival gives the same set.

One address family is shown: the first configured one with a ready endpoint, because a dual-stack pod appears once in
each; where both have endpoints, one that this host has a route to. With `join` all families are, and a pod (uid) counts
once. Hints are weighed within each family, as they are set.

The work for one event is that of one slice; see `family.py`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kubelb.discovery.kube.choose import READY, ZONE_HINTED, Mode, View
from kubelb.discovery.kube.dedupe import rank
from kubelb.discovery.kube.family import Family
from kubelb.discovery.kube.pages import UNKNOWN
from kubelb.discovery.kube.ports import Ports, PortTable, pick_port, tcp_ports
from kubelb.discovery.kube.problem import Facts, explain
from kubelb.discovery.kube.rows import FAMILIES, read_rows
from kubelb.discovery.kube.versions import Seen
from kubelb.discovery.kube.wire import Slice
from kubelb.discovery.special import CURE, special
from kubelb.model import Address, Changes, Endpoint, Snapshot
from kubelb.records import record, replace

__all__ = ["HOLD", "Reducer"]

HOLD = 0.1
"""Seconds an endpoint may be absent from all slices before it is believed to be gone."""

_POOL = 10_000
"""Names of nodes and zones kept for sharing; in a cluster whose nodes come and go it begins anew now and then."""

_WARNINGS = 1000
"""Oddities remembered, so that each is told once."""


Endpoints = tuple[Endpoint, ...]


@record(frozen=True, slots=True)
class Known:
    """What is kept of a slice beside its rows."""

    family: str
    ports: Ports
    zones: frozenset[str]
    """Zones its endpoints on the caller's node are in."""
    empty: bool
    refused: frozenset[str] = frozenset()
    """Addresses that are not dialled."""


_ABSENT = Known("", (), frozenset(), empty=True)


class Reducer:
    """The slices of one service, seen from one place, for one port."""

    def __init__(
        self,
        service: str,
        namespace: str,
        port: str | int = "",
        *,
        view: View = View(),  # noqa: B008
        learn_zone: bool = True,
        families: Sequence[str] = ("IPv4", "IPv6"),
        join: bool = False,
        hold: float = HOLD,
        version: int = 0,
        allow_special_addresses: bool = False,
        routed: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """`allow_special_addresses` lets in what is no pod's address (see `kubelb.discovery.special`)."""
        unknown = [name for name in families if name not in FAMILIES]
        if unknown or not families:
            raise ValueError(f"families: {list(families)!r}; give 'IPv4', 'IPv6' or both, the preferred one first")
        self.service = service
        self.namespace = namespace
        self.port = port
        self.view = view
        self.synced = False
        self.due: float | None = None
        """When `snapshot` should be asked again although nothing happened."""
        self.skipped: list[tuple[str, str]] = []
        """What made no sense, as (what, reason), for the owner to take and report."""
        self._learn = learn_zone and bool(view.node) and not view.zone
        self._join = join
        self._allow_special_addresses = allow_special_addresses
        self.refused: tuple[str, ...] = ()
        """Addresses that are not dialled, and so left out."""
        self._routed = routed
        self._families = {name: Family(view, hold) for name in families}
        self._known: dict[str, Known] = {}
        self._ports = PortTable()
        self._zones: Counter[str] = Counter()
        self._seen = Seen()
        self._warned: set[tuple[str, str]] = set()
        self._pool: dict[Any, Any] = {}
        self._last = Snapshot(version, exists=False)
        self._rest: tuple[bool, tuple[str, ...], str] = (False, (), "")
        self._shown: str | None = None  # the family in the last Snapshot, "" for none; None before the first

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(family)} {name}" for name, family in self._families.items())
        return f"<Reducer {self.service}.{self.namespace} {len(self._known)} slices, {sizes}>"

    # -- events

    def replace(self, slices: Iterable[Slice], now: float, unread: frozenset[str] = frozenset()) -> None:
        """Take a complete list, in one step. What is not in it is gone.

        What is known of slices that are `unread` stays; where one has no name that can be read, any may be that one.
        """
        mine = {piece.metadata.name: piece for piece in slices if self._accepts(piece)}
        versions = {name: piece.metadata.resource_version for name, piece in mine.items()}
        for name in self._known.keys() & unread if UNKNOWN not in unread else self._known:
            versions.setdefault(name, self._seen.version(name))
        gone = self._seen.replace(versions)
        for piece in mine.values():
            self._put(piece, now)
        for name in gone:
            self._drop(name, now)
        self._look()
        self.synced = True

    def upsert(self, piece: Slice, now: float) -> None:
        """A slice was added or modified; one that has come to belong to another service is as good as deleted."""
        meta = piece.metadata
        if not self._accepts(piece):
            self.delete(piece, now)
        elif self._seen.upsert(meta.name, meta.resource_version):
            self._put(piece, now)
            self._look()

    def delete(self, piece: Slice, now: float) -> None:
        """A slice was deleted, or no longer carries the label. The object is its last state."""
        meta = piece.metadata
        if meta.namespace != self.namespace or not self._seen.delete(meta.name, meta.resource_version):
            return
        if meta.name in self._known:
            self._drop(meta.name, now)
            self._look()

    def release(self) -> None:
        """Believe every absence now: what is held would come back into use where something else was used meanwhile."""
        for family in self._families.values():
            family.expire(float("inf"))

    def _accepts(self, piece: Slice) -> bool:
        meta = piece.metadata
        missing = [
            what
            for what, value in (("name", meta.name), ("namespace", meta.namespace), ("service label", piece.service))
            if not value
        ]
        if missing:
            self._skip(f"EndpointSlice {meta.namespace}/{meta.name}", f"it has no {' and no '.join(missing)}")
        return not missing and piece.service == self.service and meta.namespace == self.namespace

    def _put(self, piece: Slice, now: float) -> None:
        name, kind = piece.metadata.name, piece.address_type
        was = self._known.get(name, _ABSENT)
        if was.family != kind and was.family in self._families:
            self._families[was.family].drop(name, now)
        if kind not in FAMILIES:
            self._skip(f"EndpointSlice {name}", f"addresses of type {kind!r} are not supported")
            self._note(name, Known(kind, (), frozenset(), not piece.endpoints))
            return
        ports = tcp_ports(piece.ports)
        known = Known(kind, ports, self._zones_of(piece), not piece.endpoints)
        self._note(name, known)
        family = self._families.get(kind)
        if family is None:
            return
        if len(self._pool) > _POOL:
            self._pool.clear()
        port = pick_port(ports, self.port)
        table = family.tables.get(name)
        before = table.rows if table else {}
        share = self._pool.setdefault
        refused: set[str] | None = None if self._allow_special_addresses else set()
        rows = read_rows(piece, port, before=before, share=share, skipped=self._skip, refused=refused) if port else {}
        if refused:
            self._note(name, replace(known, refused=frozenset(refused)))
            for ip in refused:
                self._skip(ip, f"it is {special(ip)} and no pod's address; {CURE}")
        family.put(name, rows, rank(piece.changed, piece.metadata.resource_version), now)

    def _drop(self, name: str, now: float) -> None:
        family = self._families.get(self._known.get(name, _ABSENT).family)
        if family is not None and name in family.tables:
            family.drop(name, now)
        self._note(name, _ABSENT)
        del self._known[name]

    def _note(self, name: str, known: Known) -> None:
        was = self._known.get(name, _ABSENT)
        self._known[name] = known
        self._ports.change(was.ports, known.ports)
        if was.refused != known.refused:
            self.refused = tuple(sorted(set().union(*(each.refused for each in self._known.values()))))
        if was.zones != known.zones:
            self._zones.update(known.zones)
            self._zones.subtract(was.zones)

    def _skip(self, what: str, reason: str) -> None:
        if (what, reason) not in self._warned and len(self._warned) < _WARNINGS:
            self._warned.add((what, reason))
            self.skipped.append((what, reason))

    # -- where the caller is

    def _zones_of(self, piece: Slice) -> frozenset[str]:
        if not self._learn:
            return _ABSENT.zones
        node = self.view.node
        return frozenset([row.zone for row in piece.endpoints or () if row.node_name == node and row.zone])

    def _look(self) -> None:
        """Learn the own zone from any endpoint on the own node, which needs no permission to read Nodes.

        A node does not move: when the last endpoint on it goes, its zone is still known.
        """
        present = [zone for zone, count in self._zones.items() if count > 0]
        if not self._learn or not present or self.view.zone in present:
            return
        self.view = replace(self.view, zone=min(present, key=lambda zone: (-self._zones[zone], zone)))
        for family in self._families.values():
            family.look(self.view)

    @property
    def seen_zone(self) -> str:
        """The zone that this service's own slices give the own node, "" where none is on it."""
        return self.view.zone if self._zones.get(self.view.zone, 0) > 0 else ""

    def learn(self, zone: str) -> bool:
        """Take the own node's zone from another service's slices, where this one's do not tell; whether it is news."""
        if not self._learn or not zone or zone == self.view.zone or self.seen_zone:
            return False
        self.view = replace(self.view, zone=zone)
        for family in self._families.values():
            family.look(self.view)
        return True

    def unplaced(self) -> bool:
        """Whether there are hints that would be followed, if the own zone were known."""
        family = self._families.get(self._shown or "")
        if family is None or self.view.zone or self.view.local or family.choice.mode is not Mode.READY:
            return False
        ready = [marks for marks, count in family.tally.items() if count and marks & READY]
        return all(marks & ZONE_HINTED for marks in ready)

    def hinted(self) -> tuple[Address, ...]:
        """The addresses in use where topology hints chose them; none where they did not."""
        family = self._families.get(self._shown or "")
        if family is None or family.choice.mode not in {Mode.NODE, Mode.ZONE}:
            return ()
        return tuple(endpoint.address for endpoint in family.used)

    def spread(self, spread: bool) -> None:
        """Leave topology hints, or follow them again."""
        self.view = replace(self.view, spread=spread)
        for family in self._families.values():
            family.look(self.view)

    # -- what to publish

    def snapshot(self, now: float) -> Snapshot | None:
        """Return what is known, if it differs from what was returned last."""
        dues = [due for family in self._families.values() if (due := family.expire(now)) is not None]
        self.due = min(dues, default=None)
        if not self.synced:
            return None
        last = self._last
        built = {name: family.build(last.version) for name, family in self._families.items()}
        shown = "" if self._ambiguous() else self._best()
        used, parked = self._merged(shown) if self._join else self._single(shown)
        exists = bool(self._known) or any(self._families.values())
        problem = "" if used else explain(self._facts(shown))
        changes = self._changes(built, shown, used, parked)
        if changes == Changes(last.version) and (exists, self._ports.texts, problem) == self._rest:
            return None
        self._rest = exists, self._ports.texts, problem
        self._shown = shown
        self._last = Snapshot(last.version + 1, used, parked, exists, self._ports.texts, problem, changes)
        return self._last

    def _changes(
        self, built: dict[str, Changes | None], shown: str, used: Endpoints, parked: Endpoints
    ) -> Changes | None:
        """What differs from the last Snapshot, None where that is not known in detail."""
        nothing = Changes(self._last.version)
        if self._shown is None:
            return None
        if self._join:
            return nothing if (used, parked) == (self._last.endpoints, self._last.parked) else None
        if shown != self._shown:
            return None
        return built.get(shown) or nothing

    def _ambiguous(self) -> bool:
        return self.port == "" and self._ports.names > 1

    def _best(self) -> str:
        """The family to show."""
        worth = {name: (False, _worth(family)) for name, family in self._families.items()}
        candidates = [name for name, family in self._families.items() if family.used]
        if len(candidates) > 1:
            for name in candidates:
                worth[name] = self._routed(self._families[name].used[0].ip), worth[name][1]
        return max(worth, key=worth.__getitem__)

    def _single(self, shown: str) -> tuple[Endpoints, Endpoints]:
        return (self._families[shown].used, self._families[shown].parked) if shown else ((), ())

    def _merged(self, shown: str) -> tuple[Endpoints, Endpoints]:
        """All families, a pod once: used before parked, the preferred family first."""
        families = self._families.values() if shown else ()
        uids: set[str] = set()
        used = [e for family in families for e in family.used if _fresh(e, uids)]
        parked = [e for family in families for e in family.parked if _fresh(e, uids)]
        return tuple(used), tuple(parked)

    def _facts(self, shown: str) -> Facts:
        family = self._families[shown or next(iter(self._families))]
        return Facts(
            service=self.service,
            namespace=self.namespace,
            port=self.port,
            ports=self._ports.texts,
            ambiguous=self._ambiguous(),
            slices=len(self._known),
            rows=sum(not known.empty for known in self._known.values()),
            kinds=frozenset(known.family for known in self._known.values() if not known.empty),
            families=tuple(self._families),
            has_port=self._ports.has(self.port),
            view=self.view,
            tally=dict(family.tally),
            total=sum(len(each) for each in self._families.values()),
            refused=self.refused,
        )


_READY = frozenset({Mode.READY, Mode.NODE, Mode.ZONE, Mode.LOCAL})


def _worth(family: Family) -> int:
    """More is better; `max` keeps the first of equals, which is the configured order."""
    if family.choice.mode in _READY:
        return 3
    return 2 if family.used else 1 if len(family) else 0


def _fresh(endpoint: Endpoint, uids: set[str]) -> bool:
    if not endpoint.uid:
        return True
    if endpoint.uid in uids:
        return False
    uids.add(endpoint.uid)
    return True
