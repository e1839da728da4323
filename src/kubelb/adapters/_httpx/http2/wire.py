"""The socket of a connection that threads share: read and written without blocking, and with the lock held.

What the socket does not take at once stays here, and is written by one that waits: by the one that reads, which sleeps
until the socket can be written too, or by another one that found something left while that one sleeps already.

An exception that a signal's handler raises (Ctrl-C, a worker's timeout) can come between any two steps of a thread that
is inside, and it is not known then which of them were done: headers that are half encoded make all that follow wrong.
So `_whole` goes with the lock, and a connection that was left in the middle of something is ended for all.
"""

import select
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from socket import SHUT_RDWR
from typing import Any

from kubelb.adapters._httpx.http2.endings import Judged
from kubelb.adapters._httpx.http2.pooled import Pooled
from kubelb.adapters._httpx.http2.stream import Waiter
from kubelb.model import Verdict

__all__ = ["Wire"]

READ = 1 << 16
ROUNDS = 4
_LATER = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Whole:
    """Entered and left with the lock held; calls `torn` where it was entered and not left, as soon as that is found.

    It is no lock itself: an interrupt can come in here too, and only a lock in C is sure to be released then.
    """

    def __init__(self, torn: Callable[[], None]) -> None:
        self._torn = torn
        self._inside = False
        self.doubtful = False
        """Set, without the lock, by a thread whose way in was cut off."""

    def __enter__(self) -> None:
        if self._inside or self.doubtful:
            self._torn()
            self.doubtful = False
        self._inside = True

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and not issubclass(kind, Exception):
            self._torn()
        self._inside = False


class Wire(Pooled):
    """`more` is called, without the lock, when the peer allows more streams than before."""

    def __init__(self, core: Any, origin: Any, stream: Any, keepalive: float | None, more: Callable[[], None]) -> None:
        super().__init__(core, origin, stream, keepalive)
        self._socket = stream.get_extra_info("socket")
        self._socket.setblocking(False)
        self._more = more
        self._lock = threading.Lock()
        self._whole = Whole(self._torn)
        self._broken = False
        self._unsent = b""
        self._reader: Waiter | None = None
        self._waiting: dict[Waiter, None] = {}

    def _wake(self, waiter: Waiter) -> None:
        if waiter in self._waiting:
            if waiter.gate.locked():
                waiter.gate.release()
            del self._waiting[waiter]  # last: an interrupt in between wakes it twice, and not never

    def _torn(self) -> None:
        """A thread was interrupted inside: end it, with no word to the peer and for no fault of it. Safe to repeat."""
        self._broken = True
        machine = self._machine
        machine._closed = True  # noqa: SLF001  # from here: what was not sent yet goes elsewhere
        words = "a thread that shares the connection was interrupted while it used it"
        machine._end(words, self._core.ReadError, Judged(Verdict.NEUTRAL, reason="interrupted"))  # noqa: SLF001
        for waiter in list(self._waiting):
            self._wake(waiter)
        self._let_go()

    def _attend(self, seconds: float | None, *, read: bool) -> None:
        """Wait until there is something to read, or until what is left can be written; then do so. Without the lock."""
        readable = _poll(self._socket, read, bool(self._unsent), seconds)
        more = False
        with self._lock, self._whole:
            if readable:
                more = self._take_in()
            self._flush()
        if more:
            self._more()

    def _look(self) -> None:
        """Take in what has come while no thread waited."""
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
        if self._broken:
            return
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
        """Close the socket of a connection that has ended, unless a thread sleeps on it: that thread is woken."""
        if self._machine.ended:
            if self._reader is None:
                self._network.close()
            else:
                with suppress(OSError, ValueError):
                    self._socket.shutdown(SHUT_RDWR)

    # What the pool asks

    def close(self) -> None:
        """End it, and every request on it."""
        if self.foreign():
            return
        with self._lock, self._whole:
            self._machine.close()
            self._flush()
            self._let_go()

    def is_available(self) -> bool:
        """The same, once it has been looked whether a peer in doubt has answered."""
        if self._machine.in_doubt and not self.foreign():
            with self._lock, self._whole:
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
