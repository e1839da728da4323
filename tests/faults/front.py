"""A pod that speaks both: a TCP front that leads a connection to a gRPC server or to an HTTP one by its first bytes."""

import contextlib
import selectors
import socket
import threading

__all__ = ["Front"]

PREFACE = b"PRI * HT"
"""What every connection of HTTP/2 begins with, cut to the length of the shortest request that could come instead."""


class Front:
    """Listens on an address of its own, in front of two of a LocalCluster's pods. `address` is where."""

    def __init__(self, http: str, grpc: str) -> None:
        self._places = {True: grpc, False: http}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

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
            threading.Thread(target=self._lead, args=(sock,), daemon=True).start()

    def _lead(self, client: socket.socket) -> None:
        self._open.add(client)
        with client, contextlib.suppress(OSError):
            first = b""
            while len(first) < len(PREFACE):
                first += (data := client.recv(65536))
                if not data:
                    return
            host, _, port = self._places[first.startswith(PREFACE)].rpartition(":")
            with socket.create_connection((host, int(port)), timeout=5) as server:
                server.settimeout(None)
                server.sendall(first)
                _pump(client, server)
        self._open.discard(client)


def _pump(one: socket.socket, other: socket.socket) -> None:
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
