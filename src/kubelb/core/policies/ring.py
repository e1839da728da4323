"""Ring: names on a circle of 2^64 points, each with as many points as its share; a key belongs to the next point.

The points of a name are xxHash64 of ``NAME_0``, ``NAME_1``, ..., as on gRPC's own ring (gRFC A42), so where a key goes
depends on the names alone: every process finds the same, in whatever order it learnt of them. The points of a name stay
where they are while others come and go: one that leaves takes along what belonged to it, and no more moves.

Three things make it quick in Python. A point and its owner's slot are one integer, ``hash << 24 | slot``, so that one
list is sorted and searched. An index by the leading bits of a hash leaves a handful of points to search, whatever the
size. And a ring is made from the one before it: the points that stay are taken over, those that come are merged in.
"""

from collections.abc import Callable, Mapping
from itertools import accumulate

__all__ = ["BITS", "SLOTS", "Digest", "Ring"]

BITS = 24
"""Width of a slot in a point."""
SLOTS = (1 << BITS) - 1
"""Mask of it."""

Digest = Callable[[bytes], int]
"""xxHash64 with seed 0."""


class Ring:
    """A frozen ring. `shares` says how many points each name has, `slots` under which number its points go.

    To look a hash up: ``bisect_left(points, hash << 24, starts[hash >> shift], starts[(hash >> shift) + 1])``, where
    the position behind the last point is that of the first.
    """

    __slots__ = ("_digest", "points", "shares", "shift", "slots", "starts")

    def __init__(self, digest: Digest, shares: Mapping[str, int], before: "Ring | None" = None) -> None:
        self._digest = digest
        self.shares = dict(shares)
        self.slots: dict[str, int]
        self.points: list[int]
        if before is None or any(before.shares.get(name, points) != points for name, points in shares.items()):
            self.slots, self.points = {}, []
        else:
            self.slots = {name: slot for name, slot in before.slots.items() if name in shares}
            gone = {slot for name, slot in before.slots.items() if name not in shares}
            self.points = [point for point in before.points if point & SLOTS not in gone] if gone else before.points[:]
        free = sorted(set(range(len(shares))) - set(self.slots.values()), reverse=True)
        for name, points in shares.items():
            if name not in self.slots:
                slot = self.slots[name] = free.pop()
                self.points += [digest(f"{name}_{number}".encode()) << BITS | slot for number in range(points)]
        self.points.sort()
        leading = max(1, len(self.points).bit_length() - 1)
        self.shift = 64 - leading
        counts = [0] * ((1 << leading) + 1)
        for point in self.points:
            counts[(point >> self.shift + BITS) + 1] += 1
        self.starts = list(accumulate(counts))

    def changed(self, shares: Mapping[str, int]) -> "Ring":
        """Return the ring of these names; itself where they are its own."""
        return self if shares == self.shares else Ring(self._digest, shares, self)
