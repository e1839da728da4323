"""Concurrency limits: what is refused, by which error, and that nothing is left counted in any ending."""

import gc
import threading
from typing import Any

import pytest

from kubelb.core import Balancer, Lease
from kubelb.core.events import BudgetExhausted, LimitReached, Retried
from kubelb.core.flow import attempt_flow
from kubelb.core.health.limits import ConcurrencyLimits, Limiter
from kubelb.core.policies import Picker, Policy
from kubelb.core.retry import Retry
from kubelb.core.retry.budget import BudgetState, RetryBudget
from kubelb.core.steps import Next, Send, Wait
from kubelb.errors import NotReady, Overloaded, Unusable
from kubelb.model import ANY, CANCELLED, IDEMPOTENT, Outcome
from kubelb.runtime.driving import settle

from .kit import Rig, failed, pods, refused

LIMITS = ["max_requests", "max_requests_per_endpoint", "max_pending", "max_retries"]


def limited(count: int = 3, policy: Any = "least_request", seed: int = 7, **limits: Any) -> Rig:
    return Rig(count, policy, seed, limits=ConcurrencyLimits(**limits))


def limiter(rig: Rig) -> Limiter:
    assert rig.balancer.limiter is not None
    return rig.balancer.limiter


@pytest.mark.parametrize("value", [-1, 1.5, float("nan"), "10"])
@pytest.mark.parametrize("name", LIMITS)
def test_limits_out_of_range_are_refused(name: str, value: Any) -> None:
    """The error names the option, its value and what to give."""
    with pytest.raises(ValueError, match=rf"ConcurrencyLimits\({name}=.*give a whole number, [01] or more"):
        ConcurrencyLimits(**{name: value})


@pytest.mark.parametrize("name", LIMITS[:2])
def test_nobody_at_all_is_no_limit(name: str) -> None:
    """A limit of no requests would be an outage; of no waiting and no retries it is a choice."""
    with pytest.raises(ValueError, match=rf"{name}=0.*1 or more"):
        ConcurrencyLimits(**{name: 0})
    assert ConcurrencyLimits(max_pending=0, max_retries=0).max_retries == 0


def test_without_limits_there_is_no_limiter_and_no_other_lease() -> None:
    """What is off is not there."""
    rig = Rig(3)
    assert rig.balancer.limiter is None
    assert "pick" not in vars(rig.balancer)
    assert type(rig.balancer.pick()) is Lease


def test_a_request_too_many_is_refused_and_room_is_made_by_any_ending() -> None:
    """Overloaded names service, limit and number; a release, a loss, a second release: each makes room once."""
    rig = limited(max_requests=3)
    leases = [rig.balancer.pick() for _ in range(3)]
    with pytest.raises(Overloaded, match=r"svc\.ns: 3 requests are in flight, which is the limit") as caught:
        rig.balancer.pick()
    assert caught.value.counts == {"max_requests": 3}
    assert rig.told(LimitReached) == [LimitReached("svc.ns", "max_requests", 3)]
    for outcome in (Outcome(), failed(), CANCELLED, None):
        done = leases.pop()
        done.release(outcome)
        done.release(outcome)
        leases.append(rig.balancer.pick())
        with pytest.raises(Overloaded):
            rig.balancer.pick()
    leases.pop()
    del done
    gc.collect()
    leases.append(rig.balancer.pick())
    for lease in leases:
        lease.release()
    assert limiter(rig).requests == set()
    assert rig.balancer.requests == 3 + 4 + 1


def test_a_body_that_is_read_counts() -> None:
    """Headers end nothing: the request is in flight until its body has ended."""
    rig = limited(max_requests=1)
    lease = rig.balancer.pick()
    lease.observe(Outcome(open=True))
    with pytest.raises(Overloaded):
        rig.balancer.pick()
    lease.release()
    rig.balancer.pick().release()


def test_full_endpoints_are_passed_over_and_all_full_is_unusable() -> None:
    """With two each, six are spread evenly whatever the policy likes, and the seventh is refused with the numbers."""

    class First(Policy, Picker):
        def build(self, members: Any, rng: Any, before: Any = None) -> Any:
            self.states = members.states
            return self

        def pick(self, request: object, now: float) -> Any:
            return self.states[0]

    rig = limited(3, First(), max_requests_per_endpoint=2)
    leases = [rig.balancer.pick() for _ in range(6)]
    assert [state.in_flight for state in rig.balancer.states()] == [2, 2, 2]
    assert {view.state for view in rig.balancer.view()} == {"full"}
    assert rig.balancer.view()[0].reasons == ("max_requests_per_endpoint=2 requests are in flight",)
    with pytest.raises(Unusable, match="each of 3 endpoints has 2 requests in flight, its limit") as caught:
        rig.balancer.pick()
    assert type(caught.value) is Unusable
    assert caught.value.counts == {"at their limit": 3}
    assert rig.told(LimitReached) == [LimitReached("svc.ns", "max_requests_per_endpoint", 2)]
    leases[4].release()
    assert rig.balancer.pick(avoid=[leases[0].state]).state is leases[4].state


