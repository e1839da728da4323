"""Who is told what a stream learns."""

from typing import Protocol

from kubelb.discovery.kube.diagnose import Trouble
from kubelb.discovery.kube.wire import Slice

__all__ = ["Sink"]


class Sink(Protocol):
    """Who is told. Nothing here may block or raise."""

    def replace(self, slices: list[Slice]) -> None: ...
    def upsert(self, piece: Slice) -> None: ...
    def delete(self, piece: Slice) -> None: ...
    def heard(self) -> None:
        """Any sign of life."""

    def failed(self, trouble: Trouble) -> None: ...
    def recovered(self) -> None: ...
    def skipped(self, what: str, reason: str) -> None: ...
