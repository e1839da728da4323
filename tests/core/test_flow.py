"""The attempt flow: every scenario by hand, and what no scenario shows."""

import gc
import math
import weakref
from collections.abc import Collection

import pytest
import tenacity

from kubelb.core.events import BudgetExhausted, Retried
from kubelb.core.flow import attempt_flow
from kubelb.core.lease import Lease
from kubelb.core.retry import FullJitter, Retry, RetryBudget
from kubelb.core.retry.budget import BudgetState
from kubelb.core.state import EndpointState
from kubelb.core.steps import Cancel, Next, Send, Wait
from kubelb.errors import NotReady
from kubelb.model import ANY, CANCELLED, IDEMPOTENT, Outcome, Request
from kubelb.runtime.driving import settle

from .kit import Rig, failed, refused
from .scenarios import BOTH, VIRTUAL, Scenario
from .world import by_hand


@pytest.mark.parametrize("scenario", BOTH + VIRTUAL, ids=str)
def test_by_hand(scenario: Scenario) -> None:
    """The flow asks for what the scenario says, in virtual time, and leaves nothing in flight."""
    by_hand(scenario)


def test_it_goes_on_after_a_first_attempt_made_elsewhere() -> None:
    """`first` counts as attempt 1, its endpoint as tried, its start as the call's."""
    rig = Rig(2)
    lease = rig.balancer.pick()
    rig.clock.advance(1)
    flow = attempt_flow(rig.balancer, IDEMPOTENT, Retry(wait=FullJitter(0, 0)), first=settle(lease, failed()))
    step = flow.send(None)
    assert isinstance(step, Send)
    assert step.number == 2
    assert step.lease.state is not lease.state
    with pytest.raises(StopIteration) as stop:
        flow.send(settle(step.lease, Outcome()))
    assert [before.reason for before in stop.value.value.tries] == ["reset"]


def raised(cause: BaseException | None = None) -> ConnectionError:
    """An exception that has been through a frame, and the one that it came of."""
    try:
        raise ConnectionError("reset") from cause
    except ConnectionError as error:
        return error


@pytest.mark.parametrize("again", [Outcome(), failed()], ids=["answered", "failed"])
def test_only_the_last_error_keeps_its_frames(again: Outcome) -> None:
    """An earlier one is never raised, and through its frames it would keep alive what the caller has let go."""
    rig = Rig(2)
    cause, last = raised(), raised()
    error = raised(cause)
    cause.__cause__ = error  # whoever made a circle of them
    first, again.error = failed(), last
    first.error = error
    flow = attempt_flow(
        rig.balancer, IDEMPOTENT, Retry(attempts=2, wait=FullJitter(0, 0)), first=settle(rig.balancer.pick(), first)
    )
    step = flow.send(None)
    assert isinstance(step, Send)
    with pytest.raises(StopIteration) as stop:
        flow.send(settle(step.lease, again))
    assert stop.value.value.tries == (first,)
    assert (error.__traceback__, cause.__traceback__) == (None, None)
    assert last.__traceback__ is not None


def try_again(rig: Rig, first: Outcome, again: Outcome) -> None:
    """A flow that begins after `first` and ends with `again`."""
    flow = attempt_flow(
        rig.balancer, IDEMPOTENT, Retry(attempts=2, wait=FullJitter(0, 0)), first=settle(rig.balancer.pick(), first)
    )
    step = flow.send(None)
    assert isinstance(step, Send)
    with pytest.raises(StopIteration):
        flow.send(settle(step.lease, again))


def test_what_the_caller_is_handling_keeps_its_frames() -> None:
    """Python makes it the context of whatever a try raises; it is the caller's, who may raise it again."""
    rig = Rig(2)
    handled = raised()
    first, again = failed(), Outcome()
    try:
        raise handled
    except ConnectionError:
        first.error = raised()
        assert first.error.__context__ is handled
        try_again(rig, first, again)
    assert first.error.__traceback__ is None
    assert handled.__traceback__ is not None


