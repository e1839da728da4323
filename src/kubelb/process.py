"""Which process this is: `here[0]` is true in it, and false in a child that nothing of ours has been told of yet.

Python tells of its own forks (`os.fork`, multiprocessing), by hooks. A fork in C (uWSGI's prefork, an embedding server)
runs none of them: the child then believes to be its parent, answers come back crossed on connections that both use, and
threads that it counts on do not exist. So whatever picks an endpoint, or looks at what is known, asks first, and calls
`settle` where the answer is no.

    parent   here[0] == 1
    child    here[0] == 0  --settle()-->  every job of `on_settle` is done, once  -->  here[0] == 1

A fork copies the locks of modules that other threads are loading at that moment, and not those threads: the child would
wait for such a module for ever. kubelb loads parts of itself with the first request and in threads of its own. So a
fork that Python knows of waits until none of them does (see `_before`).

To ask costs 20 ns: the byte lies in a page that the kernel wipes in a child (MADV_WIPEONFORK, Linux 4.14). Where there
is no such page, the process id is compared, for 0.2 us.
"""

import logging  # noqa: F401  # its hook takes its lock before a fork, which has to come after our wait: what is loaded may log
import mmap
import os
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Protocol

from kubelb.clock import monotonic, sleep
from kubelb.itself import NAME

__all__ = ["Mark", "forked_in_c", "here", "mark", "on_settle", "settle", "thread_ends"]

WIPE_ON_FORK = 18
"""MADV_WIPEONFORK of Linux; Python has no name for it."""


class Mark(Protocol):
    """One item that is true where it was set, and false in a forked child."""

    def __getitem__(self, index: int, /) -> int:
        """Whether it was set in this process."""
        ...

    def __setitem__(self, index: int, value: int, /) -> None:
        """Set it."""
        ...


class ProcessId:
    """The mark of a system that wipes no pages."""

    def __init__(self) -> None:
        self._of = -1

    def __getitem__(self, index: int, /) -> int:
        return self._of == os.getpid()

    def __setitem__(self, index: int, value: int, /) -> None:
        self._of = os.getpid() if value else -1


def mark() -> Mark:
    """Return a mark that is set in this process."""
    made: Mark
    if not hasattr(os, "fork"):
        made = bytearray(1)
    else:
        try:
            page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            page.madvise(WIPE_ON_FORK)
            made = page
        except (AttributeError, OSError):  # macOS, an older kernel
            made = ProcessId()
    made[0] = 1
    return made


here: Mark = mark()
"""See the module."""
PATIENCE = 2.0
"""Seconds for which a fork waits for imports. They end within a fraction of that, unless they wait for the one that
forks, which is loading a module itself."""
PAUSE = 0.001
IMPORT = "<frozen importlib._bootstrap>"
GIL = bool(getattr(sys, "_is_gil_enabled", lambda: True)())
"""Without it the frames of other threads cannot be looked at while these run (CPython's guide to free threading)."""

_jobs: list[Callable[[], None]] = []
_locks: dict[int, threading.RLock] = {}
_forking = 0
"""The thread that is inside `os.fork`; its child finds it here."""
_in_c = False


def on_settle(job: Callable[[], None]) -> None:
    """Have `job` done in every child, before anything else of ours; it must neither block nor raise."""
    _jobs.append(job)


def forked_in_c() -> bool:
    """Whether this process, or one that it descends from, came from a fork of which Python was not told beforehand.

    What needs to prepare for a fork, as gRPC does, is of no use in it.
    """
    return _in_c


def settle() -> None:
    """Make this process whole, if it is not; of several threads that find so at once, the first does it."""
    global _in_c  # noqa: PLW0603
    # A lock for each process: that of the parent may have been held when it forked.
    with _locks.setdefault(os.getpid(), threading.RLock()):
        if here[0]:
            return
        _in_c = _in_c or _forking != threading.get_ident()
        for job in _jobs:
            job()
        here[0] = 1


def thread_ends() -> None:
    """Called by a thread of ours as its last act.

    A greenlet that survived a fork is none of the threads that Python knows in the child, and its end would be reported
    as an error; asking for it makes it known.
    """
    threading.current_thread()


def _before() -> None:
    global _forking  # noqa: PLW0603
    if GIL:
        until = monotonic() + PATIENCE
        while _importing() and monotonic() < until:
            sleep(PAUSE)
    _forking = threading.get_ident()


def _importing() -> bool:
    """Whether another thread is loading a module of kubelb, or one that kubelb has asked for."""
    own = sys._getframe()  # noqa: SLF001  # by its frame: where threads are patched, identifiers are those of greenlets
    return any(frame is not own and _loads(frame) for frame in sys._current_frames().values())  # noqa: SLF001


def _loads(frame: FrameType | None) -> bool:
    loading = module = False
    while frame is not None:  # from the inside out
        if frame.f_code.co_filename == IMPORT:
            if module:
                return True
            loading = True
        elif _of_kubelb(frame):
            if loading:
                return True
            module = frame.f_code.co_name == "<module>"
        else:
            module = False
        frame = frame.f_back
    return False


def _of_kubelb(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__")
    return isinstance(name, str) and (name == NAME or name.startswith(f"{NAME}."))


def _after() -> None:
    global _forking  # noqa: PLW0603
    _forking = 0


def _in_child() -> None:
    settle()
    _after()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_in_child)
