"""One client's connection, tied to one of our own to the hidden server: bytes go both ways until either side ends.

The connection's thread runs `run` and alone ends the tunnel; others cut the client's side (`Connection.cut`), which
wakes it. Nothing is forwarded to a client that has been cut off, so what the server says afterwards is never heard.
Clients of HTTP/2 send while they only listen (window updates, pings): after a clean end the tunnel reads on for a
moment, until they have seen it, since closing with bytes unread would send them a reset.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
import weakref

from kubelb.testing.connection import RECV, Connection

LINGER = 0.1  # seconds that a client has to see a clean end
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)  # no descriptor of its own
_NOWAIT = getattr(socket, "MSG_DONTWAIT", 0)


class Tunnel:
    """Pumps between `connection` and a new connection to `address`. Raises `OSError` where nothing listens there."""

    def __init__(self, connection: Connection, address: tuple[str, int]) -> None:
        self.connection = connection
        self._upstream = socket.create_connection(address, timeout=1.0)
        self._upstream.settimeout(None)
        self._upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port: int = self._upstream.getsockname()[1]  # by which the server knows this tunnel's calls
        self._calls = 0
        self._lock = threading.Lock()  # one thread at a time carries bytes to the client, in their order
        self._halve = False
        connection.on_cut = self._wake
        _tunnels.add(self)

    def run(self) -> None:
        """Pump until either side ends."""
        client_stays = self._pump()
        self.close()
        if client_stays and not self.connection.resets:
            self._linger()

    def close(self) -> None:
        """Leave the server alone: it cancels the calls of this connection."""
        self._upstream.close()

    def count(self, change: int) -> None:
        """Calls begin and end: without any, the connection is idle. One caller at a time."""
        self._calls += change
        self.connection.busy = self._calls > 0

    def flush(self, *, halve_next: bool = False) -> None:
        """Let the client have what the server has said so far; `halve_next`: and half of what it says next, then end.

        A client that has gone will have nothing.
        """
        with self._lock, contextlib.suppress(OSError):
            while _NOWAIT and self._carry():
                pass
            self._halve = self._halve or halve_next

    def _pump(self) -> bool:
        """Bytes both ways; True when it was not the client that ended it."""
        client, upstream = self.connection.sock, self._upstream
        with _Selector() as selector:
            selector.register(client, selectors.EVENT_READ)
            selector.register(upstream, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is upstream:
                        with self._lock:
                            if self._carry() is None:
                                return True
                    else:
                        data = client.recv(RECV)
                        if not data:
                            return False
                        upstream.sendall(data)

    def _carry(self) -> bool | None:
        """Some bytes to the client: whether there were any, None at the end."""
        try:
            data = self._upstream.recv(RECV, _NOWAIT)
        except BlockingIOError:
            return False
        if not data or self.connection.cut_off:
            return None
        if self._halve:
            self.connection.send(data[: len(data) // 2])
            self.connection.cut_off = True
            return None
        self.connection.send(data)
        return True

    def _linger(self) -> None:
        """FIN; then read what the client still says, until it has seen that."""
        client, until = self.connection.sock, time.monotonic() + LINGER
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)
            while (left := until - time.monotonic()) > 0:
                client.settimeout(left)
                if not client.recv(RECV):
                    break

    def _wake(self) -> None:
        """The client's side was cut cleanly: have `_pump` see the end of the server's."""
        with contextlib.suppress(OSError):
            self._upstream.shutdown(socket.SHUT_RD)


_tunnels: weakref.WeakSet[Tunnel] = weakref.WeakSet()


def _abandon_all() -> None:
    for tunnel in list(_tunnels):
        tunnel.close()


if hasattr(os, "register_at_fork"):  # absent on Windows, which has no fork
    os.register_at_fork(after_in_child=_abandon_all)