def test_nor_does_a_wait_take_them() -> None:
    """The same of a refusal that is waited for: what the caller is handling is its context."""
    rig = Rig(1)
    refusals: list[NotReady] = []

    def pick(request: Request, avoid: Collection[EndpointState]) -> Lease:
        if not refusals:
            refusals.append(NotReady("svc.ns", "connecting"))
            raise refusals[0]
        return rig.balancer.pick()

    handled = raised()
    try:
        raise handled
    except ConnectionError:
        flow = attempt_flow(rig.balancer, ANY, Retry(), ready_until=math.inf, pick=pick)
        assert isinstance(flow.send(None), Wait)
        step = flow.send(None)
        assert isinstance(step, Send)
        step.lease.release(CANCELLED)
        flow.close()
    assert refusals[0].__context__ is handled
    assert refusals[0].__traceback__ is None
    assert handled.__traceback__ is not None


def test_an_error_that_two_tries_raised_is_the_last_ones() -> None:
    """The caller's function may keep one and raise it again and again."""
    rig = Rig(2)
    first, again = failed(), failed()
    first.error = again.error = raised()
    try_again(rig, first, again)
    assert again.error.__traceback__ is not None


def test_a_wait_leaves_no_circle() -> None:
    """Kind: a circle of exception and frame. What a call held while it waited is let go without a collection."""
    rig = Rig(1)

    class Held:
        """A local of the one that drives the flow, as the call object of a stream that is dropped is."""

    def pick(request: Request, avoid: Collection[EndpointState]) -> Lease:
        if not waits:
            waits.append(True)
            try:
                raise NotReady("svc.ns", "no connection is ready yet")
            except NotReady:
                raise NotReady("svc.ns", "connecting")  # noqa: B904  # the one before is its context
        return rig.balancer.pick()

    def drive() -> weakref.ref[Held]:
        held = Held()
        flow = attempt_flow(rig.balancer, ANY, Retry(), ready_until=math.inf, pick=pick)
        assert isinstance(flow.send(None), Wait)
        step = flow.send(None)
        assert isinstance(step, Send)
        with pytest.raises(StopIteration):
            flow.send(settle(step.lease, Outcome(value=1)))
        return weakref.ref(held)

    waits: list[bool] = []
    gc.collect()
    gc.disable()
    try:
        assert drive()() is None
    finally:
        gc.enable()


def test_a_first_outcome_without_a_lease_is_taken_too() -> None:
    """Where an adapter failed before it had one, the flow still tries."""
    rig = Rig(2)
    flow = attempt_flow(rig.balancer, ANY, Retry(), first=refused())
    step = flow.send(None)
    assert isinstance(step, Send)
    assert step.number == 1
    flow.close()
    step.lease.release(CANCELLED)
    assert rig.told(Retried) == []


def test_it_can_be_closed_at_any_step() -> None:
    """Closing releases nothing by itself: whoever has a lease ends it."""
    rig = Rig(3)
    retry = Retry(wait=tenacity.wait_fixed(1), budget=None)
    for stop_at in range(5):
        flow = attempt_flow(rig.balancer, IDEMPOTENT, retry, hedge=0.5)
        answer = None
        leases = []
        for turn in range(stop_at + 1):
            step = flow.send(answer)
            answer = None
            if isinstance(step, Send):
                leases.append(step.lease)
                if turn >= 1:
                    answer = settle(leases.pop(0), failed())
            elif isinstance(step, Next) and leases:
                answer = settle(leases.pop(0), failed())
        flow.close()
        for lease in leases:
            lease.release(CANCELLED)
        del step, leases
        if answer is not None:
            del answer
        assert sum(state.in_flight for state in rig.balancer.states()) == 0


def test_a_loser_is_named_to_the_driver() -> None:
    """After the winner the flow asks to cancel each of the others."""
    rig = Rig(3)
    flow = attempt_flow(rig.balancer, IDEMPOTENT, Retry(), hedge=1.0)
    first = flow.send(None)
    assert isinstance(first, Send)
    assert first.until == rig.clock() + 1.0
    second = flow.send(None)
    assert isinstance(second, Send)
    step = flow.send(settle(second.lease, Outcome()))
    assert isinstance(step, Cancel)
    assert step.lease is first.lease
    with pytest.raises(StopIteration):
        flow.send(None)


