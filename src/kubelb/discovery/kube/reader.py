"""What the streams of a namespace are to those that share them out: something that reads for desks.

A channel decides which stream reads for which service (`channel.py`), and a stream asks its channel (`stream.py`). So
that neither has to know the other's file, what a channel needs of a stream stands here.
"""

from typing import Protocol

from kubelb.discovery.kube.dispatch import Desks

__all__ = ["Reader"]


class Reader(Protocol):
    """One list and watch, of some services of a namespace."""

    desks: "Desks[Reader]"
    """Those it reads for; their mapping is the registry's to change."""
    gathering: bool
    """Whether newcomers may join."""
    began: float
    last_arrival: float
    """When it was made, and when the last newcomer came."""

    @property
    def stage(self) -> str:
        """What it is waiting for, for messages."""
        ...

    @property
    def cursor(self) -> str:
        """The version from which nothing was missed by its desks."""
        ...

    @property
    def known(self) -> float:
        """When everything was known last."""
        ...

    @property
    def settled(self) -> bool:
        """Whether everything is known of its desks, and no failure was told that is not over."""
        ...

    def joined(self) -> None:
        """A newcomer came."""

    def resync(self) -> None:
        """Fetch everything again, now."""

    def stop(self, *, wait: bool = True) -> None:
        """End it, whatever it waits for; and `wait` for a moment until it has."""

    def abandon(self) -> None:
        """In a forked child: its thread is not here."""
