"""What a source of Snapshots promises.

A source is pulled, not pushed: it says through `notify` that there may be news and is asked for them with `poll`. So a
slow reader delays no other, many changes between two polls are one Snapshot, and the pace of publishing is decided in
one place, the feed. A source keeps its last known good state through every failure and reports the failure in `health`.
"""

from collections.abc import Callable
from typing import Protocol

from kubelb.model import Health, Snapshot

__all__ = ["Discovery"]


class Discovery(Protocol):
    """One service's endpoints, from wherever. All methods but `poll` may be called from any thread at any time."""

    def start(self, notify: Callable[[], None]) -> None:
        """Begin. `notify` is called from any thread whenever `poll` may have news; it returns at once, never raises."""
        ...

    def poll(self, now: float) -> tuple[Snapshot | None, float | None]:
        """Return a Snapshot if anything changed since the last poll, and the time at which to poll again unasked.

        Called by one thread at a time. The time is for what is held back now (an endpoint absent for less than 100 ms);
        None where nothing is.
        """
        ...

    def health(self) -> Health:
        """Return the state of the source; `counts` is filled by the load balancer."""
        ...

    def resync_now(self) -> None:
        """Fetch everything again, ending any wait between tries."""
        ...

    def stop(self) -> None:
        """End every thread and connection of this source, within 50 ms in any state; idempotent."""
        ...
