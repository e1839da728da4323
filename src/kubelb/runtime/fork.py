"""Fork: a child starts with nothing in flight, locks of its own and no threads.

A fork copies memory and one thread. Whatever holds threads, locks or sockets registers here and is told in the child,
before any other code of kubelb runs there: by Python's own hook, or, where the fork was none of Python's, by the first
that notices (see `kubelb.process`). What it must not do is say goodbye on an inherited connection: a shutdown, or a TLS
close, ends the parent's stream. The parent notices nothing.

Under gevent and eventlet threads are greenlets, and those survive a fork: the parent's threads go on in the child. So
what is told of a fork also tells its threads to end.
"""

from typing import Protocol
from weakref import WeakSet

from kubelb.itself import loaded
from kubelb.process import here, on_settle, settle

__all__ = ["Forkable", "register", "settled"]


class Forkable(Protocol):
    """Anything that must be made whole in a forked child."""

    def after_fork_in_child(self) -> None:
        """Forget threads, replace locks, abandon connections unclosed. Must not block or raise."""
        ...


_members: WeakSet[Forkable] = WeakSet()


def register(member: Forkable) -> None:
    """Have `member` told in every child forked from now on; it is not kept alive."""
    _members.add(member)


def settled() -> None:
    """Make sure that what follows runs in a process that knows itself: for entries that pick nothing."""
    if not here[0]:
        settle()


def _in_child() -> None:
    # Sources first: load balancers that restart must not find the parent's threads and sockets.
    for name in ("discovery.kube.sharing", "discovery.dns.channel"):
        source = loaded(name)
        if source is not None:
            source.after_fork_in_child()
    for member in list(_members):
        member.after_fork_in_child()


on_settle(_in_child)
