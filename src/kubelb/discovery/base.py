"""What a source of Snapshots promises: kubelb's own, and one of yours in the place of a target.

A source is pulled, not pushed: it says through `notify` that there may be news and is asked for them with `poll`. So a
slow reader delays no other, many changes between two polls are one Snapshot, and the pace of publishing is decided in
one place, the feed. A source keeps its last known good state through every failure and reports the failure in `health`.
"""

from collections.abc import Callable
from typing import Protocol

from kubelb.model import Health, Snapshot

__all__ = ["Discovery"]


class Discovery(Protocol):
    """One service's endpoints, from wherever: a registry of your own, a file, a control plane.

    ``LoadBalancer(MyDiscovery())`` takes one in the place of a target. It needs no base class. ``str(source)`` names it
    in errors, logs and metrics (its class's name, where that has no ``__str__``). One object is for one load
    balancer.

    All methods but `poll` may be called from any thread at any time, and none may block for long: they run on threads
    that others wait for, so let a thread of your own do what takes time. What `start` and `poll` raise is told (an
    event `DiscoveryFailed` of the kind ``internal``, `health()`, and the traceback to `threading.excepthook`), the last
    known set stays in use, and both are called again a second later.
    """

    def start(self, notify: Callable[[], None]) -> None:
        """Begin. Call `notify` from any thread whenever `poll` or `health` may have news; it returns at once.

        Called once before all else, again a second later where it raised, and once more in a forked child, where
        threads and locks of the parent's are of no use: make them here.
        """
        ...

    def poll(self, now: float) -> tuple[Snapshot | None, float | None]:
        """Return a Snapshot if anything changed since the last poll, and the time at which to poll again unasked.

        Called by one thread at a time, at most 20 times a second. A Snapshot is complete, never a delta, and has a
        higher `version` than the one before, the first 1 or more; its addresses are dialled as they are. One without
        endpoints says why in `problem`, and ``exists=False`` where the service is unknown. The time is in the seconds
        of `now`, ``now + 5`` and not ``5``; None where it need not be asked before it calls `notify`.
        """
        ...

    def health(self) -> Health:
        """Return the state of the source, at once: ``Health("my registry", synced=True, age=1.5)``.

        `error`, with `cure`, says that it cannot be read now; `kind` is one word for it. `counts` and `circuit` are
        filled by the load balancer.
        """
        ...

    def resync_now(self) -> None:
        """Fetch everything again, ending any wait between tries."""
        ...

    def stop(self) -> None:
        """End every thread and connection of this source, within 50 ms in any state; idempotent."""
        ...
