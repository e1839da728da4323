"""Which services a stream lists and watches, as its reflector asks for it.

    gathering      newcomers join; each list is of those that have not been listed, so that none waits for the others
    widening       a watch is opened that takes in the services of the neighbours, the other streams of the namespace
    adopted        it was accepted: from then on this stream reads them all, and the neighbours end

A watch of many services costs what one of a single service does, so a process needs one for each namespace. What makes
the change safe is that a neighbour goes on until the wider watch is accepted, and that this one begins at a version
that all of them have applied. So it can only say something twice, which a desk leaves out. And it may fail: then the
stream watches its own services, the neighbours know nothing of it, and a later watch tries again.
"""

from typing import Protocol

from kubelb.discovery.kube.diagnose import Trouble
from kubelb.records import record

__all__ = ["Fixed", "Scope", "Wide"]


@record(frozen=True, slots=True)
class Wide:
    """What a watch is to be of."""

    services: tuple[str, ...]
    version: str
    """A watch from it misses nothing of any of them."""
    known: float
    """When everything was known, of all of them."""
    foreign: frozenset[str] = frozenset()
    """Those that neighbours read, until it is accepted."""


class Scope(Protocol):
    """What a reflector asks. All of it is quick."""

    def all(self) -> tuple[str, ...]:
        """Every service of this stream; they are listed next."""
        ...

    def count(self) -> int:
        """How many services it has."""
        ...

    def unlisted(self) -> tuple[str, ...]:
        """Those that were not listed yet; they are listed next."""
        ...

    def newest(self) -> str:
        """The newest version that these services and their neighbours have come to; a list must not be older."""
        ...

    def settle(self) -> float:
        """Seconds to wait for more newcomers; 0 ends the gathering."""
        ...

    def arrived(self) -> bool:
        """Whether newcomers are there."""
        ...

    def widen(self, version: str, known: float) -> Wide:
        """What to watch, where its own services are to be watched from this version."""
        ...

    def adopt(self, wide: Wide) -> Trouble | None:
        """The watch was accepted; returns what one of those that it has taken in had been told meanwhile."""
        ...

    def aside(self) -> None:
        """It was not: leave the neighbours alone for a while."""


class Fixed:
    """The scope of a stream without neighbours."""

    def __init__(self, *services: str) -> None:
        self._services = services

    def all(self) -> tuple[str, ...]:
        """All there are."""
        return self._services

    def count(self) -> int:
        """They stay as many."""
        return len(self._services)

    def unlisted(self) -> tuple[str, ...]:
        """No service joins."""
        return ()

    def newest(self) -> str:
        """The reflector knows itself what it has read."""
        return ""

    def settle(self) -> float:
        """There is nothing to wait for."""
        return 0.0

    def arrived(self) -> bool:
        """Nothing arrives."""
        return False

    def widen(self, version: str, known: float) -> Wide:
        """Itself."""
        return Wide(self._services, version, known)

    def adopt(self, wide: Wide) -> Trouble | None:
        """Never."""
        raise AssertionError(wide)

    def aside(self) -> None:
        """Never."""
