"""Every socket that a stream waits on, so that another thread can end the wait.

A blocking call into a socket ends at once when a thread calls `shutdown` on it, in every state: SYN unanswered,
handshake, headers, an idle watch. The socket itself ends up inside of TLS, so a `dup` of it is kept here, taken
*before* connect. It must not outlive the connection: while a dup is open the connection is, too. One stream has one
connection, so whatever was held is let go when the next is dialled, and when the stream hangs up.

After a fork, the child may close what it inherited and nothing else: a shutdown there would end the parent's stream.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from typing import Protocol

from kubelb.discovery.kube.steps import Phase

__all__ = ["CutError", "Lifeline"]


class CutError(OSError):
    """The stream was told to stop before it got a socket."""


class Link(Protocol):
    """A connection, as far as a forked child has to know it."""

    sock: socket.socket | None


class Lifeline:
    """Held by the thread that reads, pulled by the one that stops it."""

    def __init__(self) -> None:
        self.phase = Phase.CREDENTIALS
        """What the stream waits for; also for messages."""
        self.dials = 0
        """Connections that were made or tried."""
        self.stopped = False
        self._lock = threading.Lock()
        self._dups: list[socket.socket] = []
        self._links: list[Link] = []
        self._wakers: list[Callable[[], None]] = []

    def hold(self, sock: socket.socket, link: Link) -> None:
        """Keep a way to end what this socket will wait for."""
        dup = sock.dup()
        with self._lock:
            if not self.stopped:
                self._dups.append(dup)
                self._links.append(link)
                return
        dup.close()
        raise CutError("stopped")

    def let_go(self) -> None:
        """Forget all sockets; those that nothing else holds are closed by this."""
        with self._lock:
            dups, self._dups, self._links = self._dups, [], []
        for dup in dups:
            dup.close()

    def on_stop(self, waker: Callable[[], None]) -> None:
        """Have `waker` called by `stop`, for waits that are not on a socket."""
        with self._lock:
            self._wakers.append(waker)
            stopped = self.stopped
        if stopped:
            waker()

    def off_stop(self, waker: Callable[[], None]) -> None:
        """Take it back."""
        with self._lock:
            self._wakers.remove(waker)

    def cut(self) -> None:
        """End whatever is being waited for on a socket."""
        with self._lock:
            for dup in self._dups:
                with contextlib.suppress(OSError):
                    dup.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """End it, and whatever would come after it."""
        with self._lock:
            self.stopped = True
            wakers = list(self._wakers)
        self.cut()
        for waker in wakers:
            waker()

    def abandon(self) -> None:
        """In a forked child: close the inherited descriptors without a word to the peer.

        A thread that waits on one of them is not here, but a greenlet may be: it wakes, and ends.
        """
        self.stopped = True
        for dup in self._dups:
            dup.close()
        for link in self._links:
            sock, link.sock = link.sock, None
            if sock is not None and sock.fileno() >= 0:
                # Not sock.close(): that waits for the response that still reads from it, and that nothing will close.
                os.close(sock.detach())
        self._dups, self._links = [], []
