"""One thread at the door of every server of a cluster: it accepts connections and notices peers that hang up.

Ten thousand listening backends then cost ten thousand sockets and one thread, and a watch that sleeps on its queue
needs no thread of its own to learn that its client has gone. Callbacks run on this thread, so they only start a
thread or fill a queue; a callback that raises loses its own event and nothing else.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable

OnReadable = Callable[[], None]


class Doorman:
    """Calls a function whenever one of the registered sockets can be read (or accepted from)."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._listen, self._bell = socket.socketpair()
        self._listen.setblocking(False)
        self._selector.register(self._listen, selectors.EVENT_READ, self._answer_bell)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="kubelb-testing-door", daemon=True)
        self._thread.start()

    def add(self, sock: socket.socket, on_readable: OnReadable) -> None:
        """Watch `sock`. The caller removes it before it closes it: descriptor numbers come back quickly."""
        with self._lock:
            if self._closed:
                return
            self._selector.register(sock, selectors.EVENT_READ, on_readable)
        self._ring()

    def remove(self, sock: socket.socket) -> None:
        """Forget `sock`; harmless when it is unknown."""
        with self._lock, contextlib.suppress(KeyError, ValueError, RuntimeError):
            self._selector.unregister(sock)

    def close(self) -> None:
        """End the thread; registered sockets stay open, they are their owners'."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._ring()
        self._thread.join(1.0)
        with self._lock:
            self._selector.close()
            self._listen.close()
            self._bell.close()

    def _ring(self) -> None:
        # Needed where the selector is select(2), which never sees sockets that are added while it sleeps.
        with contextlib.suppress(OSError):
            self._bell.send(b"!")

    def _answer_bell(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._listen.recv(4096)

    def _run(self) -> None:
        while not self._closed:
            try:
                ready = self._selector.select()
            except OSError:  # a socket closed under select(2); it is gone from the set in the next round
                continue
            for key, _ in ready:
                with contextlib.suppress(Exception):
                    key.data()
