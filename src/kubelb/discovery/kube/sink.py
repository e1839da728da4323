"""What receives the news of a stream."""

from typing import Protocol

from kubelb.discovery.kube.diagnose import Trouble
from kubelb.discovery.kube.wire import Slice

__all__ = ["Listener", "Sink"]


class Listener(Protocol):
    """Is told what happens while a list is fetched. Nothing here may block or raise."""

    def heard(self) -> None:
        """Any sign of life."""

    def skipped(self, what: str, reason: str) -> None: ...


class Sink(Listener, Protocol):
    """Is told everything."""

    def replace(self, slices: list[Slice], unread: frozenset[str] = frozenset(), version: str = "") -> None:
        """A complete list, as of `version`.

        `unread` names slices that are there and make no sense ("": one without a name).
        """

    def upsert(self, piece: Slice) -> None: ...
    def delete(self, piece: Slice) -> None: ...
    def failed(self, trouble: Trouble) -> None: ...
    def recovered(self) -> None: ...
