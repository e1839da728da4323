"""What an attempt may take, and how far it got.

The largest part of requests' timeout bounds all tries of a call up to the response headers. Within that, TCP and the
TLS handshake take the client's connect timeout each at most, and less where it was not set apart (`patience.py`); each
single read or write takes the client's read timeout at most. (urllib3 alone gives a whole upload the connect timeout,
and lets a server drip its headers for ever.) Once the headers are here, each read of the body has the client's read
timeout again. A deadline (`kubelb.hints`) bounds everything, the body included.

urllib3 has no place where a caller could hang such a value, so that of the attempt that is being made here is
`current.bounds`. Connections note there what decides about retries: whether they connected, whether a byte was sent.
"""

from contextvars import ContextVar
from typing import Any

from urllib3.util import Timeout

from kubelb.adapters._requests.place import Place
from kubelb.adapters.defaults import LEAST
from kubelb.adapters.patience import Pace, Patience, Step
from kubelb.clock import Clock
from kubelb.core.state import EndpointState
from kubelb.printable import shown

__all__ = ["Bounds", "Limits", "current"]


class Limits:
    """requests' timeout, understood: seconds to connect, for each read, and for all tries; None for any number.

    A connect timeout is set apart by a pair of two numbers, or by urllib3's `Timeout(connect=...)`: ``timeout=5`` is
    for everything, and so is ``(5, 5)``, which says no more.

    Raises ValueError, as requests does, for what is no timeout.
    """

    __slots__ = ("apart", "connect", "in_all", "read")

    def __init__(self, timeout: Any) -> None:
        self.connect: float | None = None
        self.read: float | None = None
        self.in_all: float | None = None
        self.apart = False
        """Whether the connect timeout was set apart: a number of its own."""
        if timeout is None:
            return
        if isinstance(timeout, tuple):
            if len(timeout) != 2:
                raise ValueError(f"timeout={shown(timeout)}: give seconds, or a pair (connect, read)")
            timeout = Timeout(connect=timeout[0], read=timeout[1])
        timeout = timeout.clone() if isinstance(timeout, Timeout) else Timeout(connect=timeout, read=timeout)
        connect, read = timeout._connect, timeout._read  # noqa: SLF001  # as they were given
        self.apart = isinstance(connect, int | float) and connect != read
        timeout.start_connect()
        self.connect = timeout.resolve_default_timeout(timeout.connect_timeout)
        self.read = timeout.read_timeout
        total = timeout.resolve_default_timeout(timeout.total)
        parts = [part for part in (self.connect, self.read) if part is not None]
        self.in_all = total if total is not None else max(parts) if len(parts) == 2 else None


class Bounds:
    """The limits of one attempt, in the balancer's time, and its traces."""

    __slots__ = (
        "_allowed",
        "_began",
        "_clock",
        "_deadline",
        "_limits",
        "_number",
        "_patience",
        "_state",
        "connected",
        "cut_short",
        "place",
        "producer_failed",
        "read",
        "sent",
        "until",
    )

    def __init__(
        self,
        limits: Limits,
        until: float | None,
        deadline: float | None,
        clock: Clock,
        patience: Patience,
        state: EndpointState,
        number: int,
        place: Place,
    ) -> None:
        self._limits = limits
        self.place = place
        """Where the request goes, by its URL."""
        self.read = limits.read
        self._patience = patience
        self._state = state
        self._number = number
        self._deadline = deadline
        self.until = until
        """When the response headers must be here."""
        self._clock = clock
        self._began = self._allowed = 0.0
        self.connected = False
        """Whether this attempt had to connect."""
        self.sent = False
        """Whether a byte of the request may have been written."""
        self.cut_short = False
        """Whether the server stopped reading before the request was written."""
        self.producer_failed = False
        """Whether it ended because the caller's body could not be produced."""

    def timeout(self) -> Timeout:
        """Return urllib3's timeout for an attempt that begins now; connections set a wait of their own to connect."""
        left = None if self.until is None else max(LEAST, self.until - self._clock())
        return Timeout(connect=None, read=self.read if left is None else min(left, self.read or left))

    def tcp(self, late: type[BaseException]) -> Step:
        """Return the wait for a TCP connection, which begins now; `late` is raised at its end."""
        return self._wait(self._patience.tcp, late)

    def tls(self, late: type[BaseException]) -> Step:
        """Return the wait for a TLS handshake."""
        return self._wait(self._patience.tls, late)

    def _wait(self, pace: Pace, late: type[BaseException]) -> Step:
        limits, until = self._limits, self.until
        left = None if until is None else until - self._clock()
        return pace.wait(self._state, self._number, limits.connect, left, late, apart=limits.apart)

    def left(self) -> float | None:
        """Return the seconds for a read or write that begins now, None for any number.

        Raises TimeoutError when time is over.
        """
        if self.until is None:
            return self.read
        self._began = now = self._clock()
        self._allowed = left = self.until - now
        if left <= 0:
            raise TimeoutError("timed out")
        if self.read is not None and self.read < left:
            self._allowed = left = self.read
        return left

    def overdue(self) -> float | None:
        """Return the seconds since the last read's or write's time was over; None where that is not known."""
        late = self._clock() - self._began - self._allowed
        return late if self._began and late >= 0 else None

    def headers_are_here(self) -> float | None:
        """Return the client's read timeout: that, and the caller's deadline, bound what is read from now on."""
        self.until = self._deadline
        return self.read

    def end_within(self, seconds: float) -> None:
        """Whatever is read from now on must come within `seconds`."""
        self.until = self._clock() + seconds

    def over(self) -> bool:
        """Whether the caller's deadline has passed."""
        return self._deadline is not None and self._clock() >= self._deadline


_bounds: ContextVar[Bounds] = ContextVar("kubelb_bounds", default=None)  # type: ignore[arg-type]
"""The default is never used: an attempt always sets its own."""


class _Current:
    """A context variable, for that is each thread's and each greenlet's own, whenever threads were patched."""

    __slots__ = ()

    @property
    def bounds(self) -> Bounds:
        """Of the attempt that is being made here."""
        return _bounds.get()

    @bounds.setter
    def bounds(self, bounds: Bounds) -> None:
        _bounds.set(bounds)


current = _Current()
