"""The attempt flow: everything that happens around a call but the I/O.

A generator that yields Steps and is sent Outcomes; three drivers know how to wait (sync, asyncio, callbacks), the flow
does not know which one runs it. Nearly every call never gets here: its first attempt goes straight from pick to
release, and `attempt_flow(first=outcome)` begins only when that failed.

In words: send; if the outcome is good, or may not or need not be repeated, return it. Else ask for tries (`attempts`, a
`stop` strategy), for time (the deadline), for room (a limit of retries), for the budget, in this order, the budget last
and before any sleep. Then wait, unless the request was never sent, or was refused by one that is full, and there are
endpoints that were not tried. Then send to one of those.

With `hedge` a second attempt starts beside a first that has not answered in so many seconds; the first good outcome
wins and the others are cancelled. Hedges come out of the same budget.

The owner of a lease: the attempt it was sent with, until its outcome came; a cancelled one's is released by the driver.
The flow releases nothing, so it can be closed at any yield.
"""

import math
import sys
from collections.abc import Callable, Collection, Generator
from typing import TypeAlias, TypeVar

from kubelb.core.balancer import Balancer
from kubelb.core.events import BudgetExhausted, Emit, Retried, Skipped, discard
from kubelb.core.lease import Lease
from kubelb.core.retry.backoff import FullJitter
from kubelb.core.retry.budget import BudgetState
from kubelb.core.retry.rules import Retry, may_repeat, worth_repeating
from kubelb.core.retry.strategies import call_state
from kubelb.core.state import EndpointState
from kubelb.core.steps import Cancel, Next, Send, Step, Wait
from kubelb.errors import DeadlineExceeded, LoadBalancerError, NotReady
from kubelb.model import BAD_ANSWER, Outcome, Request, Sent, Verdict

__all__ = ["Flow", "Pick", "attempt_flow"]

T = TypeVar("T")

UNASKED = 5.0
"""Seconds of a server's hint that a call with a deadline waits for without being asked to."""
UNSEEN = 0.25
"""The same without a deadline: what any retry may wait. A caller that set no timeout expects an answer, not a sleep."""
MAX_WAIT = 300.0
"""Seconds; a call without a deadline that was asked to wait longer ends instead (Envoy caps Retry-After so)."""

_LOAD = (Verdict.BUSY, Verdict.FULL)

Flow = Generator[Step, Outcome | None, Outcome]

Pick: TypeAlias = Callable[[Request, Collection[EndpointState]], Lease]
"""Chooses an endpoint other than those tried. NotReady from the first pick of a call is waited for."""


def attempt_flow(
    balancer: Balancer,
    request: Request,
    retry: Retry,
    *,
    budget: BudgetState | None = None,
    first: Outcome | None = None,
    deadline: float | None = None,
    ready_until: float | None = None,
    hedge: float | None = None,
    pick: Pick | None = None,
    emit: Emit = discard,
) -> Flow:
    """Yield Steps until the call has ended, and return its last Outcome (the winner's, where several ran).

    `first` is the outcome of an attempt that was made before. `deadline` and `ready_until` are in the balancer's time:
    the second bounds the wait for a first snapshot. `hedge` is in seconds. `pick` stands in for the balancer's own
    where a client can use only some endpoints, those with a connection. Raises what the first pick refuses with; where
    tries fail, that outcome is returned with those before it in `tries`.
    """
    pick = pick or balancer.pick
    call = _Call(balancer, request, retry, budget, deadline, hedge, pick, emit)
    outcome = first
    if first is None:
        lease = yield from _first_lease(balancer, request, deadline, ready_until, pick)
        outcome = yield call.send(lease)
    elif first.lease is not None:
        call.adopt(first.lease)
    history: list[Outcome] = []
    while True:
        if outcome is None:  # `until` passed and nothing answered: time for a hedge
            extra = call.hedge_lease()
            outcome = yield (Next(None) if extra is None else call.send(extra))
            continue
        call.landed(outcome)
        if not call.repeats(outcome):
            break
        if call.flying:  # another attempt may still do it
            history.append(outcome)
            outcome = yield Next(None)
            continue
        if not call.has_tries(outcome):
            break
        history.append(outcome)
        delay = call.delay(outcome)
        if delay is None or call.out_of_time(delay) or not call.has_room():
            break
        if not call.withdraw():
            emit(BudgetExhausted(balancer.service, outcome.reason))
            break
        if outcome.lease is not None:
            left = outcome.lease.endpoint
            emit(Retried(balancer.service, left.authority, call.number + 1, outcome.reason, delay, left.pod))
        if delay > 0:
            call.slept += delay
            yield Next(balancer.clock() + delay)
            if call.out_of_time(0.0):  # it woke up late
                break
        try:
            lease = pick(request, call.tried)
        except LoadBalancerError:  # everything went away meanwhile: the outcome at hand says more
            break
        outcome = yield call.send(lease)
    for lease in call.flying:
        yield Cancel(lease)
    outcome.tries = tuple(before for before in history if before is not outcome)
    _forget_frames([before.error for before in outcome.tries], outcome.error, sys.exception())
    return outcome


