"""What a backend has seen and what is wrong with it, whichever protocol it speaks.

A `Responder` holds the counters and the faults of one backend; its two kinds, `HttpResponder` and `GrpcResponder`,
answer on connections. Of pods and slices it knows nothing: `Backend` tells it when a process ends or begins anew.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace
from typing import Any

from kubelb.testing.answers import Tally
from kubelb.testing.backend_faults import BackendFaults
from kubelb.testing.connection import Connection
from kubelb.testing.http1 import Received

_HEALTHY = BackendFaults()


class Responder:
    """Serves the connections of one backend. A healthy one has no faults, so that the hot path tests one name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.requests = 0
        self.in_flight = 0
        self.paths = Tally()
        self.log: deque[Received] = deque(maxlen=1000)
        self.close_after = False  # draining: every answer of HTTP/1.1 says `Connection: close`
        self.dead = False
        self._lock = threading.Lock()
        self._faults: BackendFaults | None = None
        self._times: int | None = None

    # -- counters and faults

    def set_faults(self, *, times: int | None = None, **changes: Any) -> None:
        """Add to the faults; the next `times` requests meet them, or all."""
        with self._lock:
            self._faults = replace(self._faults or _HEALTHY, **changes)
            self._times = times

    def failure(self, status: Any) -> dict[str, Any]:
        """The fault of answering with `status`, None for the usual one. Raises `TypeError` for one that it lacks."""
        raise NotImplementedError

    def clear(self) -> None:
        """Counters to zero, except `in_flight`, which is a fact."""
        with self._lock:
            self.requests = 0
            self.paths = Tally()
            self.log.clear()

    def begin(self, request: Received) -> None:
        """One request more, and one more that is being worked on."""
        with self._lock:
            self.requests += 1
            self.in_flight += 1
            self.log.append(request)
        self.paths.count(request.path)

    def finished(self) -> None:
        """One request fewer is being worked on."""
        with self._lock:
            self.in_flight -= 1

    def take_faults(self) -> BackendFaults | None:
        """The faults that this request meets; one off the count."""
        if self._faults is None:
            return None
        with self._lock:
            faults: BackendFaults | None = self._faults
            if faults is not None and self._times is not None:
                self._times -= 1
                if self._times <= 0:
                    self._times = None
                    # A delay has no count: it stays.
                    self._faults = BackendFaults(delay=faults.delay) if faults.delay else None
            return faults

    # -- the life of its process

    def start(self) -> None:
        """Be able to answer: a backend calls it once, before any client knows its address."""

    def serve(self, connection: Connection) -> None:
        """Answer on one connection until it ends; the connection's own thread calls it."""
        raise NotImplementedError

    def settle(self) -> None:
        """Let answers that are given, but not sent, go out first: for a caller that is about to cut what is idle."""

    def heal(self) -> None:
        """No faults; what sleeps in one goes on. One that was dead lives."""
        with self._lock:
            self._faults = self._times = None
            self.close_after = self.dead = False

    def die(self) -> None:
        """Answer nothing any more, and wake what sleeps. The caller cuts the connections next."""
        with self._lock:
            self.dead = True

    def go_away(self, seconds: float) -> None:  # noqa: ARG002
        """Tell the clients of every open connection to make a new one; requests under way have `seconds` more.

        Raises `TypeError` in a protocol without a word for it.
        """
        raise TypeError("goaway() is for gRPC backends: HTTP/1.1 has no GOAWAY; use close_idle() or drain()")

    def say_goodbye(self, seconds: float) -> bool:  # noqa: ARG002
        """Tell every client to go, while requests under way have `seconds` more; False in a protocol without a word
        for it, whose idle connections are then simply closed. Returns at once.
        """
        return False

    def bury(self, *, for_good: bool = False) -> None:
        """Let go of what is left of a process that died and whose connections were cut. Returns at once.

        `for_good`: no `heal` brings it back.
        """

    def join(self, until: float) -> None:
        """Wait for what `bury` ends, no longer than to `until` (`time.monotonic()`)."""


class Done:
    """Takes one request out of flight, the first time it is called."""

    __slots__ = ("_responder",)

    def __init__(self, responder: Responder) -> None:
        self._responder: Responder | None = responder

    def __call__(self) -> None:
        responder, self._responder = self._responder, None
        if responder is not None:
            responder.finished()
