"""Calls: from a request to its result, whatever client carries it.

`call` and `acall` are for users, and have the straight first attempt inlined: pick, the function, release. What that
does not end goes on as the calls of every adapter do (`door.py`): through the attempt flow and one of its drivers.
"""

import math
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Protocol, TypeVar, cast

from kubelb.clock import Clock
from kubelb.core.balancer import Balancer
from kubelb.core.events import Event
from kubelb.core.flow import Flow, attempt_flow
from kubelb.core.lease import Lease
from kubelb.core.options import awaitable
from kubelb.core.retry import Retry
from kubelb.core.retry.budget import BudgetState
from kubelb.core.retry.rules import may_repeat, worth_repeating
from kubelb.core.state import EndpointState
from kubelb.core.steps import Send
from kubelb.errors import DeadlineExceeded, LoadBalancerError, NeverSent, NotReady
from kubelb.model import ANY, CANCELLED, IDEMPOTENT, Attempt, Endpoint, Health, Outcome, Request
from kubelb.printable import shown
from kubelb.runtime import sync
from kubelb.runtime.door import AioAttempts, Attempts, Exchange, result
from kubelb.runtime.driving import settle, stay
from kubelb.runtime.feed import Feed
from kubelb.runtime.hinting import current, seconds
from kubelb.runtime.judging import Classify, Coroutine, judge_error, judge_result, not_awaited
from kubelb.runtime.loops import modules, refuse_trio
from kubelb.runtime.switch import off
from kubelb.runtime.waiting import await_until, wait_until
from kubelb.telemetry.watch import AioSeen, Seen, Watch

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


SHORTEST = 0.001
"""Seconds; a timeout of 0 means "do not block" to a socket, and less is an error."""


class Calls:
    """The half of a LoadBalancer that is on the path of a request."""

    balancer: Balancer
    retry: Retry
    always_flow: bool
    """Whether even a success must be shown to the attempt flow: the user's own strategy judges results."""
    watch: Watch
    """Sees calls where something listens."""
    _clock: Clock
    _budget: BudgetState | None

    _off = False
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

    def call(
        self,
        fn: Callable[[Attempt], T],
        *,
        key: str | bytes | None = None,
        idempotent: bool | None = None,
        deadline: float | None = None,
        classify: Classify | None = None,
    ) -> T:
        """Call `fn` with an Attempt (endpoint, number, timeout) until it succeeds or tries end; returns its result.

        `deadline` is in seconds from now and bounds all tries; `fn` must honour ``attempt.timeout``. One of zero or
        less is over already: DeadlineExceeded, and `fn` is not called. `idempotent` says that it may be repeated
        although it may have been processed; False by default. Where `key` and `idempotent` are not given,
        `kubelb.hints` around the call count, and its deadline where it is the earlier one. `classify(result, error)`
        may return an Outcome. `fn` raises `NeverSent` where nothing was sent; no other exception is taken to mean that.
        Raises the last try's own exception, with notes on the others.
        """
        if self.watch.on() and type(fn) is not Seen:
            with self.watch.plain() as seen:
                return self.call(Seen(seen, fn), key=key, idempotent=idempotent, deadline=deadline, classify=classify)
        if (hinted := current()) is not None:
            key, idempotent, deadline = hinted.beside(key, idempotent, deadline)
        if self._off or off() is not None:
            return self._plainly(fn, deadline)
        request = ANY if key is None and not idempotent else _request(key, idempotent)
        outcome: Outcome | None = None
        if (deadline is None or seconds("deadline", deadline) > 0) and self.balancer.version is not None:
            lease = self.balancer.pick(request)
            try:
                try:
                    value = fn(Attempt(lease.state.endpoint, 1, deadline))
                except Exception as error:  # noqa: BLE001
                    overdue = -1.0 if deadline is None else self._clock() - lease.start - deadline
                    outcome = judge_error(error, classify, overdue)
                else:
                    if type(value) is Coroutine:
                        raise not_awaited(value)
                    if classify is None and not self.always_flow:
                        lease.release()
                        return value
                    outcome = judge_result(value, classify)
            except BaseException:
                lease.release(CANCELLED)
                raise
            if self.settled(request, settle(lease, outcome)):
                return cast(T, result(outcome))
        function = _Function(self, fn, classify)
        return cast(T, sync.go_on(self, function, Exchange(request, deadline), outcome))

    def _plainly(self, fn: Callable[[Attempt], T], deadline: float | None) -> T:
        """Call a function once, with the Service's own name for an address."""
        try:
            result = fn(self._plain_attempt(deadline))
        except NeverSent as error:
            raise error.__cause__ or error from None
        if type(result) is Coroutine:
            raise not_awaited(result)
        return result

    def _plain_attempt(self, deadline: float | None) -> Attempt:
        if deadline is not None and seconds("deadline", deadline) <= 0:
            raise DeadlineExceeded(self.balancer.service, f"deadline={deadline!r}: it was over before the call")
        return Attempt(self.plain_endpoint(), 1, deadline)

    async def acall(
        self,
        fn: Callable[[Attempt], Awaitable[T]],
        *,
        key: str | bytes | None = None,
        idempotent: bool | None = None,
        deadline: float | None = None,
        classify: Classify | None = None,
    ) -> T:
        """The same for asyncio: `fn` returns an awaitable. It is cancelled when the deadline is over.

        Raises TypeError where `fn` returns something else, and RuntimeError under trio.
        """
        if "trio" in modules:
            refuse_trio("LoadBalancer.acall", "call", "lb.call, fn")
        if self.watch.on() and type(fn) is not AioSeen:
            with self.watch.plain() as seen:
                return await self.acall(
                    AioSeen(seen, fn), key=key, idempotent=idempotent, deadline=deadline, classify=classify
                )
        if (hinted := current()) is not None:
            key, idempotent, deadline = hinted.beside(key, idempotent, deadline)
        if self._off or off() is not None:
            return await self._aplainly(fn, deadline)
        request = ANY if key is None and not idempotent else _request(key, idempotent)
        outcome: Outcome | None = None
        if self.balancer.version is not None and deadline is None:
            lease = self.balancer.pick(request)
            try:
                try:
                    made = fn(Attempt(lease.state.endpoint, 1, None))
                    value = await (made if type(made) is Coroutine else awaitable(fn, made))
                except Exception as error:  # noqa: BLE001
                    outcome = judge_error(error, classify)
                else:
                    if classify is None and not self.always_flow:
                        lease.release()
                        return value
                    outcome = judge_result(value, classify)
            except BaseException:
                lease.release(CANCELLED)
                raise
            if self.settled(request, settle(lease, outcome)):
                return cast(T, result(outcome))
        if deadline is not None:
            seconds("deadline", deadline)
        from kubelb.runtime import aio

        function = _AioFunction(self, fn, classify)
        return cast(T, await aio.go_on(self, function, Exchange(request, deadline), outcome))

    async def _aplainly(self, fn: Callable[[Attempt], Awaitable[T]], deadline: float | None) -> T:
        import asyncio

        attempt = self._plain_attempt(deadline)
        try:
            async with asyncio.timeout(deadline) as limit:
                return await awaitable(fn, fn(attempt))
        except NeverSent as error:
            raise error.__cause__ or error from None
        except TimeoutError:
            if not limit.expired():
                raise
            raise DeadlineExceeded(self.balancer.service, f"no answer within {deadline} s") from None

    # What adapters stand on

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