def _forget_frames(errors: list[BaseException | None], *kept: BaseException | None) -> None:
    """Drop the tracebacks of tries that are over: a note tells of each, and its exception is not raised.

    A traceback holds every frame above it, and these the answer of the last try. With the cycles that exceptions make
    (urllib3 keeps one in a local of the frame that raised it) an answer that is dropped would live until a collection.

    `kept` stay as they are: the last try's, and one that the caller is handling, which is a context of all of them.
    """
    seen = {id(error) for error in kept}
    while errors:
        error = errors.pop()
        if error is not None and id(error) not in seen:
            seen.add(id(error))
            error.__traceback__ = None
            errors += (error.__cause__, error.__context__)


def _first_lease(
    balancer: Balancer, request: Request, deadline: float | None, ready_until: float | None, pick: Pick
) -> Generator[Step, Outcome | None, Lease]:
    """Pick, waiting while nothing is ready yet: a set that is known and holds nothing to pick is an answer."""
    waited: NotReady | None = None
    limiter, place = balancer.limiter, None
    try:
        while True:
            version = balancer.version
            now = balancer.clock()
            if deadline is not None and now >= deadline:
                if waited is None:
                    raise DeadlineExceeded(balancer.service, "the deadline passed before a try")
                raise DeadlineExceeded(balancer.service, f"the deadline passed: {waited.reason}", waited.counts)
            handled = sys.exception()  # by the caller, whose it stays
            try:
                return pick(request, ())
            except NotReady as error:
                limits = [limit for limit in (deadline, ready_until) if limit is not None]
                if not limits or now >= min(limits):
                    raise
                # This frame is about to hold the exception that holds it: a cycle, with the caller in it.
                _forget_frames([error], handled)
                waited = error
            if limiter is not None and place is None:
                place = limiter.wait()
            yield Wait(version, min(limits))
    finally:
        if limiter is not None:
            limiter.go_on(place)


