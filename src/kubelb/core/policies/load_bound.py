"""Bounded load: an endpoint that has more in flight than its part, and some, is passed over (Mirrokni et al. 2018).

Its bound is ``ceil(factor * (in flight on all, with this request) * (its share of the weights))``. There is always one
below its bound, and with a factor of 1.25 few keys ever leave their own endpoint.

What is in flight on all is not known anywhere, and counting it for each request would be linear. So it is counted block
by block, one block whenever `credit` is used up, which is two endpoints a request: no count is older than half as many
requests as there are endpoints. Under threads it may be off by what happens meanwhile, as all statistics here.
"""

from collections.abc import Sequence
from math import ceil
from typing import Any

__all__ = ["LoadBound"]

BLOCK = 64


class LoadBound:
    """The bound on each of some endpoints, whose `leases` are sets of what is in flight there.

    A request whose endpoint has fewer than `sure` in flight need not ask further while there is `credit`, of which it
    takes one; any other calls `look` first and then asks for the bound `of` each endpoint that it looks at.
    """

    __slots__ = ("_blocks", "_every", "_factor", "_least", "_sums", "_turn", "credit", "sure", "total")

    def __init__(self, factor: float, leases: Sequence[set[Any]], least: float) -> None:
        """`least` is the smallest share of all weights that one of them has."""
        self._factor = factor
        self._least = least
        self._blocks = [leases[start : start + BLOCK] for start in range(0, len(leases), BLOCK)]
        self._sums = [sum(map(len, block)) for block in self._blocks]
        self._turn = 0
        self._every = max(1, len(self._blocks[0]) // 2)
        self.credit = self._every
        self.total = sum(self._sums)
        """In flight on all, as last counted."""
        self.sure = self.of(least)
        """What even the lightest may have in flight, this request included."""

    def look(self) -> None:
        """Take one from the credit, and count a block where there is none."""
        self.credit -= 1
        if self.credit > 0:
            return
        self.credit = self._every
        self._turn = turn = (self._turn + 1) % len(self._blocks)
        self._sums[turn] = sum(map(len, self._blocks[turn]))
        self.total = sum(self._sums)
        self.sure = self.of(self._least)

    def of(self, share: float) -> int:
        """Return how many an endpoint with this share of all weights may have in flight, this request included."""
        return ceil(self._factor * (self.total + 1) * share)
