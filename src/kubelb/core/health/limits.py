"""Concurrency limits: refuse above a number rather than queue without end (what Envoy calls circuit breakers).

A service that answers slowly holds its callers' requests, and a caller that keeps sending holds ever more of them, each
with its memory, its socket, its thread. A limit turns that into an error at once, while there is still something to do
about it. Nothing is queued here: a caller that is refused decides what to do.

In flight is a set of weak references to leases, for the service as for each endpoint (`kubelb.core.state`), so that it
is right after any storm of cancels, drops and interrupts. A request is put in before it is counted and taken out again
where that was one too many: a limit is never exceeded, by any number of threads and without a lock; in the moment where
two of them reach for the last place both may be refused.

Limits are each process's own: n workers may have n times as many in flight.
"""

from collections.abc import Callable, Collection, Iterator
from functools import partial
from sys import maxsize
from typing import Any, TypeAlias
from weakref import ref

from kubelb.core.events import Emit, LimitReached
from kubelb.core.lease import Lease
from kubelb.core.options import check_flags, whole
from kubelb.core.refusal import Unconnected
from kubelb.core.state import EndpointState, Usable
from kubelb.errors import Overloaded, Unusable
from kubelb.model import ANY, SUCCESS, Endpoint, Outcome, Request
from kubelb.process import here, settle
from kubelb.records import record

__all__ = ["ConcurrencyLimits", "Limiter"]

Choose: TypeAlias = Callable[[Request, Collection[EndpointState], Usable | None], Lease]
Marks: TypeAlias = set[ref[Any]]

RACES = 3
"""Times that another endpoint is chosen where other threads took the last place of one."""


@record(frozen=True, slots=True)
class ConcurrencyLimits:
    """How much there may be at a time, in this process; None for no limit.

    - `max_requests` (1024) in flight to the service, streaming bodies and retries included;
    - `max_requests_per_endpoint` (None) in flight to one endpoint: others are chosen, `Unusable` where all are full;
    - `max_pending` (1024) calls that wait for the first endpoints, or for a connection (gRPC);
    - `max_retries` (None) extra tries in flight: the retry budget bounds them already, and better for large services
      (Envoy's 3 is none where there is a budget).

    A call too many gets `Overloaded`; a retry too many is not made, and the call ends as its last try did. With
    ``observe=True`` nothing is refused: an event says what would have been.

    >>> limits = ConcurrencyLimits(max_requests=100, max_requests_per_endpoint=20)
    """

    max_requests: int | None = 1024
    max_requests_per_endpoint: int | None = None
    max_pending: int | None = 1024
    max_retries: int | None = None
    observe: bool = False

    def __post_init__(self) -> None:
        for name, least in (
            ("max_requests", 1),
            ("max_requests_per_endpoint", 1),
            ("max_pending", 0),
            ("max_retries", 0),
        ):
            number = getattr(self, name)
            if number is not None and not (whole(number) and number >= least):
                raise ValueError(
                    f"ConcurrencyLimits({name}={number!r}): give a whole number, {least} or more, None for no limit"
                )
        check_flags(self, "observe")


class Counted(Lease):
    """A Lease that counts towards the service's limit too."""

    __slots__ = ("_all", "_mark")

    def __init__(self, state: EndpointState, start: float, everyone: Marks) -> None:
        Lease.__init__(self, state, start)
        self._all = everyone
        self._mark: ref[Counted] | None
        self._mark = me = ref(self, everyone.discard)
        everyone.add(me)

    def release(self, outcome: Outcome | None = SUCCESS) -> None:
        """As of any Lease."""
        if self._mark is not None:
            self._all.discard(self._mark)
            self._mark = None  # dead references call nothing back
        Lease.release(self, outcome)


class Extra(Counted):
    """The same of an extra try, which counts towards the limit of retries as well."""

    __slots__ = ("_tries", "_try")

    def __init__(self, state: EndpointState, start: float, everyone: Marks, tries: Marks) -> None:
        Counted.__init__(self, state, start, everyone)
        self._tries = tries
        self._try = me = ref(self, tries.discard)
        tries.add(me)

    def release(self, outcome: Outcome | None = SUCCESS) -> None:
        """As of any Lease."""
        self._tries.discard(self._try)
        Counted.release(self, outcome)


