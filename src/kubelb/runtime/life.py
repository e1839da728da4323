"""Life: what a process tells a load balancer, which is none of its user's concern.

    a fork              its child starts anew
    a patch, in time    threads are greenlets: locks that these can wait for
    a patch, too late   nothing can work any more

A load balancer has no threads of its own; those of discovery are the worker's, which speaks for them.
"""

from collections.abc import Callable

from kubelb.runtime.fork import register
from kubelb.runtime.greenlets import concerns

__all__ = ["Life"]


class Life:
    """Of one load balancer, which keeps it: both `register` and `concerns` hold it weakly."""

    def __init__(
        self, start_anew: Callable[[], None], new_locks: Callable[[], None], too_late: Callable[[], None]
    ) -> None:
        self.after_fork_in_child = start_anew
        self.after_patch = new_locks
        self.patched_too_late = too_late
        register(self)
        concerns(self)

    def running(self) -> bool:
        """Whether it has threads."""
        return False
