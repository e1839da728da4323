"""How much an answer may take, in seconds and in bytes, counted where they come off the socket.

A timeout is for one wait. A peer that sends a byte now and then lets none run out, and it can do so in any part of an
answer: the header, answers of status 100 before it, the length of a chunk, trailers. http.client reads each of these in
a loop of its own. The file that they read from is the one place that all these loops pass, so it is here
that an answer comes to an end. A wait that is under way is not cut: silence has a timeout of its own.
"""

import http.client
import io
import math
from typing import Any

from kubelb.clock import Clock, monotonic

__all__ = ["Allowance", "Metered", "UnreadableError"]


class UnreadableError(Exception):
    """What came is no answer. The text is our own and may be told."""


class Allowance:
    """What is left of it, for one connection after the other."""

    def __init__(self, clock: Clock = monotonic) -> None:
        self._clock = clock
        self._what = "it"
        self._seconds = self._until = math.inf
        self._spent = 0.0
        self._most = self._left = 0

    def begin(self, what: str, seconds: float, size: int, *, spent: float = 0.0) -> None:
        """From now on so many seconds, less those that are `spent`, and bytes; `what` takes them, for the message."""
        self._seconds, self._spent = seconds, spent
        self.restart()
        self.part(what, size)

    def restart(self) -> None:
        """As many seconds again: what went before was connecting, which has bounds of its own."""
        self._until = self._clock() + self._seconds - self._spent

    def part(self, what: str, size: int) -> None:
        """So many bytes for the next part, and no second more."""
        self._what = what
        self._most = self._left = size

    def check(self) -> None:
        """Raises `UnreadableError` where nothing is left."""
        if self._left < 0:
            raise UnreadableError(f"{self._what} has more than {self._most >> 20} MiB")
        if self._clock() >= self._until:
            raise UnreadableError(f"{self._what} takes more than {self._seconds:g} s")

    def take(self, size: int) -> None:
        """So many bytes have come."""
        self._left -= size


class Metered(http.client.HTTPResponse):
    """An answer, and that of a proxy to CONNECT, that is read within an allowance."""

    def __init__(self, sock: Any, *args: Any, allowance: Allowance, **kw: Any) -> None:
        super().__init__(sock, *args, **kw)
        self.fp = io.BufferedReader(_Meter(self.fp.detach(), allowance))


class _Meter(io.RawIOBase):
    """The socket's file, with an eye on the allowance."""

    def __init__(self, raw: io.RawIOBase, allowance: Allowance) -> None:
        self._raw = raw
        self._allowance = allowance

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def readinto(self, buffer: Any) -> int | None:
        self._allowance.check()
        size: int | None = self._raw.readinto(buffer)
        self._allowance.take(size or 0)
        return size

    def close(self) -> None:
        try:
            self._raw.close()
        finally:
            super().close()
