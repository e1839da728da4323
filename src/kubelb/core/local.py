"""Local trouble: failures that are this process's own, or its host's, whatever endpoint they were met on.

No descriptor, no port, no memory, no thread: none of these says anything about an endpoint. An endpoint that needed a
new connection at that moment would look dead, and one that had a connection would look well. They are known by the
number of the socket's error, at the bottom of what a client wraps around it: by causes and arguments, and not by
contexts, since that of an error may be whatever its caller was handling before the call.

An error may be of any class, the user's own too, and what looks at it must not fail in place of it. So nothing that a
class can define anew is asked: not its `exceptions`, its `args` or its `__str__`, but what Python itself keeps
(`causes.py`).

A network that cannot be reached may be ours or an endpoint's. It is taken for ours where all endpoints are met alike
(`kubelb.core.tracking`).
"""

import errno
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from kubelb.core.causes import arguments, cause, chain, members

__all__ = ["NO_ROUTE", "Trouble", "local", "note", "unreachable"]


class Trouble(NamedTuple):
    """What is wrong here, and what helps."""

    kind: str
    """A stable word."""
    reason: str
    cure: str


_FILES = "raise its limit of open files (`ulimit -n`, LimitNOFILE=), or keep fewer open: limits=, pool_maxsize="
_BY_NUMBER = {
    "EMFILE": Trouble("descriptors", "this process has no file descriptor left", _FILES),
    "ENFILE": Trouble("descriptors", "this host has no file descriptor left", "raise the host's fs.file-max"),
    "ENOMEM": Trouble("memory", "the kernel has no memory for a socket", "raise the memory limit of this pod or host"),
    "ENOBUFS": Trouble("memory", "the kernel has no buffer for a socket", "raise the memory limit of this pod or host"),
    "EADDRNOTAVAIL": Trouble(
        "ports",
        "this host has no local port, or no address of that family, for a connection",
        "keep connections open for longer (keep-alive), or widen net.ipv4.ip_local_port_range",
    ),
}
_TROUBLES = {
    number: trouble
    for name, trouble in _BY_NUMBER.items()
    for each in (name, f"WSA{name}")
    if (number := getattr(errno, each, None)) is not None
}
_THREADS = Trouble("threads", "this process can start no thread", "raise its limit of threads (`ulimit -u`, pids.max)")
_MEMORY = Trouble("memory", "this process has no memory left", "raise the memory limit of this pod or host")
NO_ROUTE = Trouble(
    "network",
    "no endpoint can be reached from here: all fail alike, without a route",
    "check this host's own network, its routes, and whether it speaks the address family of the endpoints",
)
_UNREACHABLE = {
    getattr(errno, each)
    for name in ("ENETUNREACH", "EHOSTUNREACH", "ENETDOWN")
    for each in (name, f"WSA{name}")
    if hasattr(errno, each)
}


_NO_THREAD = "can't start new thread"

_errno: Callable[[BaseException], Any] = vars(OSError)["errno"].__get__


def local(error: BaseException | None) -> Trouble | None:
    """Return what this process lacks, where that is at the bottom of an error; else None.

    >>> local(OSError(errno.EMFILE, "Too many open files")).kind, local(ConnectionResetError())
    ('descriptors', None)
    """
    for each in _chain(error):
        if (trouble := _TROUBLES.get(_number(each))) is not None:
            return trouble
        if issubclass(type(each), MemoryError):
            return _MEMORY
        if issubclass(type(each), RuntimeError) and any(map(_no_thread, arguments(each))):
            return _THREADS
    return None


def unreachable(error: BaseException | None) -> bool:
    """Whether a network without a route is at the bottom of it."""
    return any(_number(each) in _UNREACHABLE for each in _chain(error))


def note(error: BaseException, words: str) -> None:
    """Add a note to an error, once: the same object may be raised again and again."""
    with suppress(Exception):  # its class may define these anew
        if words not in getattr(error, "__notes__", ()):
            error.add_note(words)


def _chain(error: BaseException | None) -> list[BaseException]:
    return chain(error, cause, arguments, members)


def _no_thread(argument: object) -> bool:
    return type(argument) is str and _NO_THREAD in argument


def _number(error: BaseException) -> int:
    number = _errno(error) if issubclass(type(error), OSError) else 0
    return number if type(number) is int else 0
