"""Listening: what is kept for each endpoint follows each change of the set."""

import threading
from collections.abc import Callable
from typing import TypeAlias
from weakref import WeakMethod

from kubelb.core.events import EndpointsChanged
from kubelb.core.table import Difference
from kubelb.model import Snapshot

__all__ = ["Changed", "Listeners", "changed"]

Changed: TypeAlias = Callable[[Difference], None]


def changed(service: str, snapshot: Snapshot, difference: Difference) -> EndpointsChanged:
    """Return the event that tells of a snapshot."""
    added, removed = ([state.endpoint for state in each] for each in (difference.added, difference.removed))
    return EndpointsChanged(
        service,
        snapshot.version,
        len(snapshot.endpoints),
        len(snapshot.parked),
        tuple(endpoint.authority for endpoint in added),
        tuple(endpoint.authority for endpoint in removed),
        snapshot.problem,
        tuple(endpoint.pod for endpoint in added),
        tuple(endpoint.pod for endpoint in removed),
    )


class Listeners:
    """Bound methods, held weakly: a client that is dropped is told no more."""

    def __init__(self) -> None:
        self._all: list[WeakMethod[Changed]] = []
        self.new_lock()

    def new_lock(self) -> None:
        """In a forked child, and once threads are greenlets."""
        self._lock = threading.Lock()

    def add(self, listener: Changed) -> None:
        """Call it with what each new snapshot changed; it must return soon."""
        with self._lock:
            self._all.append(WeakMethod(listener))

    def tell(self, difference: Difference) -> None:
        """Call all; raises the first error that one of them did, when all have been called."""
        if not self._all:
            return
        with self._lock:
            self._all = [listener for listener in self._all if listener() is not None]
            listeners = tuple(self._all)
        broken: Exception | None = None
        for listener in listeners:
            if (call := listener()) is not None:
                try:
                    call(difference)
                except Exception as error:  # noqa: BLE001 - the others still have pools to close
                    broken = broken or error
        if broken is not None:
            raise broken

    def __len__(self) -> int:
        return len(self._all)