def test_the_wait_is_bounded_by_the_nearer_limit() -> None:
    """Deadline or ready_until, whichever comes first; a set that is known is not waited for."""
    rig = Rig(0)
    flow = attempt_flow(rig.balancer, ANY, Retry(), deadline=rig.clock() + 9, ready_until=rig.clock() + 2)
    step = flow.send(None)
    assert isinstance(step, Wait)
    assert (step.version, step.until) == (None, rig.clock() + 2)
    step = flow.send(None)  # woken for nothing
    assert isinstance(step, Wait)
    rig.clock.advance(2)
    with pytest.raises(NotReady):
        flow.send(None)


def test_a_sleep_that_ends_after_the_deadline_is_not_followed_by_a_try() -> None:
    """A machine that wakes up late does not send with no time left."""
    rig = Rig(3)
    retry = Retry(wait=tenacity.wait_fixed(1))
    flow = attempt_flow(rig.balancer, IDEMPOTENT, retry, deadline=rig.clock() + 2)
    step = flow.send(None)
    assert isinstance(step, Send)
    step = flow.send(settle(step.lease, failed()))
    assert isinstance(step, Next)
    rig.clock.advance(5)
    with pytest.raises(StopIteration) as stop:
        flow.send(None)
    assert stop.value.value.reason == "reset"


def test_retries_and_an_empty_budget_are_told() -> None:
    """One event a retry, with the reason and the delay; one where the budget refuses."""
    rig = Rig(3)
    budget = BudgetState(RetryBudget(0, 1), rig.clock())
    flow = attempt_flow(rig.balancer, IDEMPOTENT, Retry(), budget=budget, emit=rig.events.append)
    step = flow.send(None)
    assert isinstance(step, Send)
    step = flow.send(settle(step.lease, failed()))
    assert isinstance(step, Next)
    step = flow.send(None)
    assert isinstance(step, Send)
    with pytest.raises(StopIteration):
        flow.send(settle(step.lease, failed()))
    (retried,) = rig.told(Retried)
    assert (retried.number, retried.reason) == (2, "reset")
    assert 0 <= retried.delay <= 0.025
    assert len(rig.told(BudgetExhausted)) == 1


def test_a_hedge_refused_at_the_last_moment_is_no_hedge() -> None:
    """Everything may go between the question whether there is another endpoint and the pick."""
    rig = Rig(3)
    flow = attempt_flow(rig.balancer, IDEMPOTENT, Retry(budget=RetryBudget()), hedge=1.0)
    step = flow.send(None)
    assert isinstance(step, Send)
    rig.balancer.has_room_beside = lambda tried: True  # type: ignore[method-assign,assignment]
    rig.set(())
    assert isinstance(flow.send(None), Next)
    with pytest.raises(StopIteration):
        flow.send(settle(step.lease, Outcome()))


def test_no_hedge_beyond_the_attempts() -> None:
    """Three attempts are three, hedges included, and the last Send has no limit."""
    rig = Rig(9)
    flow = attempt_flow(rig.balancer, IDEMPOTENT, Retry(attempts=3), hedge=1.0)
    steps = [flow.send(None) for _ in range(3)]
    assert [isinstance(step, Send) and step.until is not None for step in steps] == [True, True, False]
    assert isinstance(flow.send(None), Next)
    flow.close()


def test_a_pick_of_the_callers_own() -> None:
    """First tries, waits and retries go by it: what it calls not ready is waited for, and it is told what was tried."""
    rig = Rig(3)
    asked: list[int] = []

    def pick(request: Request, avoid: Collection[EndpointState]) -> Lease:
        asked.append(len(avoid))
        if len(asked) == 1:
            raise NotReady("svc.ns", "connecting")
        return rig.balancer.pick(request, avoid, lambda state: state is not rig.state(0))

    flow = attempt_flow(rig.balancer, IDEMPOTENT, Retry(wait=FullJitter(0, 0)), ready_until=math.inf, pick=pick)
    step = flow.send(None)
    assert isinstance(step, Wait)
    assert (step.version, step.until) == (rig.version, math.inf)
    first = flow.send(None)
    assert isinstance(first, Send)
    second = flow.send(settle(first.lease, refused()))
    assert isinstance(second, Send)
    assert {first.lease.state, second.lease.state} == {rig.state(1), rig.state(2)}
    assert asked == [0, 0, 1]
    flow.close()
    second.lease.release(CANCELLED)
