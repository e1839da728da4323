"""A TCP front on loopback, which leads each connection that it takes to a server."""

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable

__all__ = ["Forwarder", "lead", "pump"]


class Forwarder:
    """`address` is where it listens; `take` gets each connection, in a thread of its own, and returns at its end."""

    def __init__(self, take: Callable[[socket.socket], None]) -> None:
        self._take = take
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def sockets(self) -> tuple[socket.socket, ...]:
        """That it listens on, and those of clients."""
        return (self._listener, *tuple(self._open))

    def close(self) -> None:
        """End every connection."""
        for sock in self.sockets():
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
            threading.Thread(target=self._run, args=(sock,), daemon=True).start()

    def _run(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            self._take(client)
        self._open.discard(client)


def lead(client: socket.socket, address: str, first: bytes = b"") -> None:
    """Connect to a server, send it what was read already, and go on until either side ends."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as server:
        server.settimeout(None)
        server.sendall(first)
        pump(client, server)


def pump(one: socket.socket, other: socket.socket) -> None:
    """Both ways, until either side ends."""
    across = {one: other, other: one}
    with selectors.DefaultSelector() as selector:
        for sock in across:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(sock, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                sock: socket.socket = key.fileobj  # type: ignore[assignment]
                data = sock.recv(65536)
                if not data:
                    return
                across[sock].sendall(data)
