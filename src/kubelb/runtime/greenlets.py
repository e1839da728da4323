"""Greenlets in the place of threads: what gevent and eventlet make of a process when they patch it.

Patched before kubelb is used, even after it was imported, everything works: threads, locks, sleeps and sockets are
looked up in their modules when they are needed. What was made before the patch (a lock that blocks the whole process, a
connection that does) is made anew, by the first that notices; it looks where something begins that lasts, and where a
connection is taken:

    patched first         nothing to notice
    import, patch, use    `after_patch` of each member: its locks are made anew, its idle connections closed
    use, patch, use       threads run that know nothing of greenlets, and would wait for each other for ever:
                          PatchedTooLate, at once, and from every pick after it

A patch is noticed by `threading.Lock`, which is another object afterwards. One that leaves threads alone
(``patch_all(thread=False)``) is none.
"""

import threading
from typing import Any, Protocol
from weakref import WeakSet

from kubelb.itself import loaded
from kubelb.runtime.fork import settled

__all__ = ["TOO_LATE", "Patched", "PatchedTooLate", "concerns", "look", "patched"]

TOO_LATE = (
    "threads were patched (by gevent or eventlet) after kubelb had started its own: patch first, before a load "
    "balancer is used; `from gevent import monkey; monkey.patch_all()` belongs into the first lines of the program"
)


class PatchedTooLate(RuntimeError):
    """Threads of kubelb run that the patch has not reached."""


class Patched(Protocol):
    """What a patch concerns."""

    def running(self) -> bool:
        """Whether it has threads."""
        ...

    def after_patch(self) -> None:
        """Make locks anew; called while nothing of ours runs."""
        ...

    def patched_too_late(self) -> None:
        """Refuse whatever comes."""
        ...


_members: WeakSet[Patched] = WeakSet()
_known: Any = threading.Lock


def concerns(member: Patched) -> None:
    """Have `member` told of a patch; it is not kept alive."""
    _members.add(member)


def patched() -> bool:
    """Whether threads have become something else, and it was not noticed yet."""
    return threading.Lock is not _known


def look() -> None:
    """Notice a fork and a patch, before anything is begun that lasts. Raises PatchedTooLate."""
    settled()
    if threading.Lock is not _known:
        _notice()


def _notice() -> None:
    global _known  # noqa: PLW0603
    members = list(_members)
    if any(member.running() for member in members):
        for member in members:
            member.patched_too_late()
        raise PatchedTooLate(TOO_LATE)
    _known = threading.Lock
    stream = loaded("discovery.kube.sharing")
    if stream is not None:
        stream.after_fork_in_child()  # there is no stream, only locks
    for member in members:
        member.after_patch()