class Limiter:
    """The limits of one balancer; its `pick` stands before the balancer's own."""

    def __init__(
        self,
        service: str,
        config: ConcurrencyLimits,
        emit: Emit,
        choose: Choose,
        states: Callable[[], Collection[EndpointState]],
    ) -> None:
        """`choose` is the balancer's own pick, `states` returns those that it chooses among."""
        self.service = service
        self.config = config
        self.requests: Marks = set()
        """In flight."""
        self.retries: Marks = set()
        """Extra tries in flight."""
        self.pending: set[object] = set()
        """Calls that wait."""
        self._emit = emit
        self._choose = choose
        self._states = states
        self.enforces = not config.observe
        self._spreads = self.enforces and config.max_requests_per_endpoint is not None
        limits = (config.max_requests, config.max_requests_per_endpoint, config.max_pending, config.max_retries)
        self._most, self._each, self._waiting, self._again = (maxsize if n is None else n for n in limits)

    def lease(self, state: EndpointState, start: float) -> Lease:
        """Make the lease of a first attempt."""
        return Counted(state, start, self.requests)

    def lease_again(self, state: EndpointState, start: float) -> Lease:
        """Make the lease of an extra try."""
        return Extra(state, start, self.requests, self.retries)

    def pick(
        self, request: Request = ANY, avoid: Collection[EndpointState] = (), usable: Usable | None = None
    ) -> Lease:
        """As `Balancer.pick`, as far as the limits allow: Overloaded, or Unusable where each endpoint is full."""
        if not here[0]:
            settle()  # before anything of the parent's is counted
        requests, most = self.requests, self._most
        if len(requests) >= most:
            self._reached("max_requests", most, "requests are in flight")
        if avoid and len(self.retries) >= self._again and self.enforces:
            self._reached("max_retries", self._again, "retries are in flight")
        if self._spreads:
            lease = self._spread(request, avoid, usable)
        else:
            lease = self._choose(request, avoid, usable)
            if len(lease.state.leases) > self._each:  # only an observer's
                self._say("max_requests_per_endpoint", self._each, lease.endpoint)
        if len(requests) > most and self.enforces:
            lease.release(None)
            self._reached("max_requests", most, "requests are in flight")
        return lease

    def has_room_to_retry(self) -> bool:
        """Whether `allows_retry` would say yes now; tells of nothing."""
        return not self.enforces or len(self.retries) < self._again

    def allows_retry(self) -> bool:
        """Whether another extra try may be made now; asked before its budget and its wait."""
        if len(self.retries) >= self._again:
            self._say("max_retries", self._again)
            return not self.enforces
        return True

    def wait(self) -> object:
        """Begin to wait for endpoints, or raise Overloaded; returns what `go_on` takes."""
        if len(self.pending) >= self._waiting:
            self._reached("max_pending", self._waiting, "calls wait for endpoints")
        place = object()
        self.pending.add(place)
        return place

    def go_on(self, place: object) -> None:
        """End a wait, however it ended."""
        self.pending.discard(place)

    def reached(self, state: EndpointState) -> Iterator[tuple[str, int, str]]:
        """Return the limits that stand between this endpoint and a request now, with their numbers, and its word."""
        if len(state.leases) >= self._each:
            yield "max_requests_per_endpoint", self._each, "full"
        if len(self.requests) >= self._most:
            yield "max_requests", self._most, ""

    def forget(self) -> None:
        """In a forked child: all that is the parent's."""
        for count in (self.requests, self.retries, self.pending):
            count.clear()

    def _spread(self, request: Request, avoid: Collection[EndpointState], usable: Usable | None) -> Lease:
        """Choose an endpoint that is not full."""
        each = self._each
        free = self._free
        if usable is not None:
            free = partial(_both, self._free, usable)
        try:
            for _ in range(RACES):
                lease = self._choose(request, avoid, free)
                if len(lease.state.leases) <= each:
                    return lease
                lease.release(None)
        except Unconnected:
            if any(map(self._free, self._states())):
                raise  # it is a connection that is missing
        count = len(self._states())
        self._say("max_requests_per_endpoint", each)
        reason = f"each of {count} endpoints has {each} requests in flight, its limit"
        raise Unusable(self.service, reason, {"at their limit": count})

    def _free(self, state: EndpointState) -> bool:
        return len(state.leases) < self._each

    def _reached(self, limit: str, value: int, what: str) -> None:
        """Report a limit, and raise where it is enforced."""
        self._say(limit, value)
        if self.enforces:
            raise Overloaded(self.service, f"{value} {what}, which is the limit", {limit: value})

    def _say(self, limit: str, value: int, endpoint: Endpoint | None = None) -> None:
        where, pod = (endpoint.authority, endpoint.pod) if endpoint else ("", "")
        self._emit(LimitReached(self.service, limit, value, where, not self.enforces, pod))


def _both(one: Usable, other: Usable, state: EndpointState) -> bool:
    return one(state) and other(state)