def test_a_missing_connection_is_no_full_endpoint() -> None:
    """Where the caller cannot use those that have room, it is told so by its own words."""
    rig = limited(2, max_requests_per_endpoint=1)
    lease = rig.balancer.pick()
    with pytest.raises(Unusable, match="no connection to any of 2 endpoints"):
        rig.balancer.pick(usable=lambda state: state is lease.state)
    assert rig.told(LimitReached) == []
    assert rig.balancer.pick(usable=lambda state: state is not lease.state).state is not lease.state


def beaten(rig: Rig, times: int) -> list[Lease]:
    """Have another thread take a place in the moment in which one was found, so often; returns what it took."""
    limits, taken = limiter(rig), []
    choose = limits._choose

    def slower(*arguments: Any) -> Lease:
        lease = choose(*arguments)
        if len(taken) < times:
            taken.append(limits.lease(lease.state, 0.0))
        return lease

    limits._choose = slower
    return taken


@pytest.mark.parametrize(("times", "gives_up"), [(1, False), (2, False), (3, True)])
def test_the_last_place_of_an_endpoint_is_given_once(times: int, gives_up: bool) -> None:
    """Whoever finds it taken looks for another, and gives up in the end."""
    rig = limited(9, max_requests_per_endpoint=1)
    taken = beaten(rig, times)
    if gives_up:
        with pytest.raises(Unusable):
            rig.balancer.pick()
    else:
        rig.balancer.pick().release()
    gc.collect()
    assert [state.in_flight for state in rig.balancer.states()].count(1) == len(taken) == times


def test_the_last_place_of_the_service_is_given_once() -> None:
    """A request that finds it taken in the very moment is refused and leaves nothing behind."""
    rig = limited(3, max_requests=1)
    taken = beaten(rig, 1)
    with pytest.raises(Overloaded):
        rig.balancer.pick()
    gc.collect()
    assert len(limiter(rig).requests) == len(taken) == sum(state.in_flight for state in rig.balancer.states())


def test_no_number_of_threads_exceeds_a_limit() -> None:
    """Sixteen threads reach for four places of the service and two of each endpoint: never more are out."""
    rig = limited(3, max_requests=4, max_requests_per_endpoint=2)
    out = threading.Semaphore(4)
    most: list[int] = []
    broken: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(300):
                try:
                    lease = rig.balancer.pick()
                except (Overloaded, Unusable):
                    continue
                assert out.acquire(blocking=False), "a fifth request"
                most.append(max(len(state.leases) for state in rig.balancer.states()))
                out.release()
                lease.release()
        except BaseException as error:
            broken.append(error)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert broken == []
    assert limiter(rig).requests == set()
    assert sum(state.in_flight for state in rig.balancer.states()) == 0


def test_a_forked_child_has_nothing_in_flight() -> None:
    """The parent's requests, retries and waits are not its own."""
    rig = limited(max_requests=2, max_retries=1)
    first = rig.balancer.pick()
    again = rig.balancer.pick(avoid=[first.state])
    limiter(rig).wait()
    rig.balancer.forget_in_flight()
    assert (limiter(rig).requests, limiter(rig).retries, limiter(rig).pending) == (set(), set(), set())
    again.release()
    rig.balancer.pick().release()


def play(rig: Rig, flow: Any, *outcomes: Outcome) -> Outcome:
    """Answer a flow's sends with these, its pauses with time."""
    answers = list(outcomes)
    answer: Outcome | None = None
    try:
        while True:
            step = flow.send(answer)
            answer = None
            if isinstance(step, Send):
                answer = settle(step.lease, answers.pop(0))
            elif isinstance(step, Next) and step.until is not None:
                rig.clock.now = max(rig.clock.now, step.until)
    except StopIteration as stop:
        result: Outcome = stop.value
        return result


def flow_of(rig: Rig, **options: Any) -> Any:
    return attempt_flow(rig.balancer, IDEMPOTENT, Retry(), emit=rig.events.append, **options)


def test_a_retry_too_many_is_not_made() -> None:
    """The call ends as its try did, the budget keeps its token, and the event says which limit it was."""
    rig = limited(max_retries=1)
    budget = BudgetState(RetryBudget(floor=5.0, ratio=0.0), rig.clock())
    assert limiter(rig).has_room_to_retry()
    running = rig.balancer.pick(avoid=[rig.state(0)])
    assert limiter(rig).retries
    assert not limiter(rig).has_room_to_retry()
    assert limited(max_retries=0, observe=True).balancer.limiter.has_room_to_retry()
    outcome = play(rig, flow_of(rig, budget=budget), refused())
    assert (outcome.reason, outcome.tries) == ("refused", ())
    assert [type(event) for event in rig.events] == [LimitReached]
    assert rig.told(LimitReached)[0].limit == "max_retries"
    with pytest.raises(Overloaded, match="1 retries are in flight"):
        rig.balancer.pick(avoid=[rig.state(0)])
    running.release()
    assert limiter(rig).retries == set()
    assert play(rig, flow_of(rig, budget=budget), refused(), Outcome()).reason == ""
    assert len(rig.told(Retried)) == 1
    assert rig.told(BudgetExhausted) == []
    assert limiter(rig).retries == set()


