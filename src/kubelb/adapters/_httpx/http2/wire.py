"""The socket of a connection that threads share: read and written without blocking, and with the lock held.

What the socket does not take at once stays here, and is written by one that waits: by the one that reads, which sleeps
until the socket can be written too, or by another one that found something left while that one sleeps already.
"""

import select
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from socket import SHUT_RDWR
from typing import Any

from kubelb.adapters._httpx.http2.pooled import Pooled
from kubelb.adapters._httpx.http2.stream import Waiter

__all__ = ["Wire"]

READ = 1 << 16
ROUNDS = 4
_LATER = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Wire(Pooled):
    """`more` is called, without the lock, when the peer allows more streams than before."""

    def __init__(self, core: Any, origin: Any, stream: Any, keepalive: float | None, more: Callable[[], None]) -> None:
        super().__init__(core, origin, stream, keepalive)
        self._socket = stream.get_extra_info("socket")
        self._socket.setblocking(False)
        self._more = more
        self._lock = threading.Lock()
        self._unsent = b""
        self._reader: Waiter | None = None
        self._waiting: dict[Waiter, None] = {}

    def _wake(self, waiter: Waiter) -> None:
        if self._waiting.pop(waiter, self) is None:
            waiter.gate.release()

    def _attend(self, seconds: float | None, *, read: bool) -> None:
        """Wait until there is something to read, or until what is left can be written; then do so. Without the lock."""
        readable = _poll(self._socket, read, bool(self._unsent), seconds)
        more = False
        with self._lock:
            if readable:
                more = self._take_in()
            self._flush()
        if more:
            self._more()

    def _look(self) -> None:
        """Take in what has come while nobody waited."""
        if self._reader is None:
            self._take_in()
            self._flush()
            self._let_go()

    def _take_in(self) -> bool:
        """Read what there is, and at most so much: others want the lock. What TLS holds back no poll would tell of."""
        more = False
        machine = self._machine
        rounds = ROUNDS
        while not machine.ended and (rounds > 0 or self._pending()):
            rounds -= 1
            try:
                data = self._socket.recv(READ)
            except _LATER:
                break
            except (OSError, ValueError) as error:
                machine.lost(error)
                break
            if not data:
                machine.lost(None)
                break
            more = machine.receive(data) or more
            if len(data) < READ and not self._pending():
                break
        self._wake_changed()
        return more

    def _pending(self) -> bool:
        pending = getattr(self._socket, "pending", None)
        return pending is not None and bool(pending())

    def _flush(self) -> None:
        """Write as much as the socket takes."""
        data = self._machine.output()
        if self._unsent:
            data = self._unsent + data
        view = memoryview(data)
        try:
            while view:
                view = view[self._socket.send(view) :]
        except _LATER:
            pass
        except (OSError, ValueError) as error:
            # The peer may have said why before it closed, and that may be an answer.
            self._take_in()
            self._machine.lost(error)
            view = view[:0]
        if self._unsent and not view:
            self._machine.changed += self._waiting  # bodies waited for that
        self._unsent = bytes(view)
        self._wake_changed()

    def _wake_changed(self) -> None:
        changed = self._machine.changed
        if changed:
            for waiter in changed:
                self._wake(waiter)
            changed.clear()

    def _let_go(self) -> None:
        """Close the socket of a connection that has ended, unless somebody sleeps on it; that one is woken."""
        if self._machine.ended:
            if self._reader is None:
                self._network.close()
            else:
                with suppress(OSError, ValueError):
                    self._socket.shutdown(SHUT_RDWR)

    # What the pool asks

    def close(self) -> None:
        """End it, and every request on it."""
        with self._lock:
            self._machine.close()
            self._flush()
            self._let_go()

    def is_available(self) -> bool:
        """The same, once it has been looked whether a peer in doubt has answered."""
        if self._machine.in_doubt:
            with self._lock:
                self._look()
        return super().is_available()


def _poll(sock: Any, read: bool, write: bool, seconds: float | None) -> bool:
    """Wait until it can be read, or written; returns whether it can be read. Looked up anew: gevent replaces it."""
    number = sock.fileno()
    if number < 0:
        return True  # closed: the next read says so
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(number, (select.POLLIN if read else 0) | (select.POLLOUT if write else 0))
        found = poll.poll(None if seconds is None else seconds * 1000 + 1)
        return bool(found) and bool(found[0][1] & ~select.POLLOUT)
    readable, _, _ = select.select([number] if read else [], [number] if write else [], [], seconds)
    return bool(readable)
