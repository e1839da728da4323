"""Keeps every socket of the tests on loopback: a dial to anywhere else is refused before a packet leaves, and noted.

    127.0.0.0/8, ::1, unix sockets     pass
    anything else                      OSError (EACCES) for the code that dials, and a failure of the test

A fake cluster once gave its Services addresses of a private network, and a test of the last fallback dialled them. So
this is an audit hook of the interpreter (PEP 578), which sees `connect`, `sendto` and `sendmsg` of every Python socket,
and name look-ups, which would ask the machine's nameserver: a name that no nameserver can have (RFC 6761), or that only
a cluster's has, is answered "unknown", any other fails the test. gRPC's core has sockets of its own, which no hook
sees: there the targets of channels are looked at (`watch_grpc`).

Child processes: `sitecustomize.py` beside this file, found by PYTHONPATH, installs the same; what they dial is noted in
the file that `NOTES` names. A hook cannot be taken out again, so it is installed once a process.
"""

import errno
import ipaddress
import os
import re
import socket
import sys
from pathlib import Path

NOTES = "KUBELB_TESTS_OFF_LOOPBACK"
"""Environment variable: the file in which processes note what they dialled."""

FAMILIES = {socket.AF_INET, socket.AF_INET6}
DIALS = {"socket.connect", "socket.sendto", "socket.sendmsg"}
LOOKUPS = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}
UNKNOWN = re.compile(r"(^|\.)(invalid|test|example|cluster\.local|localhost)\.?$", re.IGNORECASE)
"""Names that are answered "unknown" without asking anybody; `localhost` alone is resolved."""


NAMESERVER = 53
"""In a child process the machine's nameserver is one that is down, which no test is blamed for: a ladder asks it when
an API server is late. In the process of the tests `/etc/resolv.conf` is another one (see tests/conftest.py)."""


def on_loopback(host: object) -> bool:
    """Whether it is an address of this machine's loopback, or its name."""
    text = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    if text.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def note(what: str) -> None:
    """Write down what was dialled, for the test that is running."""
    if name := os.environ.get(NOTES):
        with Path(name).open("a", encoding="utf-8") as file:
            file.write(f"{what}\n")


def look(event: str, args: tuple[object, ...]) -> None:
    """The hook. Most events of the interpreter are others, so those are let go at once."""
    if event in DIALS:
        sock, address = args[0], args[1]
        if isinstance(address, tuple) and sock.family in FAMILIES and not on_loopback(address[0]):
            if not (sys._kubelb_guard == "child" and address[1] == NAMESERVER):
                note(f"{event} {address}")
            raise OSError(errno.EACCES, f"{address} is not on loopback: no test may dial it")
    elif event in LOOKUPS:
        name = args[0]
        if not name or on_loopback(name) or _is_address(name):
            return
        text = name.decode("ascii", "replace") if isinstance(name, bytes) else str(name)
        if not UNKNOWN.search(text):
            note(f"{event} {text}")
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def _is_address(name: object) -> bool:
    try:
        ipaddress.ip_address((name.decode("ascii", "replace") if isinstance(name, bytes) else str(name)).split("%")[0])
    except ValueError:
        return False
    return True


def install(whose: str) -> None:
    """Begin to look, for the life of this process: of "tests", or of a "child" that they started."""
    before = getattr(sys, "_kubelb_guard", None)
    sys._kubelb_guard = whose  # on `sys`: a worker of pytest's is a child at first, by another copy of this module
    if before is None:
        sys.addaudithook(look)


def watch_grpc() -> None:
    """Look at the target of every channel that is made from now on, where grpc is loaded."""
    cygrpc = sys.modules.get("grpc._cython.cygrpc")
    if cygrpc is None or getattr(cygrpc, "_kubelb_guarded", False):
        return
    cygrpc._kubelb_guarded = True
    for kind in ("Channel", "AioChannel"):
        setattr(cygrpc, kind, _looked_at(getattr(cygrpc, kind)))


def _looked_at(channel: type) -> object:
    def make(target: bytes, *args: object, **kwargs: object) -> object:
        for one in target.decode().split(","):
            host = re.sub(r"^(ipv4|ipv6|dns):(//[^/]*/)?", "", one).rpartition(":")[0].strip("[]")
            # What is under `localhost` gRPC's resolver answers by itself (RFC 6761).
            if not one.startswith("unix") and not on_loopback(host) and not host.endswith(".localhost"):
                note(f"grpc channel to {one}")
                raise OSError(errno.EACCES, f"{one} is not on loopback: no test may dial it")
        return channel(target, *args, **kwargs)

    return make
