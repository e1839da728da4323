"""One accepted connection, and how it ends.

Its own thread closes the socket; others only *cut* it:

- cleanly: `shutdown` of both directions, the peer reads the end of the stream;
- by reset: SO_LINGER 0 and a `shutdown` of the reading side, which sends nothing but wakes the thread; its `close` is
  then the RST. (Closing the descriptor here would not wake it: the kernel keeps the socket for the blocked `recv`.)

A thread that has another way to be woken sets `on_cut`: a clean cut then ends the writing side only and calls it. The
thread reads on until the peer has seen the end, for a socket that is closed with bytes unread sends RST after all.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator

from kubelb.testing.doorman import Doorman

RECV = 65536
_RESET = struct.pack("hh" if hasattr(socket, "SIO_RCVALL") else "ii", 1, 0)  # Windows has shorts in struct linger


class Connection:
    """One accepted connection. `busy` from the first byte of a request until its answer has been sent."""

    __slots__ = ("_lock", "buffer", "busy", "cut_off", "ended", "on_cut", "resets", "sock", "split", "thread", "tls")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""
        self.busy = False
        self.cut_off = False
        self.split = 0  # bytes a write, 0 for all at once
        self.thread: threading.Thread | None = None
        self.tls = False
        self.ended = False
        self.resets = False  # its close will be a reset
        self.on_cut: Callable[[], None] | None = None
        self._lock = threading.Lock()

    def recv(self) -> bytes:
        """Some bytes, or none at the end."""
        if self.tls and not self.pending():
            # Wait below TLS: a TLS read that meets the end of the stream sends an alert, and a reset says nothing.
            socket.socket.recv(self.sock, 1, socket.MSG_PEEK)
            if self.cut_off:
                return b""
        return self.sock.recv(RECV)

    def pending(self) -> bool:
        """Whether TLS holds decrypted bytes that were not read yet."""
        return isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0

    def send(self, data: bytes) -> None:
        """All of `data`. Raises `ConnectionAbortedError` once the connection has been cut."""
        if self.cut_off:
            raise ConnectionAbortedError(errno.ECONNABORTED, "cut by the test")
        if self.split:
            for start in range(0, len(data), self.split):
                self.sock.sendall(data[start : start + self.split])
        else:
            self.sock.sendall(data)

    def reset(self) -> None:
        """Make the coming close a reset. For the connection's own thread, which returns after it."""
        with self._lock:
            if not self.ended:
                self.cut_off = self.resets = True
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def cut(self, *, reset: bool) -> None:
        """End the connection from another thread."""
        if reset:
            with contextlib.suppress(OSError):
                self.reset()
        self.cut_off = True
        if self.on_cut is None or reset:
            self._shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
        else:
            self._shutdown(socket.SHUT_WR)
            self.on_cut()

    def force(self) -> None:
        """For a thread that is stuck in a write: it does not wake for the end of the reading side."""
        self._shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with self._lock:
            self.ended = True
            self.sock.close()

    def _shutdown(self, how: int) -> None:
        with self._lock, contextlib.suppress(OSError):
            if not self.ended:
                # The plain socket's method: the one of SSLSocket first forgets its TLS state, under the reader.
                socket.socket.shutdown(self.sock, how)


@contextlib.contextmanager
def noticing_end(doorman: Doorman, connection: Connection, on_end: Callable[[], None]) -> Iterator[None]:
    """While inside, have `on_end` called when the peer goes away: its thread sleeps elsewhere and cannot see that."""
    sock = connection.sock

    def look() -> None:
        try:
            # Past the TLS layer: whatever a client sends while it only listens is a goodbye.
            data = socket.socket.recv(sock, 1, socket.MSG_PEEK)
        except OSError:
            data = b""
        doorman.remove(sock)
        if not data or isinstance(sock, ssl.SSLSocket):
            on_end()

    doorman.add(sock, look)
    try:
        yield
    finally:
        doorman.remove(sock)


def join(connections: list[Connection], until: float) -> None:
    """Wait for the threads of connections that were cut, no longer than to `until` (`time.monotonic()`)."""
    for connection in connections:
        while not connection.ended and time.monotonic() < until:
            thread = connection.thread
            if thread is threading.current_thread():  # a handler that cuts its own connection
                break
            if thread is None or not thread.is_alive():  # accepted a moment ago, about to start
                time.sleep(0.001)
            else:
                thread.join(max(0.0, until - time.monotonic()))