def test_a_hedge_is_an_extra_try_too() -> None:
    """It needs room, and is not made where there is none."""
    rig = limited(max_retries=0)
    flow = flow_of(rig, hedge=0.1)
    step = flow.send(None)
    assert isinstance(step, Send)
    assert isinstance(flow.send(None), Next)  # nothing had answered after 0.1 s
    with pytest.raises(StopIteration):
        flow.send(settle(step.lease, Outcome()))
    assert [event.limit for event in rig.told(LimitReached)] == ["max_retries"]


def test_a_call_that_meets_the_service_limit_while_it_retries_ends_as_it_was() -> None:
    """The outcome at hand says more than a refusal."""
    rig = limited(max_requests=1)
    flow = flow_of(rig)
    step = flow.send(None)
    assert isinstance(step, Send)
    failure = settle(step.lease, refused())
    other = rig.balancer.pick()
    with pytest.raises(StopIteration) as stop:
        flow.send(failure)
    assert stop.value.value is failure
    other.release()


@pytest.mark.parametrize("end", ["arrives", "expires", "closed", "dropped"])
def test_waiting_for_the_first_endpoints_is_limited_and_ends_counted(end: str) -> None:
    """The second caller of one is refused at once; however the first one's wait ends, its place is free again."""
    rig = limited(0, max_pending=1)
    flow = flow_of(rig, ready_until=rig.clock() + 5)
    assert isinstance(flow.send(None), Wait)
    with pytest.raises(Overloaded, match="1 calls wait for endpoints") as caught:
        flow_of(rig, ready_until=rig.clock() + 5).send(None)
    assert caught.value.counts == {"max_pending": 1}
    assert isinstance(flow.send(None), Wait)  # woken early: it keeps its place
    if end == "arrives":
        rig.set(pods(2))
        step = flow.send(None)
        assert isinstance(step, Send)
        assert limiter(rig).pending == set()
        step.lease.release()
    elif end == "expires":
        rig.clock.advance(5)
        with pytest.raises(NotReady):
            flow.send(None)
    elif end == "closed":
        flow.close()
    else:
        del flow
        gc.collect()
    assert limiter(rig).pending == set()


def test_an_observer_refuses_nothing_and_tells_all() -> None:
    """The same requests go to the same endpoints; each that would have been refused is an event."""

    def history(rig: Rig) -> list[str]:
        leases = [rig.balancer.pick() for _ in range(10)]
        leases += [rig.balancer.pick(avoid=[leases[0].state]) for _ in range(3)]
        picked = [lease.endpoint.ip for lease in leases]
        for lease in leases:
            lease.release()
        play(rig, flow_of(rig), refused(), refused(), Outcome())
        return picked

    options = {"max_requests": 8, "max_requests_per_endpoint": 3, "max_retries": 0, "max_pending": 0}
    without, observed = Rig(3), limited(observe=True, **options)
    assert history(observed) == history(without)
    told = observed.told(LimitReached)
    assert all(event.observed for event in told)
    by_limit = {limit: sum(event.limit == limit for event in told) for limit in LIMITS}
    assert by_limit == {"max_requests": 5, "max_requests_per_endpoint": 4, "max_pending": 0, "max_retries": 2}
    assert {event.endpoint for event in told if event.limit == "max_requests_per_endpoint"} <= {
        state.endpoint.authority for state in observed.balancer.states()
    }
    held = [observed.balancer.pick() for _ in range(9)]
    view = observed.balancer.view()[0]
    assert view.state == "ready"
    assert view.reasons == (
        "observed: max_requests_per_endpoint=3 requests are in flight",
        "observed: max_requests=8 requests are in flight",
    )
    assert len(held) == 9
    waiting = limited(0, max_pending=0, observe=True)
    flow = flow_of(waiting, ready_until=waiting.clock() + 5)
    assert isinstance(flow.send(None), Wait)
    assert waiting.told(LimitReached) == [LimitReached("svc.ns", "max_pending", 0, observed=True)]


def test_the_service_limit_is_a_reason_of_each_endpoint() -> None:
    """Their own state stays what it is."""
    rig = limited(2, max_requests=1)
    lease = rig.balancer.pick()
    assert {(view.state, view.reasons) for view in rig.balancer.view()} == {
        ("ready", ("max_requests=1 requests are in flight",))
    }
    lease.release()


def test_usable_alone() -> None:
    """`Balancer(limits=...)`, nobody listening."""
    balancer = Balancer(limits=ConcurrencyLimits(max_requests=1))
    with pytest.raises(NotReady):
        balancer.pick(ANY)
    assert balancer.limiter is not None
    assert balancer.limiter.requests == set()
