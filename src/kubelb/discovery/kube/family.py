"""All slices of one address family, merged: one table a slice, one seat an address, one count a kind of endpoint.

    slice event -> rows that changed -> their seats -> the tally -> the choice -> the sections of that slice -> tuples

States of an address: *seated* (in one slice or more; a winner among them sits), *held* (in no slice for less than
`hold` seconds: it stays as it was), *gone*. An endpoint that moves between slices may be in neither for a moment, when
the removal arrives before the addition; kube-proxy hides that with its pending map and sync period, we with the hold.

Invariants: every address in any table has a seat, and a seat's endpoint is the winner's row of it; `tally[m]` is the
number of seats with marks m; `touched` holds, for every address that may differ from the last snapshot, what it was
there. Work per event is proportional to the slice, not to the service; only a change of the choice itself, or of where
the caller is, walks all seats. It knows nothing of ports, versions or other families.
"""

from bisect import insort
from collections import Counter
from itertools import chain

from kubelb.discovery.kube.choose import NOBODY, Choice, View, decide, mark
from kubelb.discovery.kube.dedupe import Rank, winner
from kubelb.model import Address, Changes, Endpoint

__all__ = ["Family", "Table"]

Rows = dict[Address, Endpoint]
_NOTHING: tuple[Endpoint, ...] = ()


class Table:
    """What one slice contributes, and its two sections of the snapshot."""

    __slots__ = ("name", "parked", "rank", "rows", "used")

    def __init__(self, name: str) -> None:
        self.name = name
        self.rank: Rank = ("", 0)
        self.rows: Rows = {}
        self.used = _NOTHING
        self.parked = _NOTHING


class Seat:
    """What sits at an address: the winning row, the table it is from, and every other table that has one too."""

    __slots__ = ("endpoint", "marks", "rivals", "table")

    def __init__(self, endpoint: Endpoint, marks: int, table: Table) -> None:
        self.endpoint = endpoint
        self.marks = marks
        self.table = table
        self.rivals: list[Table] | tuple[()] = ()


