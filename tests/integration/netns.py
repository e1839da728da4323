"""Run a command in a network of its own: `python -m tests.integration.netns -- COMMAND...`.

A real API server refuses an EndpointSlice that holds a loopback address, so pods need others, and binding those must
neither need privilege nor touch the machine's network. A new user namespace makes us root over a new network
namespace and over nothing else; in there, "local" routes turn every address of the two pod ranges into one of ours:
a server may bind it, a client reaches it, and no packet leaves.

The kernel is asked directly (unshare by libc, routes by rtnetlink), because `ip` and `unshare` may not be installed and
`os.unshare` is younger than the oldest Python that we support. The command replaces this process, so signals, exit
code and process id are its own.

Exit code 77, the customary "skipped", where the kernel or its settings forbid all this.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

POD_RANGES = ("10.244.0.0/16", "fd00:10:244::/64")
FORBIDDEN = 77

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_LOOPBACK = 1  # the index of `lo`: the first interface of every network namespace

# From linux/netlink.h and linux/rtnetlink.h.
_NLMSG_ERROR, _RTM_NEWLINK, _RTM_NEWROUTE = 2, 16, 24
_REQUEST, _ACK, _EXCL, _CREATE = 0x1, 0x4, 0x200, 0x400
_IFF_UP = 1
_TABLE_LOCAL, _PROTOCOL_BOOT, _SCOPE_HOST, _TYPE_LOCAL = 255, 3, 254, 2
_ATTRIBUTE_DESTINATION, _ATTRIBUTE_INTERFACE = 1, 4


class NamespaceError(Exception):
    """The kernel refused; the text says what, and what would make it agree."""


def inside() -> bool:
    """Whether the pod addresses of both families can be bound here."""
    for block in POD_RANGES:
        network = ipaddress.ip_network(block)
        family = socket.AF_INET if network.version == 4 else socket.AF_INET6
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.bind((str(network[-2]), 0))
        except OSError:
            return False
    return True


def enter() -> None:
    """Move this process, which must have one thread only, into new namespaces and set up the network there."""
    user, group = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise NamespaceError(f"no user namespace: {reason} (see user.max_user_namespaces, or the container's seccomp)")
    try:
        # In this order: without "deny" the kernel refuses a group map that an ordinary user writes.
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            (Path("/proc/self") / name).write_text(text, encoding="ascii")
        _loopback_up()
        for block in POD_RANGES:
            _add_local_route(block)
        # IPv4 lets a server bind any address that a local route covers; IPv6 wants to be told.
        Path("/proc/sys/net/ipv6/ip_nonlocal_bind").write_text("1", encoding="ascii")
    except OSError as error:
        cure = "kernel.apparmor_restrict_unprivileged_userns=0 helps where AppArmor is in the way; IPv6 must be on"
        raise NamespaceError(f"a namespace without rights or without IPv6: {error} ({cure})") from error


def _loopback_up() -> None:
    """What `ip link set lo up` says to the kernel: a struct ifinfomsg."""
    _rtnetlink(_RTM_NEWLINK, 0, struct.pack("=BxHiII", socket.AF_UNSPEC, 0, _LOOPBACK, _IFF_UP, _IFF_UP))


def _add_local_route(block: str) -> None:
    """What `ip route add local BLOCK dev lo` says: a struct rtmsg, then the destination and the interface."""
    network = ipaddress.ip_network(block)
    family, scope = (socket.AF_INET, _SCOPE_HOST) if network.version == 4 else (socket.AF_INET6, 0)
    header = struct.pack("=8BI", family, network.prefixlen, 0, 0, _TABLE_LOCAL, _PROTOCOL_BOOT, scope, _TYPE_LOCAL, 0)
    destination = _attribute(_ATTRIBUTE_DESTINATION, network.network_address.packed)
    interface = _attribute(_ATTRIBUTE_INTERFACE, struct.pack("=i", _LOOPBACK))
    _rtnetlink(_RTM_NEWROUTE, _CREATE | _EXCL, header + destination + interface)


def _attribute(kind: int, value: bytes) -> bytes:
    """A struct rtattr. Every value here is a multiple of four bytes long, so no padding is due."""
    return struct.pack("=HH", 4 + len(value), kind) + value


def _rtnetlink(kind: int, flags: int, payload: bytes) -> None:
    """Send one request, wait for its acknowledgement, raise what the kernel answers."""
    header = struct.pack("=IHHII", 16 + len(payload), kind, _REQUEST | _ACK | flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.bind((0, 0))
        kernel.send(header + payload)
        answer = kernel.recv(65536)
    answered, code = struct.unpack_from("=4xH10xi", answer)
    if answered != _NLMSG_ERROR:
        raise OSError(f"rtnetlink answered with message type {answered} instead of an acknowledgement")
    if code != 0:
        raise OSError(-code, os.strerror(-code))


def run(command: Sequence[str]) -> NoReturn:
    """Become the command, inside."""
    try:
        enter()
    except NamespaceError as error:
        sys.stderr.write(f"netns: {error}\n")
        sys.exit(FORBIDDEN)
    try:
        os.execvp(command[0], list(command))
    except OSError as error:
        sys.stderr.write(f"netns: {command[0]}: {error.strerror}\n")
        sys.exit(127)  # what a shell says of a command that it cannot find


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments[:1] == ["--"]:
        arguments = arguments[1:]
    if not arguments:
        sys.exit("usage: python -m tests.integration.netns -- COMMAND...")
    run(arguments)
