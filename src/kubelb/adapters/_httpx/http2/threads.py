"""The sync shell: threads share a connection, and the one that waits first reads for all.

That one (the reader) sleeps in poll without any lock. What it reads goes through the machine, those whose turn has come
are woken, and when its own turn comes, or its own time is over, it hands reading on to another one that waits. So each
waits as long as its own timeout says and not longer, and with one thread nothing is ever handed on.

The lock is held for what needs no waiting: the machine, and reading and writing without blocking (wire.py; also
because a TLS connection must not be used by two threads at once).

No thread reads while none waits. So a PING to an idle connection is answered with the next request, which first looks
whether the peer has sent GOAWAY or closed the connection.
"""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from kubelb.adapters._httpx.foreign import not_ours
from kubelb.adapters._httpx.http2.headers import request_fields
from kubelb.adapters._httpx.http2.machine import AT_ONCE
from kubelb.adapters._httpx.http2.stream import Stream, Waiter
from kubelb.adapters._httpx.http2.wire import Wire
from kubelb.adapters._httpx.produced import Produced
from kubelb.adapters.defaults import SETTLE
from kubelb.clock import monotonic

__all__ = ["Connection"]

SLICE = 0.05
"""Seconds."""


class Connection(Wire):
    """What httpcore's pool takes for a connection; over a network stream whose socket is ours from now on."""

    # One request

    def handle_request(self, request: Any) -> Any:
        """Send it on a stream of its own; returns when the headers of its response are here, or all of a short one."""
        if self.foreign():
            raise self._core.ConnectionNotAvailable
        timeouts = request.extensions["timeout"]
        fields, body = request_fields(request)
        opened: list[Stream] = []
        try:
            self._open(opened, fields, body, timeouts)
            stream = opened[0]
            if body:
                self._send(stream, request.stream, timeouts)
            if not stream.answered():
                self._wait(stream, stream.answered, timeouts, "read")
            while not stream.whole():
                self._wait(stream, partial(stream.further, stream.got), timeouts, "read")
            return self._response(stream, _Body(self, stream, timeouts))
        except BaseException:
            for stream in opened:
                self.drop(stream)
            raise

    def _open(self, opened: list[Stream], fields: Any, body: bool, timeouts: Any) -> None:
        """Open a stream, and put it into the list: what is returned can get lost by an interrupt."""
        machine = self._machine
        with self._lock, self._whole:
            self._look()
            if machine.can_open() or not machine.settling():
                self._opened(opened, fields, body)
                return
        newcomer = Waiter()
        try:
            with self._lock, self._whole:
                machine.newcomers.append(newcomer)
            seconds = timeouts.left("pool")
            mine = seconds is not None and seconds < SETTLE
            if not self._waited(newcomer, lambda: not machine.settling(), seconds if mine else SETTLE):
                if mine:
                    raise self._core.PoolTimeout("timed out waiting for a stream")
                with self._lock, self._whole:
                    machine.settle()
        finally:
            self._surely(lambda: self._come(newcomer))
        with self._lock, self._whole:
            self._opened(opened, fields, body)

    def _opened(self, opened: list[Stream], fields: Any, body: bool) -> None:
        opened.append(self._machine.open(fields, body=body))
        self._expires = None
        if not body:
            self._flush()

    def _come(self, newcomer: Waiter) -> None:
        self._hand_on(newcomer)
        if newcomer in self._machine.newcomers:
            self._machine.newcomers.remove(newcomer)

    def _send(self, stream: Stream, parts: Any, timeouts: Any) -> None:
        machine = self._machine
        if isinstance(parts, Produced):
            with self._lock, self._whole:
                self._flush()

        def ready() -> bool:
            return machine.unwanted(stream) or (not self._unsent and machine.room(stream) > 0)

        stream.fresh = False
        for part in parts:
            if self.foreign():
                raise not_ours(self._core.WriteError)
            rest = memoryview(part)
            while rest:
                with self._lock, self._whole:
                    if machine.unwanted(stream):
                        return
                    if not self._unsent:
                        rest = rest[machine.send(stream, rest) :]
                        if rest or len(part) >= AT_ONCE or isinstance(parts, Produced):
                            self._flush()
                if rest:
                    self._wait(stream, ready, timeouts, "write")
        with self._lock, self._whole:
            machine.finish(stream)
            self._flush()

    def next(self, stream: Stream, timeouts: Any) -> bytes:
        """Return the next part of the body, empty at its end."""
        if self.foreign():
            raise not_ours(self._core.ReadError)
        if (left := timeouts.left("read")) is not None and left <= 0:
            raise self._core.ReadTimeout("timed out")
        if not stream.readable():
            self._wait(stream, stream.readable, timeouts, "read")
        with self._lock, self._whole:
            return self._taken(stream)

    def drop(self, stream: Stream) -> None:
        """The request has ended, however it did; safe to call twice."""
        if not self.foreign():
            self._surely(lambda: self._dropped(stream))

    def _dropped(self, stream: Stream) -> None:
        self._hand_on(stream)
        self._machine.drop(stream)
        self._rest()
        self._flush()
        self._let_go()

    def _surely(self, last: Callable[[], None]) -> None:
        """Do the last thing of a request, with the lock; where an interrupt cuts that off, the connection ends."""
        try:
            with self._lock, self._whole:
                last()
        except BaseException:
            self._whole.doubtful = True
            with self._lock, self._whole:
                last()
            raise

    # Waiting

    def _wait(self, waiter: Stream, ready: Callable[[], bool], timeouts: Any, kind: str) -> None:
        """Wait until it is ready; raises the timeout of this kind."""
        since = monotonic()
        if self._waited(waiter, ready, timeouts.left(kind)):
            return
        with self._lock, self._whole:
            self._machine.doubt(since)
            self._flush()
        timeout: Exception = getattr(self._core, f"{kind.capitalize()}Timeout")("timed out")
        raise timeout

    def _waited(self, waiter: Waiter, ready: Callable[[], bool], seconds: float | None) -> bool:
        """Wait until it is ready; returns whether it is."""
        until = None if seconds is None else monotonic() + seconds
        try:
            while True:
                left = None if until is None else until - monotonic()
                with self._lock, self._whole:
                    if ready():
                        return True
                    if left is not None and left <= 0:
                        return False
                    if self._reader is None:
                        self._reader = waiter
                    reads = self._reader is waiter
                    writes = not reads and bool(self._unsent)
                    if not (reads or writes):
                        if waiter.gate is None:
                            gate = threading.Lock()
                            gate.acquire()
                            waiter.gate = gate
                        self._waiting[waiter] = None  # last: what is in there has a gate
                if reads:
                    self._attend(left, read=True)
                elif writes:  # and looks for what has come from time to time
                    self._attend(SLICE if left is None else min(left, SLICE), read=False)
                else:
                    waiter.gate.acquire(timeout=-1 if left is None else left)
        finally:
            if not self.foreign():
                self._surely(lambda: self._stay(waiter))

    def _stay(self, waiter: Waiter) -> None:
        self._hand_on(waiter)
        self._let_go()

    def _hand_on(self, waiter: Waiter) -> None:
        """It waits no longer: let another one read."""
        if waiter.gate is not None:
            waiter.gate.acquire(blocking=False)  # woken, perhaps without having noticed
        self._waiting.pop(waiter, None)
        if self._reader is waiter:
            self._reader = None
        if self._reader is None:
            for other in self._waiting:
                self._wake(other)
                break


class _Body:
    """A response's body, for httpcore."""

    def __init__(self, connection: Connection, stream: Stream, timeouts: Any) -> None:
        self._connection = connection
        self._stream = stream
        self._timeouts = timeouts

    def __iter__(self) -> Iterator[bytes]:
        try:
            while data := self._connection.next(self._stream, self._timeouts):
                yield data
        finally:
            self.close()

    def close(self) -> None:
        self._connection.drop(self._stream)