class Family:
    """One address family of one service."""

    def __init__(self, view: View, hold: float) -> None:
        self.view = view
        self.hold = hold
        self.tables: dict[str, Table] = {}
        self.tally: Counter[int] = Counter()
        self.choice = NOBODY
        self._order: list[Table] = []
        self._seats: dict[Address, Seat] = {}
        self._held = Table("")
        self._until: dict[Address, float] = {}
        self._touched: dict[Address, tuple[Endpoint | None, bool]] = {}
        self._stale: set[Table] = set()
        self.used = _NOTHING
        self.parked = _NOTHING

    def __len__(self) -> int:
        return len(self._seats)

    # -- events

    def put(self, name: str, rows: Rows, rank: Rank, now: float) -> None:
        """A slice is this now."""
        table = self.tables.get(name)
        if table is None:
            table = self.tables[name] = Table(name)
            insort(self._order, table, key=_name)
        before, reranked = table.rows, table.rank != rank
        table.rows, table.rank = rows, rank
        for address, endpoint in rows.items():
            old = before.get(address)
            if old is None:
                self._join(address, endpoint, table)
            elif old is not endpoint or (reranked and self._seats[address].rivals):
                self._settle(address, self._seats[address])
        if list(before) != list(rows):
            self._stale.add(table)
            for address in before:
                if address not in rows:
                    self._leave(address, table, now)

    def drop(self, name: str, now: float) -> None:
        """A slice is gone."""
        table = self.tables.pop(name)
        self._order.remove(table)
        rows, table.rows = table.rows, {}
        for address in rows:
            self._leave(address, table, now)
        self._stale.discard(table)

    def look(self, view: View) -> None:
        """The caller is somewhere else, or has learnt where it is."""
        self.view = view
        self.tally.clear()
        self._stale.update(self._order, (self._held,))
        for address, seat in self._seats.items():
            self._note(address, seat)
            seat.marks = mark(seat.endpoint, view)
            self.tally[seat.marks] += 1

    # -- seats

    def _join(self, address: Address, endpoint: Endpoint, table: Table) -> None:
        seat = self._seats.get(address)
        if seat is None:
            self._touched.setdefault(address, (None, False))
            marks = mark(endpoint, self.view)
            self._seats[address] = Seat(endpoint, marks, table)
            self.tally[marks] += 1
            self._stale.add(table)
        elif seat.table is self._held:
            del self._held.rows[address], self._until[address]
            self._stale.add(self._held)
            self._sit(address, seat, table)
        else:
            seat.rivals = [*(seat.rivals or [seat.table]), table]
            self._stale.add(table)
            self._settle(address, seat)

    def _settle(self, address: Address, seat: Seat) -> None:
        self._sit(address, seat, winner(address, seat.rivals) if seat.rivals else seat.table)

    def _sit(self, address: Address, seat: Seat, table: Table) -> None:
        """Give the seat to this table's row."""
        endpoint = table.rows[address]
        if seat.table is not table:
            self._stale.add(seat.table)
            self._stale.add(table)
            seat.table = table
        if seat.endpoint is endpoint:
            return
        if seat.endpoint == endpoint:
            table.rows[address] = seat.endpoint
            return
        self._note(address, seat)
        self._stale.add(table)
        self.tally[seat.marks] -= 1
        seat.endpoint, seat.marks = endpoint, mark(endpoint, self.view)
        self.tally[seat.marks] += 1

    def _leave(self, address: Address, table: Table, now: float) -> None:
        seat = self._seats[address]
        if seat.rivals:
            rest = [each for each in seat.rivals if each is not table]
            seat.rivals = rest if len(rest) > 1 else ()
            self._sit(address, seat, winner(address, rest))
        elif self.hold > 0:
            self._held.rows[address] = seat.endpoint
            self._until[address] = now + self.hold
            self._sit(address, seat, self._held)
        else:
            self._stale.add(table)
            self._remove(address, seat)

    def _remove(self, address: Address, seat: Seat) -> None:
        self._note(address, seat)
        self.tally[seat.marks] -= 1
        del self._seats[address]

    def _note(self, address: Address, seat: Seat) -> None:
        if address not in self._touched:
            self._touched[address] = seat.endpoint, self._picked(seat.marks)

    def _picked(self, marks: int) -> bool:
        return marks & self.choice.need == self.choice.need

    # -- the snapshot

    def expire(self, now: float) -> float | None:
        """End what has been held long enough; returns when the next is due."""
        while self._until:
            address, until = next(iter(self._until.items()))
            if until > now:
                return until
            del self._until[address], self._held.rows[address]
            self._stale.add(self._held)
            self._remove(address, self._seats[address])
        return None

    def build(self, base: int) -> Changes | None:
        """Bring `used` and `parked` up to date; returns what changed since the last build, None if nothing did."""
        choice = decide(self.tally, self.view)
        if choice.need != self.choice.need:
            self._note_all(choice)
            self._stale.update(self._order, (self._held,))
        self.choice = choice
        self._cut_sections()
        changes = self._changes(base)
        self._touched.clear()
        if changes:
            tables = (*self._order, self._held)  # in one go: among 10 000 each touch of a reference count tells
            self.used = tuple(chain.from_iterable([table.used for table in tables]))
            self.parked = tuple(chain.from_iterable([table.parked for table in tables]))
        return changes

    def _cut_sections(self) -> None:
        """Divide the winners of every table that something happened to."""
        need, seats = self.choice.need, self._seats
        for table in self._stale:
            used: list[Endpoint] = []
            parked: list[Endpoint] = []
            for address, endpoint in table.rows.items():
                seat = seats[address]
                if seat.table is table:
                    (used if seat.marks & need == need else parked).append(endpoint)
            table.used, table.parked = tuple(used), tuple(parked)
        self._stale.clear()

    def _note_all(self, choice: Choice) -> None:
        """The choice itself changes: everything that goes from one side to the other is touched."""
        for address, seat in self._seats.items():
            if self._picked(seat.marks) != (seat.marks & choice.need == choice.need):
                self._note(address, seat)

    def _changes(self, base: int) -> Changes | None:
        used: list[Endpoint] = []
        parked: list[Endpoint] = []
        removed: list[Endpoint] = []
        need, seats = self.choice.need, self._seats
        for address, (before, was_used) in self._touched.items():
            seat = seats.get(address)
            if seat is None:
                if before is not None:
                    removed.append(before)
                continue
            is_used = seat.marks & need == need
            if was_used is not is_used or before != seat.endpoint:
                (used if is_used else parked).append(seat.endpoint)
        if used or parked or removed:
            return Changes(base, tuple(used), tuple(parked), tuple(removed))
        return None


def _name(table: Table) -> str:
    return table.name
