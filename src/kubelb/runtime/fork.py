"""Fork: a child starts with nothing in flight, locks of its own and no threads.

`os.fork` copies memory and one thread. Whoever holds threads, locks or sockets registers here and is told in the child,
before any other code runs there. What it must not do is say goodbye on an inherited connection: a shutdown, or a TLS
close, ends the parent's stream. The parent notices nothing.
"""

import os
import sys
from typing import Protocol
from weakref import WeakSet

__all__ = ["Forkable", "register"]


class Forkable(Protocol):
    """Anything that must be made whole in a forked child."""

    def after_fork_in_child(self) -> None:
        """Forget threads, replace locks, abandon connections unclosed. Must not block or raise."""
        ...


_members: WeakSet[Forkable] = WeakSet()


def register(member: Forkable) -> None:
    """Have `member` told in every child forked from now on; it is not kept alive."""
    _members.add(member)


def _in_child() -> None:
    # Sources first: load balancers that restart must not find the parent's threads and sockets.
    for name in ("kubelb.discovery.kube.stream", "kubelb.discovery.dns.runner"):
        source = sys.modules.get(name)
        if source is not None:
            source.after_fork_in_child()
    for member in list(_members):
        member.after_fork_in_child()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_in_child)