def _request(key: str | bytes | None, idempotent: bool | None) -> Request:
    if not isinstance(idempotent, bool | None):
        raise TypeError(f"idempotent={shown(idempotent)}: give True or False")
    return IDEMPOTENT if key is None else Request(key=key, idempotent=bool(idempotent))


class _Function(Attempts):
    """What carries on with a call of a user's function."""

    left = staticmethod(stay)
    throw_away = staticmethod(sync.nothing_to_discard)

    def __init__(self, lb: Calls, fn: Callable[[Attempt], Any], classify: Classify | None) -> None:
        self._lb = lb
        self._fn = fn
        self._classify = classify

    def attempt(
        self,
        call: Exchange,
        lease: Lease,
        number: int,
        carrier: Mapping[str, str] | None,  # noqa: ARG002
    ) -> tuple[Outcome, Any]:
        clock, ends = self._lb.balancer.clock, call.ends
        left = None if ends is None else max(SHORTEST, ends - clock())
        try:
            value = self._fn(Attempt(lease.state.endpoint, number, left))
        except Exception as error:  # noqa: BLE001
            return judge_error(error, self._classify, -1.0 if ends is None else clock() - ends), None
        if type(value) is Coroutine:
            raise not_awaited(value)
        return judge_result(value, self._classify), value


class _AioFunction(AioAttempts):
    """The same for one that returns an awaitable; its tries are cancelled when the deadline is over."""

    left = staticmethod(stay)

    def __init__(self, lb: Calls, fn: Callable[[Attempt], Awaitable[Any]], classify: Classify | None) -> None:
        self._lb = lb
        self._fn = fn
        self._classify = classify

    async def attempt(
        self,
        call: Exchange,
        lease: Lease,
        number: int,
        carrier: Mapping[str, str] | None,  # noqa: ARG002
    ) -> tuple[Outcome, Any]:
        import asyncio

        fn, balancer, ends = self._fn, self._lb.balancer, call.ends
        left = None if ends is None else max(0.0, ends - balancer.clock())
        try:
            async with asyncio.timeout(left) as limit:
                made = fn(Attempt(lease.state.endpoint, number, left))
                value = await (made if type(made) is Coroutine else awaitable(fn, made))
        except Exception as error:  # noqa: BLE001
            over = limit.expired()
            late = max(0.0, balancer.clock() - (ends or 0.0)) if over else -1.0
            outcome = judge_error(error, self._classify, late)
            if over:
                outcome.error = DeadlineExceeded(balancer.service, f"no answer within {call.limit} s")
            return outcome, None
        return judge_result(value, self._classify), value

    async def throw_away(self, outcome: Outcome) -> None:
        """Results need no closing."""
