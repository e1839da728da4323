"""Local trouble: failures that are this process's own, or its host's, whatever endpoint they were met on.

No descriptor, no port, no memory, no thread: none of these says anything about an endpoint. An endpoint that needed a
new connection at that moment would look dead, and one that had a connection would look well. They are known by the
number of the socket's error, at the bottom of what a client wraps around it: by causes and arguments, and not by
contexts, since that of an error may be whatever its caller was handling before the call.

A network that cannot be reached may be ours or an endpoint's. It is taken for ours where all endpoints are met alike
(`kubelb.core.tracking`).
"""

import errno
from typing import NamedTuple

__all__ = ["NO_ROUTE", "Trouble", "local", "unreachable"]

DEEP = 20
"""Errors in a chain that are looked at; a longer one may be a circle."""


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


def local(error: BaseException | None) -> Trouble | None:
    """Return what this process lacks, where that is at the bottom of an error; else None.

    >>> local(OSError(errno.EMFILE, "Too many open files")).kind, local(ConnectionResetError())
    ('descriptors', None)
    """
    for each in _chain(error):
        if isinstance(each, OSError):
            if (trouble := _TROUBLES.get(each.errno or 0)) is not None:
                return trouble
        elif isinstance(each, MemoryError):
            return _MEMORY
        elif isinstance(each, RuntimeError) and "can't start new thread" in str(each):
            return _THREADS
    return None


def unreachable(error: BaseException | None) -> bool:
    """Whether a network without a route is at the bottom of it."""
    return any(isinstance(each, OSError) and each.errno in _UNREACHABLE for each in _chain(error))


def _chain(error: BaseException | None) -> list[BaseException]:
    found = [error] if error is not None else []
    for each in found:
        if len(found) >= DEEP:
            break
        parts = (each.__cause__, *each.args, *getattr(each, "exceptions", ()))
        found += [part for part in parts if isinstance(part, BaseException) and not any(part is one for one in found)]
    return found
