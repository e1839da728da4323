"""Calls: from a request to its result, whatever client carries it: what a first attempt did not end goes on in here.

`door.py` makes the first attempt; then the attempt flow decides, and one of its drivers carries out what it asks for.
"""

import math
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol, TypeVar

from kubelb.clock import Clock
from kubelb.core.balancer import Balancer
from kubelb.core.events import Event
from kubelb.core.flow import Flow, attempt_flow
from kubelb.core.lease import Lease
from kubelb.core.retry import Retry
from kubelb.core.retry.budget import BudgetState
from kubelb.core.retry.rules import may_repeat, worth_repeating
from kubelb.core.state import EndpointState
from kubelb.core.steps import Send
from kubelb.errors import DeadlineExceeded, LoadBalancerError, NotReady
from kubelb.model import Endpoint, Health, Outcome, Request
from kubelb.runtime import sync
from kubelb.runtime.driving import stay
from kubelb.runtime.feed import Feed
from kubelb.runtime.waiting import await_until, wait_until
from kubelb.telemetry.watch import Watch

__all__ = ["AioConnections", "Calls", "Connections"]

T = TypeVar("T")

CONFIGURATION = frozenset({"credentials", "forbidden", "missing-extra", "unauthorized"})
"""Kinds of failure that the user has to mend; to wait does not help."""


class Connections(Protocol):
    """A client that keeps connections of its own picks among those that are ready, and waits for one to become so."""

    patient: bool
    """Wait for as long as the call has time, whatever keeps the service from being ready."""

    def pick(self, request: Request, avoid: Collection[EndpointState]) -> Lease:
        """Pick; raises NotReady where waiting may help."""
        ...

    def wait(self, version: int | None, until: float) -> None:
        """Return when endpoints or connections have changed, or at `until`; may return early."""
        ...


class AioConnections(Protocol):
    """The same for asyncio."""

    patient: bool

    def pick(self, request: Request, avoid: Collection[EndpointState]) -> Lease:
        """As above."""
        ...

    async def wait(self, version: int | None, until: float) -> None:
        """As above."""
        ...


class Calls:
    """The half of a Service that is on the path of a request."""

    balancer: Balancer
    retry: Retry
    always_flow: bool
    """Whether even a success must be shown to the attempt flow: the user's own strategy judges results."""
    watch: Watch
    """Sees calls where something listens."""
    _clock: Clock
    _budget: BudgetState | None

    disabled = False
    """Whether the environment switches it off (see `switch.py`)."""

    plain_endpoint: Callable[[], Endpoint]
    """Return the Service itself, by its own name; raises NoEndpoints where its port is unknown."""
    feed: Callable[[], Feed | None]
    """Begin discovery if it has not begun; returns what tells of news, None where there will be none."""
    health: Callable[[], Health]
    """Return how well the service is known."""
    _emit: Callable[[Event], None]
    _first_wait: Callable[[], float]
    """Return the seconds to wait for the first endpoints; none where a call has waited for the same in vain."""
    _gave_up: Callable[[], None]
    """A call has waited in vain."""

    def settled(self, request: Request, outcome: Outcome) -> bool:
        """Whether a first attempt's outcome ends the call, so that no flow is needed."""
        if self.always_flow:
            return False
        return self.retry.attempts == 1 or not worth_repeating(outcome) or not may_repeat(request, outcome)

    def can_follow(self, state: EndpointState, number: int, promised: int) -> bool:
        """Whether attempt `number` of a call, should it fail on `state` now, would be followed by one elsewhere.

        `promised` extra tries belong to other calls, so that no two count on the same one. Nothing is withdrawn.
        """
        balancer = self.balancer
        if number >= self.retry.attempts or not balancer.has_other_than((state,)):
            return False
        if balancer.limiter is not None and not balancer.limiter.has_room_to_retry():
            return False
        budget = self._budget
        return budget is None or budget.available(balancer.requests, self._clock()) > promised

    def run(
        self,
        request: Request,
        send: sync.SendNow,
        *,
        first: Outcome | None = None,
        deadline: float | None = None,
        discard: sync.Discard = sync.nothing_to_discard,
        left: sync.Left = stay,
        hedge: float | None = None,
        connections: Connections | None = None,
    ) -> Outcome:
        """Drive the attempt flow in this thread. `deadline` is in the balancer's time. Raises only refusals."""
        flow = self.flow(request, first=first, deadline=deadline, hedge=hedge, connections=connections)
        wait = self._wait if connections is None else connections.wait
        try:
            return sync.drive(flow, send, wait=wait, clock=self._clock, discard=discard, first=first, left=left)
        except (NotReady, DeadlineExceeded) as error:
            raise self.explained(error) from None

    async def arun(
        self,
        request: Request,
        send: Callable[[Send], Awaitable[Outcome]],
        *,
        first: Outcome | None = None,
        deadline: float | None = None,
        discard: Callable[[Outcome], Awaitable[None]] | None = None,
        left: sync.Left = stay,
        hedge: float | None = None,
        connections: AioConnections | None = None,
    ) -> Outcome:
        """The same in this task."""
        from kubelb.runtime import aio

        flow = self.flow(request, first=first, deadline=deadline, hedge=hedge, connections=connections)
        wait = self._await if connections is None else connections.wait
        try:
            return await aio.drive_async(
                flow,
                send,
                wait=wait,
                clock=self._clock,
                discard=discard or aio.nothing_to_discard,
                first=first,
                left=left,
            )
        except (NotReady, DeadlineExceeded) as error:
            raise self.explained(error) from None

    def flow(
        self,
        request: Request,
        *,
        first: Outcome | None = None,
        deadline: float | None = None,
        hedge: float | None = None,
        connections: Connections | AioConnections | None = None,
    ) -> Flow:
        """Return the attempt flow of one call, for a driver of the adapter's own."""
        patient = connections is not None and connections.patient
        return attempt_flow(
            self.balancer,
            request,
            self.retry,
            budget=self._budget,
            first=first,
            deadline=deadline,
            ready_until=math.inf if patient else None if first else self._clock() + self._first_wait(),
            hedge=hedge,
            pick=None if connections is None else connections.pick,
            emit=self._emit,
        )

    def _wait(self, version: int | None, until: float) -> None:
        feed = self.feed()
        if feed is not None:
            wait_until(feed, lambda: self.balancer.version != version, until, self._clock)

    async def _await(self, version: int | None, until: float) -> None:
        feed = self.feed()
        if feed is not None:
            await await_until(feed, lambda: self.balancer.version != version, until, self._clock)

    def explained(self, error: NotReady | DeadlineExceeded) -> LoadBalancerError:
        """Add what discovery is stuck on; where endpoints are known it is not discovery."""
        if self.balancer.version is not None:
            return error
        if isinstance(error, NotReady):
            self._gave_up()
        health = self.health()
        when = "in time" if isinstance(error, NotReady) else "before the deadline"
        reason = f"no endpoints were learnt {when} from {health.source}"
        if health.kind in CONFIGURATION:  # more time would change nothing
            reason = f"no endpoints are known from {health.source}, by an error in the configuration"
        if health.error:
            reason += f": {health.error}" + (f"; {health.cure}" if health.cure else "")
        return type(error)(error.service, reason)
