"""The client's timeouts, bounded by the end of the call.

httpcore asks this mapping for a timeout once a phase (connect, write, read, pool) and then uses it for every operation
of that phase, so a server that drips its headers would outlive any bound. Therefore "read" and "write" are answered
with the mapping itself where the call has an end: the streams of `dial.py` ask it again for each single operation.

An operation gets the smaller of the client's own timeout and what is left of the call. Once the headers are here the
body has the client's read timeout again, each read of it, unless the caller gave a deadline, which bounds everything.

Being asked for "connect" is also how we learn that this attempt opened a connection rather than reused one.
"""

from collections.abc import Mapping
from typing import Any

from kubelb.adapters.defaults import CONNECT, LEAST
from kubelb.clock import Clock

__all__ = ["Timeouts", "longest"]


class Timeouts(dict[str, float | None]):
    """What httpcore is given as the request's ``timeout`` extension. Times in the balancer's seconds."""

    __slots__ = ("_clock", "_until", "connected", "cut_short", "headers_until", "producer_failed")

    def __init__(
        self, client: Mapping[str, float | None], headers_until: float | None, until: float | None, clock: Clock
    ) -> None:
        super().__init__(client)
        self.headers_until = headers_until
        self._until = until
        self._clock = clock
        self.connected = False
        """Whether this attempt had to connect."""
        self.cut_short = False
        """Whether the server stopped reading before the request was written."""
        self.producer_failed = False
        """Whether the request's body raised while it was read."""

    def get(self, key: str, default: Any = None) -> Any:
        if key == "connect":
            self.connected = True
            left = self.left(key)
            return CONNECT if left is None else max(LEAST, min(left, CONNECT))
        if self.headers_until is None:
            return super().get(key, default)
        if key != "pool":
            return self
        left = self.left(key)
        return None if left is None else max(LEAST, left)

    def left(self, key: str) -> float | None:
        """Return the seconds for an operation that begins now, None for any number; 0 and below: time is over."""
        own = super().get(key)
        end = self.headers_until
        if end is None:
            return own
        left = end - self._clock()
        return left if own is None or left < own else own

    def headers_are_here(self) -> None:
        """From now on only the caller's deadline bounds the call."""
        self.headers_until = self._until

    def end_within(self, seconds: float) -> None:
        """Whatever is read from now on must come within `seconds`."""
        self.headers_until = self._clock() + seconds

    def over(self) -> bool:
        """Whether the caller's deadline has passed."""
        return self._until is not None and self._clock() >= self._until


def longest(client: Mapping[str, float | None]) -> float | None:
    """Return the largest part of a client's timeout: what bounds all tries. None where one part is unlimited."""
    parts = client.values()
    if not parts or None in parts:
        return None
    return max(parts)  # type: ignore[type-var]  # None was ruled out
