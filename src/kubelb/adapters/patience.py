"""How long a connection may take to be made: a wait for TCP, another one for the TLS handshake.

Where the client's connect timeout was *set apart* from its other timeouts, each of the two waits has exactly that, as
with the bare client. Else the client's number says only what is too long for it, and a pod that does not answer is left
for another one before that: pods are near, and another pod is nearer than a slow one.

    TCP   left after a second
    TLS   left after five seconds while it is not known how long a handshake takes here; then after three times the
          quickest recent one, a second at least

Part of the time that is left, a quarter and a second at most, is kept back for the pod that comes next, unless twice
the quickest would not fit in then. And a pod is left only where that leads to something. The whole wait is the client's

- where this is the only endpoint, or the last try, or the retry budget has nothing left for the next one: so what was
  begun is not thrown away for nothing, and never more connects and handshakes are begun than the budget pays for;
- where every endpoint has run out of time since the last success. All are slow alike: to leave one would add to the
  load that makes them slow. Where two have, the quickest one of better times counts no more.

All this is one transport's own: what it has learnt of its service, by its own connects.
"""

from typing import Any
from weakref import WeakSet

from kubelb.adapters.defaults import CONNECT, HANDSHAKE, LEAST
from kubelb.core.state import EndpointState
from kubelb.service import Service

__all__ = ["Pace", "Patience", "Step"]

TIMES = 3.0
"""A pod is left when it takes so many times as long as the quickest."""
KEEP = 0.25, 1.0
"""For the next pod: a share of the time that is left, and seconds at most."""


class Patience:
    """What one transport knows of connecting to its service."""

    def __init__(self, lb: Service) -> None:
        self.lb = lb
        self.hasty: WeakSet[Step] = WeakSet()
        """Waits under way that end early, each in the hope of one extra try."""
        self.tcp = Pace(self, CONNECT)
        self.tls = Pace(self, HANDSHAKE)

    def leads_on(self, state: EndpointState, number: int) -> bool:
        """Whether attempt `number`, should it leave `state` now, would be followed by one on another endpoint."""
        return self.lb.can_follow(state, number, len(self.hasty))


class Pace:
    """How quick one half of connecting is: TCP, or the TLS handshake."""

    def __init__(self, patience: Patience, unknown: float) -> None:
        self._patience = patience
        self._unknown = unknown
        """Seconds for a wait while nothing better is known."""
        self._clock = patience.lb.balancer.clock
        self._quickest: float | None = None
        """Seconds; falls at once, and rises to twice of itself at most with each success."""
        self._late: frozenset[EndpointState] = frozenset()
        """Endpoints that have run out of time since the last success."""

    def wait(
        self,
        state: EndpointState,
        number: int,
        own: float | None,
        left: float | None,
        late: type[BaseException],
        *,
        apart: bool,
    ) -> "Step":
        """Return a wait that begins now, of attempt `number`; its seconds are what `with` gives, None for any number.

        `own` is the client's connect timeout, `apart` whether that was set apart from its others, `left` what the call
        has left. `late` is raised when the time is over.
        """
        most = own if left is None or (own is not None and own < left) else left
        if most is not None:
            most = max(most, LEAST)
        step = Step(self, state, most, late, self._clock())
        if not apart:
            seconds = self._hasty(left)
            if (most is None or seconds < most) and self._leads_on(state, number):
                step.seconds = seconds
                self._patience.hasty.add(step)
        return step

    def _hasty(self, left: float | None) -> float:
        quickest = self._quickest
        if quickest is None or len(self._late) > 1:
            quickest, seconds = 0.0, self._unknown
        else:
            seconds = max(CONNECT, TIMES * quickest)
        if left is not None:
            share, most = KEEP
            seconds = min(seconds, left - min(most, share * left))
        return max(seconds, 2 * quickest, LEAST)

    def _leads_on(self, state: EndpointState, number: int) -> bool:
        late = self._late
        if late and not self._patience.lb.balancer.has_other_than(late):
            return False
        return self._patience.leads_on(state, number)

    def ended(self, step: "Step", error: type[BaseException] | None) -> None:
        """Learn from the end of a wait."""
        self._patience.hasty.discard(step)
        if error is None:
            seconds, quickest = max(self._clock() - step.began, LEAST), self._quickest
            known = quickest is not None and len(self._late) < 2
            self._quickest = min(seconds, 2 * quickest) if known and quickest is not None else seconds
            if self._late:
                self._late = frozenset()
        elif issubclass(error, step.late):
            self._late = frozenset(state for state in self._late if not state.removed) | {step.state}


class Step:
    """One wait, a context manager that gives its seconds; made by `Pace.wait` only."""

    __slots__ = ("__weakref__", "_pace", "began", "late", "seconds", "state")

    def __init__(
        self, pace: Pace, state: EndpointState, seconds: float | None, late: type[BaseException], began: float
    ) -> None:
        self._pace = pace
        self.state = state
        self.seconds = seconds
        self.late = late
        self.began = began

    def __enter__(self) -> float | None:
        return self.seconds

    def __exit__(self, error: type[BaseException] | None, *_: Any) -> None:
        self._pace.ended(self, error)
