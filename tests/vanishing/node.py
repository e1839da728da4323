"""A node that can vanish: from one moment on nothing that is sent to it is acknowledged, as after a power cut.

It stands before a server and leads bytes to and fro. To vanish it tells the kernel to throw away what comes in on its
side of each connection, before TCP has seen it (a socket filter, for which no privilege and no namespace is needed):
neither a byte nor a probe, nor the first packet of a new connection, is ever answered.
"""

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.forwarding import Forwarder, lead

__all__ = ["Node", "connections", "established"]

_SO_ATTACH_FILTER = 26
_NOTHING = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
"""One instruction: return 0, how many bytes of a packet are let through."""


class Node(Forwarder):
    """`address` is where it listens; `server` is what it leads to."""

    def __init__(self, server: str) -> None:
        super().__init__(lambda client: lead(client, server))

    def vanish(self) -> None:
        """Hear nothing any more."""
        program = struct.pack("HL", 1, ctypes.addressof(_NOTHING))
        for sock in self.sockets():
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def established(address: str) -> int:
    """How many connections to an address there are on this host."""
    port = f":{int(address.rpartition(':')[2]):04X}"
    rows = [row.split() for row in Path("/proc/self/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return sum(remote.endswith(port) and state == "01" for _, _, remote, state, *_ in rows)


@contextlib.contextmanager
def connections(address: str) -> Iterator[list[socket.socket]]:
    """This process's connections to an address, whatever library has them: copies, closed at the end."""
    with contextlib.ExitStack() as copies:
        found = []
        for each in list(Path("/proc/self/fd").iterdir()):  # at once: the copies come to stand there
            with contextlib.suppress(OSError):
                if str(each.readlink()).startswith("socket:"):
                    sock = copies.enter_context(socket.socket(fileno=os.dup(int(each.name))))
                    if sock.family is not socket.AF_UNIX and _is(sock.getpeername(), address):
                        found.append(sock)
        yield found


def _is(peer: tuple[Any, ...], address: str) -> bool:
    """gRPC's sockets are of IPv6 for both families."""
    return f"{str(peer[0]).removeprefix('::ffff:')}:{peer[1]}" == address
