"""Two slices name the same ip:port: whose word counts.

    same uid    the pod is the same and one slice is behind: the later trigger-time annotation, then the larger
                resourceVersion (an endpoint that moves between slices is in both for a moment)
    other uids  the address was given to another pod: the one that is not terminating, then the one that is ready, then
                the smaller uid, so that the answer does not depend on the order of arrival (kubernetes issue 135266:
                time alone is wrong here, as the annotation moves on every condition change)

The rows of one uid are settled first, then the uids among each other; so the answer is the same for any number of
slices in any order. Where no uid is known, every row stands for itself.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from kubelb.discovery.kube.versions import number
from kubelb.model import Address, Endpoint

__all__ = ["Rank", "rank", "winner"]

Rank = tuple[str, int]
"""How fresh a slice is; larger is fresher."""


class Holder(Protocol):
    """A slice's table, as far as this file knows it."""

    name: str
    rank: Rank

    @property
    def rows(self) -> Mapping[Address, Endpoint]: ...


T = TypeVar("T", bound=Holder)


def rank(changed: str, version: str) -> Rank:
    """Order by trigger time, then by resourceVersion.

    Go drops trailing zeros of the fraction, so the text is padded before it can be compared.

    >>> rank("2026-01-01T00:00:00.5Z", "7") > rank("2026-01-01T00:00:00Z", "8")
    True
    """
    if not changed.endswith("Z") or len(changed) < 20:
        return "", number(version) or 0
    return changed[:19] + changed[20:-1].ljust(9, "0"), number(version) or 0


def winner(address: Address, rivals: Sequence[T]) -> T:
    """The table whose row of `address` counts."""
    freshest: dict[str, T] = {}
    for table in sorted(rivals, key=lambda table: table.name):
        row = table.rows[address]
        key = row.uid or f"/{table.name}"
        best = freshest.get(key)
        if best is None or _fresher(table, best, address):
            freshest[key] = table
    return min(freshest.values(), key=lambda table: _order(table.rows[address], table.name))


def _fresher(table: Holder, best: Holder, address: Address) -> bool:
    if table.rank != best.rank:
        return table.rank > best.rank
    return _state(table.rows[address]) < _state(best.rows[address])


def _state(row: Endpoint) -> tuple[bool, bool]:
    return row.terminating, not row.ready


def _order(row: Endpoint, name: str) -> tuple[bool, bool, str, str]:
    return row.terminating, not row.ready, row.uid, name
