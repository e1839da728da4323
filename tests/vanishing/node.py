"""A node that can vanish: from one moment on nothing that is sent to it is acknowledged, as after a power cut.

It stands before a server and leads bytes to and fro. To vanish it tells the kernel to throw away what comes in on its
side of each connection, before TCP has seen it (a socket filter, for which no privilege and no namespace is needed):
neither a byte nor a probe, nor the first packet of a new connection, is ever answered.
"""

import contextlib
import ctypes
import os
import selectors
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["Node", "connections", "established"]

_SO_ATTACH_FILTER = 26
_NOTHING = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
"""One instruction: return 0, how many bytes of a packet are let through."""


class Node:
    """`address` is where it listens; `server` is what it leads to."""

    def __init__(self, server: str) -> None:
        host, _, port = server.rpartition(":")
        self._server = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def vanish(self) -> None:
        """Hear nothing any more."""
        program = struct.pack("HL", 1, ctypes.addressof(_NOTHING))
        for sock in (self._listener, *tuple(self._open)):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)

    def close(self) -> None:
        """Let go of everybody."""
        for sock in (self._listener, *tuple(self._open)):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._open.add(sock)
            threading.Thread(target=self._lead, args=(sock,), daemon=True).start()

    def _lead(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(self._server, timeout=5) as server:
            server.settimeout(None)
            across = {client: server, server: client}
            with selectors.DefaultSelector() as selector:
                for sock in across:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    selector.register(sock, selectors.EVENT_READ)
                while True:
                    for key, _ in selector.select():
                        data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                        if not data:
                            return
                        across[key.fileobj].sendall(data)  # type: ignore[index]


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
