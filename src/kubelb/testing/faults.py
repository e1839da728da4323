"""What a test can do to the API server, as plain state that the server consults before each answer and each byte."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class ScriptedFailure:
    """An answer to give instead of the true one. `times` None: for ever."""

    status: int
    times: int | None
    verb: str | None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Faults:
    """Every switch, in its healthy position at first."""

    def __init__(self) -> None:
        self.flowing = threading.Event()  # cleared by freeze(): connections are accepted, nothing is sent
        self.flowing.set()
        self.stopping = threading.Event()  # set when the cluster closes, so that no fault sleeps through it
        self.delay = 0.0
        self.header_delay = 0.0
        self.split = 0
        self.watch_list = True
        self.forbidden: set[tuple[str | None, str | None]] = set()  # (verb, namespace); None is any
        self._lock = threading.Lock()
        self._failures: list[ScriptedFailure] = []

    def script(self, failure: ScriptedFailure) -> None:
        """Those with a count come first, in their order; one without a count replaces its like."""
        with self._lock:
            if failure.times is None:
                self._failures = [f for f in self._failures if f.times is not None or f.verb != failure.verb]
                self._failures.append(failure)
            else:
                counted = sum(f.times is not None for f in self._failures)
                self._failures.insert(counted, failure)

    def failure_for(self, verb: str) -> ScriptedFailure | None:
        """The failure that this request meets; takes one off its count."""
        with self._lock:
            for failure in self._failures:
                if failure.verb in (None, verb):
                    if failure.times is not None:
                        failure.times -= 1
                        if failure.times <= 0:
                            self._failures.remove(failure)
                    return failure
        return None

    def forbids(self, verb: str, namespace: str | None) -> bool:
        """Whether a permission was taken away from every user."""
        return any(v in (None, verb) and n in (None, namespace) for v, n in self.forbidden)

    def heal(self) -> None:
        """Every switch back; what is frozen flows."""
        with self._lock:
            self._failures.clear()
        self.delay = self.header_delay = 0.0
        self.split = 0
        self.forbidden.clear()
        self.flowing.set()


@dataclass(slots=True)
class ApiRequest:
    """One request to the API server, as `cluster.api.requests` records it when it arrives.

    `verb` is Kubernetes' word ("list", "watch", "get", "create"), `at` is `time.monotonic()` when it had been read,
    `status` the code of its answer (0 while there is none), `user` the name behind the token (None for a token that
    is not known). `headers` have lower-case names; of Authorization only the scheme is kept.
    """

    verb: str
    method: str
    path: str
    query: Mapping[str, str]
    at: float
    status: int
    user: str | None
    headers: Mapping[str, str]
    namespace: str | None
    resource: str | None
