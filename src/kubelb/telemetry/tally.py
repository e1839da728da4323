"""Tally: the plain numbers behind the counters of one load balancer.

Nothing is counted on the path of a request that is not counted there anyway: endpoint states hold how often each was
picked and how that ended, and this adds them up when they are read. Two things would be lost on the way and are kept
here: what an endpoint had counted when it went away, and events.

An endpoint that went away may still have requests running, so its state is looked at until the last has ended.
"""

import threading
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from kubelb.core.balancer import Balancer
from kubelb.core.events import OTHER, Attributes, Event
from kubelb.core.retry.budget import BudgetState
from kubelb.core.state import EndpointState

__all__ = ["Tally", "Totals"]

KINDS = 64
"""Sets of attributes that are told apart for one event; a user's own words may stand in them."""


class Totals(NamedTuple):
    """Since the load balancer was built, or since the fork in a child."""

    successes: int = 0
    failures: int = 0
    others: int = 0
    active: int = 0
    requests: int = 0

    def plus(self, state: EndpointState) -> "Totals":
        """Add what an endpoint has counted."""
        return self._replace(
            successes=self.successes + state.successes,
            failures=self.failures + state.failures,
            others=self.others + state.others,
            active=self.active + len(state.leases),
        )


class Tally:
    """See the module."""

    def __init__(self, scheme: str = "") -> None:
        """`scheme` is the target's, by which some events can be ruled out."""
        self._scheme = scheme
        self._lock = threading.Lock()
        self._left: list[EndpointState] = []
        self._gone = Totals()
        self._base = Totals()
        self._events: Counter[tuple[type[Event], Attributes]] = Counter()
        self.budget: BudgetState | None = None
        """What is left for retries; None for no limit."""
        self.states: tuple[str, ...] = ("ready",)
        """Words for the state of an endpoint that were reported so far."""

    def count(self, event: Event) -> None:
        """Count an event that has a counter."""
        kind = type(event)
        if kind.counter is None:
            return
        attributes = event.attributes
        with self._lock:
            if (kind, attributes) not in self._events and len(self._of(kind)) >= KINDS:
                attributes = tuple((name, OTHER) for name, _ in attributes)
            self._events[kind, attributes] += 1

    def events(self, kind: type[Event], *, observing: bool = True) -> dict[Attributes, int]:
        """Return how many there were of one kind, by their attributes: 0 for those that are known beforehand.

        A series that begins with its first event has no increase to tell of: a collector sees none before it.
        """
        counter = kind.counter
        if counter is None:
            return {}
        possible = kind.schemes is None or self._scheme in kind.schemes
        zeros = dict.fromkeys(counter.beforehand(possible=possible, observing=observing), 0)
        with self._lock:
            return zeros | self._of(kind)

    def _of(self, kind: type[Event]) -> dict[Attributes, int]:
        return {attributes: count for (of, attributes), count in self._events.items() if of is kind}

    def leave(self, states: Iterable[EndpointState]) -> None:
        """Take over the counts of endpoints that went away."""
        with self._lock:
            self._left.extend(states)
            self._fold()

    def totals(self, balancer: Balancer) -> Totals:
        """Add everything up."""
        states = balancer.states()
        with self._lock:
            self._fold()
            totals = self._gone
            for state in (*self._left, *states):
                totals = totals.plus(state)
        base = self._base
        return Totals(
            totals.successes - base.successes,
            totals.failures - base.failures,
            totals.others - base.others,
            totals.active,
            balancer.requests - base.requests,
        )

    def after_fork_in_child(self, balancer: Balancer) -> None:
        """The parent reports what was until now."""
        self._lock = threading.Lock()
        self._events = Counter()
        for state in self._left:
            state.leases.clear()
        self._base = Totals()
        self._base = self.totals(balancer)

    def _fold(self) -> None:
        ended = [state for state in self._left if not state.leases]
        if ended:
            self._left = [state for state in self._left if state.leases]
            for state in ended:
                self._gone = self._gone.plus(state)
