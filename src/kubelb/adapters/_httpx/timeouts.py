"""The client's timeouts, bounded by the end of the call.

httpcore asks this mapping for a timeout once a phase (connect, write, read, pool) and then uses it for every operation
of that phase, so a server that drips its headers would outlive any bound. Therefore "read" and "write" are answered
with the mapping itself where the call has an end: the streams of `dial.py` ask it again for each single operation. And
"connect" always is: TCP and the TLS handshake, one phase to httpcore, have a wait each (`patience.py`).

An operation gets the smaller of the client's own timeout and what is left of the call. Once the headers are here the
body has the client's read timeout again, each read of it, unless the caller gave a deadline, which bounds everything.

Being asked for "connect" is also how we learn that this attempt opened a connection rather than reused one; being asked
for "write", that the request may have been written.
"""

from collections.abc import Mapping
from typing import Any

from kubelb.adapters.defaults import LEAST
from kubelb.adapters.patience import Pace, Patience, Step
from kubelb.clock import Clock
from kubelb.core.state import EndpointState

__all__ = ["Timeouts", "set_apart"]


class Timeouts(dict[str, float | None]):
    """What httpcore is given as the request's ``timeout`` extension. Times in the balancer's seconds."""

    __slots__ = (
        "_allowed",
        "_began",
        "_clock",
        "_until",
        "connected",
        "cut_short",
        "headers_until",
        "number",
        "producer_failed",
        "sent",
    )

    def __init__(
        self,
        client: Mapping[str, float | None],
        headers_until: float | None,
        until: float | None,
        clock: Clock,
        number: int = 1,
    ) -> None:
        dict.__init__(self, client)  # of which `super()` would make an object first
        self.headers_until = headers_until
        self._until = until
        self._clock = clock
        self._began = self._allowed = 0.0
        self.number = number
        """Of the attempt."""
        self.connected = False
        """Whether this attempt had to connect."""
        self.sent = False
        """Whether a byte of the request may have been written."""
        self.cut_short = False
        """Whether the server stopped reading before the request was written."""
        self.producer_failed = False
        """Whether the request's body raised while it was read."""

    def get(self, key: str, default: Any = None) -> Any:
        if key == "connect":
            self.connected = True
            return self
        if key == "write":
            self.sent = True
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
        self._began = now = self._clock()
        left = end - now
        self._allowed = allowed = left if own is None or left < own else own
        return allowed

    def overdue(self) -> float | None:
        """Return the seconds since the last read's or write's time was over; None where that is not known."""
        late = self._clock() - self._began - self._allowed
        return late if self._began and late >= 0 else None

    def tcp(self, patience: Patience, state: EndpointState, late: type[BaseException]) -> Step:
        """Return the wait for a TCP connection to this endpoint, which begins now; `late` is raised at its end."""
        return self._wait(patience.tcp, state, late)

    def tls(self, patience: Patience, state: EndpointState, late: type[BaseException]) -> Step:
        """Return the wait for a TLS handshake."""
        return self._wait(patience.tls, state, late)

    def _wait(self, pace: Pace, state: EndpointState, late: type[BaseException]) -> Step:
        own, end = super().get("connect"), self.headers_until
        left = None if end is None else end - self._clock()
        return pace.wait(state, self.number, own, left, late, apart=set_apart(self))

    def headers_are_here(self) -> None:
        """From now on only the caller's deadline bounds the call."""
        self.headers_until = self._until

    def end_within(self, seconds: float) -> None:
        """Whatever is read from now on must come within `seconds`."""
        self.headers_until = self._clock() + seconds

    def over(self) -> bool:
        """Whether the caller's deadline has passed."""
        return self._until is not None and self._clock() >= self._until


def set_apart(client: Mapping[str, float | None]) -> bool:
    """Whether connect= was given: a number that no other part has.

    ``timeout=5`` and ``Timeout(5, read=60)`` are for everything, and fill it in; nothing tells it from
    ``Timeout(5, connect=5)``.
    """
    parts = dict(client)
    own = parts.pop("connect", None)
    return own is not None and own not in parts.values()
