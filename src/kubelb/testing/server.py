"""A listening address, its connections, and every way in which a test wants to lose them.

The API server and each backend is one `Server`: the cluster's doorman accepts, each connection gets a thread that runs
`serve(connection)` until it returns or raises `OSError`, and that thread alone closes the socket. Others only cut it.
"""

from __future__ import annotations

import errno
import os
import random
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable

from kubelb.testing.connection import Connection, join
from kubelb.testing.doorman import Doorman

BACKLOG = 1024
# Below the range from which kernels take the ports of outgoing connections (32768 and up on Linux, 49152 elsewhere):
# a port that is closed for a while is then still free when it is opened again, and no socket connects to itself.
PORTS = range(10_000, 32_000)


Serve = Callable[[Connection], None]


class Server:
    """Listens on one address. Raises `OSError` from the constructor when the address cannot be bound."""

    def __init__(
        self,
        doorman: Doorman,
        host: str,
        port: int | None,
        serve: Serve,
        *,
        name: str,
        tls: ssl.SSLContext | None = None,
        admit: Serve | None = None,
    ) -> None:
        self.host = host
        self._doorman = doorman
        self._serve = serve
        self._admit = admit  # called before the TLS handshake; may block or raise
        self._name = name
        self._tls = tls
        self._door = threading.Lock()  # opens and closes one at a time; taken before `_lock`, never under it
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()
        self._socket: socket.socket | None = None
        self._closed = False
        self.port = self._open(port)
        _servers.add(self)

    @property
    def listening(self) -> bool:
        """Whether a connection attempt is accepted."""
        return self._socket is not None

    @property
    def connections(self) -> list[Connection]:
        """Those that are open now."""
        with self._lock:
            return list(self._connections)

    def listen(self) -> None:
        """Accept again, on the same port."""
        with self._door:
            if self._socket is None and not self._closed:
                self._open(self.port)

    def unlisten(self) -> None:
        """Refuse new connections; those that are open stay."""
        with self._door:
            with self._lock:
                sock, self._socket = self._socket, None
            if sock is not None:
                self._doorman.remove(sock)
                sock.close()

    def cut(self, *, reset: bool = False, idle_only: bool = False, wait: float = 0.1) -> None:
        """End open connections and wait, at most `wait` seconds, until their threads have let go of them."""
        victims = [connection for connection in self.connections if not (idle_only and connection.busy)]
        for connection in victims:
            connection.cut(reset=reset)
        join(victims, time.monotonic() + wait)
        for connection in victims:
            connection.force()

    def shut(self) -> None:
        """Stop listening for good and end every connection; `join` waits for their threads."""
        self._closed = True
        self.unlisten()
        for connection in self.connections:
            connection.cut(reset=False)

    def join(self, until: float) -> None:
        """Wait for the threads of connections, no longer than to `until` (`time.monotonic()`)."""
        join(self.connections, until)

    def abandon(self) -> None:
        """In a child after a fork: close its copies of the parent's sockets. Their peers notice nothing.

        A copy that stays open would keep a killed backend's port open and swallow its resets. No lock: a thread that
        held one does not exist here.
        """
        for connection in list(self._connections):
            connection.sock.close()
        if self._socket is not None:
            self._socket.close()
        self._connections.clear()
        self._socket = None
        self._closed = True

    def _open(self, port: int | None) -> int:
        sock = listen(self.host, port)
        bound: int = sock.getsockname()[1]
        with self._lock:
            self._socket = sock
        self._doorman.add(sock, lambda: self._accept(sock))
        return bound

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError as error:  # nothing is left to accept, or closed meanwhile
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    time.sleep(0.01)  # the peer is still in the queue, so this is called again at once
                return
            connection = Connection(sock)
            with self._lock:
                welcome = self._socket is listener
                if welcome:
                    self._connections.add(connection)
            if not welcome:
                connection.reset()
                connection.close()
                continue
            connection.thread = threading.Thread(target=self._run, args=(connection,), name=self._name, daemon=True)
            try:
                connection.thread.start()
            except RuntimeError:  # the machine has no thread left: the peer sees a connection that ends
                self._forget(connection)

    def _run(self, connection: Connection) -> None:
        try:
            connection.sock.setblocking(True)
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._admit is not None:
                self._admit(connection)
            if self._tls is not None:
                wrapped = self._tls.wrap_socket(connection.sock, server_side=True, do_handshake_on_connect=False)
                connection.sock, connection.tls = wrapped, True
                wrapped.do_handshake()
            self._serve(connection)
        except (OSError, ValueError):  # the peer went away, or was sent away; ValueError: a handshake cut half-way
            pass
        finally:
            self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        with self._lock:
            self._connections.discard(connection)
        connection.close()


def listen(host: str, port: int | None) -> socket.socket:
    """A listening socket on `host` and `port`; None takes a free one of `PORTS`. Raises `OSError`."""
    candidates = [port] if port is not None else [*random.sample(PORTS, 64), 0]
    for last, candidate in enumerate(candidates, 1 - len(candidates)):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if not hasattr(socket, "SO_EXCLUSIVEADDRUSE"):  # Windows would let two servers share the port
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, candidate))
            sock.listen(BACKLOG)
            sock.setblocking(False)
        except OSError as error:
            sock.close()
            if last == 0 or error.errno != errno.EADDRINUSE:
                raise
        else:
            return sock
    raise AssertionError("unreachable")


_servers: weakref.WeakSet[Server] = weakref.WeakSet()


def _abandon_all() -> None:
    for server in list(_servers):
        server.abandon()


if hasattr(os, "register_at_fork"):  # absent on Windows, which has no fork
    os.register_at_fork(after_in_child=_abandon_all)
