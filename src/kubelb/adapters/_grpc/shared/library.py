"""gRPC's own threads and poller, which are a process's: what is left of them after a fork.

grpcio prepares for the forks of Python, by hooks that run before them. A fork in C (uWSGI's prefork) runs none: the
child of a process that had used gRPC would wait for threads that do not exist, for ever. So it is refused at once.
"""

from kubelb.process import forked_in_c, here, settle
from kubelb.runtime.fork import register

__all__ = ["library"]


class _Library:
    """The one of this process."""

    def __init__(self) -> None:
        self._used = False
        self.lost = False
        """Whether it is of no use in this process."""
        register(self)

    def use(self) -> None:
        """A channel is made, or a call begins. Raises RuntimeError in a process in which neither would ever end."""
        if not here[0]:
            settle()
        if self.lost:
            raise RuntimeError(
                "gRPC cannot be used here: this process was forked in C, behind Python's back, from one that had used "
                "gRPC, which grpcio does not survive; have each worker load the application itself (uWSGI: "
                "lazy-apps = true), or make no call before the fork"
            )
        self._used = True

    def after_fork_in_child(self) -> None:
        """Whether there is anything left of it."""
        self.lost = self._used and forked_in_c()


library = _Library()
