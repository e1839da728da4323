"""The desks of one stream: what it learns goes to the service that it is about, by the label of the slice.

A slice belongs to one service at a time. Where its label changes, and both services are watched, the server says that
it was modified, and nothing of the service that it has left: that one is told here. A slice without a label is told to
all, for each to say so once; one of a service that is not here concerns only the desk that knew it until now.
"""

from collections import defaultdict
from typing import Generic

from kubelb.discovery.kube.desk import Desk, Owner
from kubelb.discovery.kube.diagnose import Code, Trouble
from kubelb.discovery.kube.wire import Slice

__all__ = ["Desks"]


class Desks(Generic[Owner]):
    """A Sink. The mapping is replaced, never changed, under the registry's lock."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self.of: dict[str, Desk[Owner]] = {}
        self.listing: tuple[str, ...] = ()
        """The services that the list is of which is being fetched."""
        self.trouble: Trouble | None = None
        """What was told last, unless it is over."""

    def replace(self, slices: list[Slice], unread: frozenset[str] = frozenset(), version: str = "") -> None:
        parts: dict[str, list[Slice]] = defaultdict(list)
        for piece in slices:
            parts[piece.service].append(piece)
        desks = self.of
        if self.trouble is not None and self.trouble.code is Code.INTERNAL:
            self.trouble = None  # a fresh start has mended it, and nothing tells of it
        for service in self.listing:
            desk = desks.get(service)
            if desk is not None:
                desk.replace(self._owner, parts[service] + parts[""], unread, version)

    def unlisted(self) -> tuple[str, ...]:
        """The services of which no list was complete."""
        return tuple(service for service, desk in self.of.items() if not desk.synced)

    def upsert(self, piece: Slice) -> None:
        desks, name = self.of, piece.metadata.name
        mine = desks.get(piece.service)
        # Also where its new service knows it already: a watch may replay what came before that one's list, and the
        # service that the slice has left was listed earlier.
        for desk in desks.values():
            if desk is not mine and (desk.knows(name) or not piece.service):
                desk.upsert(self._owner, piece)
        if mine is not None:
            mine.upsert(self._owner, piece)

    def delete(self, piece: Slice) -> None:
        for service, desk in self.of.items():
            if service == piece.service or desk.knows(piece.metadata.name):
                desk.delete(self._owner, piece)

    def heard(self) -> None:
        for desk in self.of.values():
            desk.heard(self._owner)

    def failed(self, trouble: Trouble) -> None:
        self.trouble = trouble
        for desk in self.of.values():
            desk.failed(self._owner, trouble)

    def recovered(self) -> None:
        self.trouble = None
        for desk in self.of.values():
            desk.recovered(self._owner)

    def skipped(self, what: str, reason: str) -> None:
        for desk in self.of.values():
            desk.skipped(self._owner, what, reason)
