"""EndpointState: what one process remembers about one endpoint.

Created once per identity (`Endpoint.same_as`) and kept through every snapshot that still holds the endpoint, so that
latency, ejection and the requests in flight survive discovery. Policies read it, leases write it.

In flight is a set of weak references to leases, not a number: adding and removing are single set operations, atomic
without a lock of ours, removing twice is noticed, and a lease that is lost (an interrupt between two bytecodes, a
response that was not closed) takes its reference along when it dies. That last step runs in C (`set.discard` is the
weak reference's own callback): no Python frame in which an interrupt could be swallowed, and no lock in a finalizer.

Counters are plain integers. Under threads they may lose an increment now and then; nothing decides on their exactness.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any, TypeAlias
from weakref import ref

from kubelb.model import Endpoint

__all__ = ["NEVER", "EndpointState", "Phase", "Usable"]

NEVER = float("-inf")
"""The time of something that has not happened."""


class Phase(Enum):
    """Where an endpoint stands with outlier detection."""

    ACTIVE = "active"
    EJECTED = "ejected"
    """No traffic until `EndpointState.until`."""
    DUE = "due"
    """The ejection is over and the next request is its probe."""
    PROBING = "probing"
    """One request is trying it."""


class EndpointState:
    """Everything remembered about one endpoint; slots only, because the hot path reads them."""

    __slots__ = (
        "__weakref__",
        "charge",
        "charged",
        "circuits",
        "comparison",
        "consecutive",
        "contrast",
        "cost",
        "cut",
        "discard",
        "doubts",
        "ejections",
        "endpoint",
        "failures",
        "faults",
        "full_until",
        "in_use",
        "judged",
        "leases",
        "notes",
        "odd",
        "others",
        "parted",
        "parted_after",
        "parted_lost",
        "phase",
        "recent_calls",
        "recent_ends",
        "refusals",
        "refused",
        "removed",
        "rests_until",
        "rule",
        "silent",
        "silent_at",
        "spared",
        "stamp",
        "successes",
        "tracker",
        "turn",
        "unreachable",
        "unsent",
        "until",
        "warm_since",
        "why",
    )

    def __init__(self, endpoint: Endpoint, tracker: Any) -> None:
        self.endpoint = endpoint
        self.tracker = tracker
        """Receives what leases report; the Balancer."""
        self.leases: set[ref[Any] | None] = set()  # never None; the type is that of a released lease's reference
        self.discard = self.leases.discard
        self.cost = 0.0
        """Peak EWMA of latency in seconds, as of `stamp`; lesser is better."""
        self.stamp = NEVER
        """When `cost` was last fed; earlier while a charge is held, see `kubelb.core.charges`."""
        self.charge = 0.0
        """Seconds that its last failure counts for, until it has succeeded again; then 0."""
        self.charged = NEVER
        """When that failure was."""
        self.doubts = 0.0
        """Recent failures: one less with every decay."""
        self.successes = 0
        self.failures = 0
        self.faults = 0
        """Failures that it is to blame for: those but 429."""
        self.refusals = 0
        """Successes that were an answer and no service: a 4xx but 408, 501, a status such as NOT_FOUND."""
        self.odd = 0
        """Ends that kubelb does not know; among `others` too."""
        self.contrast: Any = None
        """Where it and its peers stood at its first refusal; see `kubelb.core.health.sinkholes`."""
        self.recent_ends = 0.0, 0.0, 0
        """Recent ends that were good, and that were not, and all ends by then; see there."""
        self.others = 0
        """Ends that say nothing about it: cancelled, neutral, shared with one that was counted, without an outcome."""
        self.parted = NEVER
        """When it last ended a connection as planned, and that was believed."""
        self.parted_after = 0
        """Its successes by then."""
        self.parted_lost = 0
        """Requests that planned ends have left without an answer since then."""
        self.consecutive = 0
        """Failures in a row."""
        self.silent = 0
        """Those among them that were silence: a deadline ended and no answer had begun."""
        self.silent_at = NEVER
        """When it was last silent."""
        self.comparison: Any = None
        """What its peers have done since it is silent; see `kubelb.core.health.silence`."""
        self.recent_calls = 0.0, 0.0, 0
        """Recent faults and calls, and all calls by then; see there."""
        self.unsent = 0
        """The last of those without a break that could not even connect; stale where it is more than `consecutive`."""
        self.refused = False
        """Whether the last of them was refused, which its host did, and no network."""
        self.cut = 0, 0
        """Failures in a row that were excused, as there was no route to any; and its successes by the last of them."""
        self.unreachable = NEVER
        """When there was no route to it, last."""
        self.phase = Phase.ACTIVE
        self.until = NEVER
        """End of the ejection; once ACTIVE again, when it came back."""
        self.ejections = 0
        """Exponent of the next ejection time."""
        self.rule = ""
        """Which rule ejected it last."""
        self.why = ""
        """The numbers behind that, in words."""
        self.notes: list[tuple[float, int, int]] = []
        """``(time, requests, faults)``: totals by then, oldest first; see `kubelb.core.health.shares`."""
        self.turn = NEVER
        """When the next note is due."""
        self.circuits: tuple[Any, ...] = ()
        """Those that its outcomes are written into, where there is a breaker; see `kubelb.core.health.circuits`."""
        self.judged = NEVER
        """No judgement by its failure share before then."""
        self.spared = NEVER
        """When it was last said that it fails and is kept."""
        self.rests_until = NEVER
        """End of its rest, in which others are preferred; see `kubelb.core.health.rests`."""
        self.full_until = NEVER
        """End of the time for which it said that it is full, whether it rests for that or not."""
        self.warm_since = NEVER
        """Start of its slow start."""
        self.in_use = False
        """Among `Snapshot.endpoints`, not parked."""
        self.removed = False
        """Gone from discovery: finish what runs, then close what was kept for it."""

    @property
    def in_flight(self) -> int:
        """Requests running on it now, streaming bodies included."""
        return len(self.leases)

    @property
    def good(self) -> int:
        """Requests that ended well."""
        return self.successes - self.refusals

    @property
    def bad(self) -> int:
        """Requests that did not: refused, failed, or ended in a way that kubelb does not know."""
        return self.refusals + self.failures + self.odd

    @property
    def cut_off(self) -> int:
        """How often in a row, and without a success since, there was no route to it nor to any other."""
        count, successes = self.cut
        return count if successes == self.successes else 0

    @property
    def picks(self) -> int:
        """Times it was chosen, lost leases aside; added up here, so that the pick itself need not count."""
        return self.successes + self.failures + self.others + len(self.leases)

    def forget(self) -> None:
        """Begin anew: what was measured of it before it was last in use says nothing about it now."""
        self.cost, self.stamp, self.consecutive = 0.0, NEVER, 0
        self.charge, self.charged, self.doubts = 0.0, NEVER, 0.0
        self.cut, self.unreachable = (0, 0), NEVER
        self.circuits = ()
        self.contrast = None
        self.recent_ends = 0.0, 0.0, self.good + self.bad
        self.recent_calls = 0.0, 0.0, self.successes + self.failures
        self.forget_share()

    def forget_share(self) -> None:
        """Count its failures from now on."""
        self.notes = []  # not cleared: another thread may be reading them
        self.turn = self.judged = self.spared = self.silent_at = NEVER

    def __repr__(self) -> str:
        gone = " removed" if self.removed else "" if self.in_use else " parked"
        return f"<{self.endpoint.authority} {self.phase.value}{gone} in_flight={len(self.leases)} cost={self.cost:.4f}>"


Usable: TypeAlias = Callable[[EndpointState], bool]
"""Whether a caller can use a state now; asked on the path of a request, so it must be quick and must not raise."""