class _Call:
    """What one call has used up so far."""

    def __init__(
        self,
        balancer: Balancer,
        request: Request,
        retry: Retry,
        budget: BudgetState | None,
        deadline: float | None,
        hedge: float | None,
        pick: Pick,
        emit: Emit,
    ) -> None:
        self.balancer = balancer
        self.emit = emit
        self.request = request
        self.retry = retry
        self.budget = budget
        self.deadline = deadline
        self.hedge = hedge
        self.pick = pick
        self.started = balancer.clock()
        self.number = 0
        self.slept = 0.0
        self.tried: list[EndpointState] = []
        self.busy: list[Outcome] = []
        """Answers that have asked this caller for less, one of each endpoint."""
        self.unread: list[Outcome] = []
        """Those that could not be read."""
        self.flying: list[Lease] = []

    def adopt(self, lease: Lease) -> None:
        """Count an attempt that was made before the flow began."""
        self.started = lease.start
        self.number = 1
        self.tried.append(lease.state)

    def send(self, lease: Lease) -> Send:
        """Return the step that starts the next attempt, until the next hedge is due."""
        self.number += 1
        self.tried.append(lease.state)
        self.flying.append(lease)
        more = self.hedge is not None and self.number < self.retry.attempts
        return Send(lease, self.balancer.clock() + (self.hedge or 0.0) if more else None, self.number)

    def landed(self, outcome: Outcome) -> None:
        self.flying = [lease for lease in self.flying if lease is not outcome.lease]
        alike = self.busy if outcome.verdict is Verdict.BUSY else self.unread if outcome.reason == BAD_ANSWER else None
        if (
            alike is not None
            and outcome.lease is not None
            and not any(each.lease.state is outcome.lease.state for each in alike)
        ):
            alike.append(outcome)
            if len(alike) > 1:
                self.balancer.lift(alike[-2:], int(alike is self.unread))

    def repeats(self, outcome: Outcome) -> bool:
        """Whether another attempt could and may do better, by the rules and the user's own."""
        if outcome.verdict is Verdict.CANCELLED or not may_repeat(self.request, outcome):
            return False
        if len(self.unread) > 1 and outcome.reason == BAD_ANSWER:  # it is what this service answers
            return False
        return worth_repeating(outcome) or self._asked("retry", outcome, bool, False)

    def has_tries(self, outcome: Outcome) -> bool:
        """Whether `attempts` and the user's `stop` allow one more."""
        return self.number < self.retry.attempts and not self._asked("stop", outcome, bool, False)

    def delay(self, outcome: Outcome) -> float | None:
        """Return the seconds before the next try, None where there shall be none.

        A request that was never sent, or that a full endpoint refused, goes to an untried one at once. A server's hint
        is waited for where there is no other, and where it speaks for all: two that limit the caller.
        """
        hint = outcome.retry_after or 0.0
        wait = self.retry.wait
        if outcome.verdict in _LOAD:
            if len(self.busy) > 1:
                if self.retry.max_wait is None and isinstance(wait, FullJitter):
                    return None
            elif self.balancer.has_room_beside(self.tried):
                return 0.0
        elif self.balancer.has_other_than(self.tried):
            if outcome.sent is Sent.NEVER:
                return 0.0
            hint = 0.0
        if hint > self.patience():
            return None
        if not isinstance(wait, FullJitter):
            delay = self._asked("wait", outcome, float, math.nan)
            if not math.isnan(delay):
                return max(hint, delay)
            wait = FullJitter()
        return max(hint, wait.delay(self.number, self.balancer.rng))

    def patience(self) -> float:
        """Return the seconds of a server's hint that are waited for."""
        most = self.retry.max_wait
        return most if most is not None else UNASKED if self.deadline is not None else UNSEEN

    def out_of_time(self, delay: float) -> bool:
        if self.deadline is None:
            return delay > MAX_WAIT
        return self.balancer.clock() + delay >= self.deadline

    def has_room(self) -> bool:
        """Whether a limit of retries in flight allows one more."""
        limiter = self.balancer.limiter
        return limiter is None or limiter.allows_retry()

    def withdraw(self) -> bool:
        """Take an extra try out of the budget."""
        balancer = self.balancer
        return self.budget is None or self.budget.withdraw(balancer.requests, balancer.clock())

    def hedge_lease(self) -> Lease | None:
        """Return a lease for one more attempt beside those running, if rules, endpoints and budget allow one."""
        if self.number >= self.retry.attempts or not (self.request.idempotent and self.request.replayable):
            return None
        if not self.balancer.has_room_beside(self.tried) or not self.has_room() or not self.withdraw():
            return None
        try:
            return self.pick(self.request, self.tried)
        except LoadBalancerError:
            return None

    def _asked(self, name: str, outcome: Outcome, kind: type[T], own: T) -> T:
        """Ask a strategy of the user's; what it raises costs it its turn, not the caller the outcome at hand."""
        strategy = getattr(self.retry, name)
        if strategy is None:
            return own
        balancer = self.balancer
        state = call_state(self.retry, outcome, self.number, self.started, balancer.clock(), self.slept)
        try:
            return kind(strategy(state))  # type: ignore[call-arg]
        except Exception as error:  # noqa: BLE001
            reason = f"it failed with {error!r}; kubelb's own is used"
            self.emit(Skipped(balancer.service, f"the strategy {name}=", reason))
            return own
