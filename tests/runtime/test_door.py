"""The door: one call through a scripted bridge, sync and asyncio, in every way that it can end.

Whatever happens, nothing stays in flight and each open answer that the caller does not get is thrown away once.
"""

import asyncio
import dis
import gc
import math
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import CodeType
from typing import Any

import pytest
import tenacity

from core.kit import Clock, pods
from kubelb import ConcurrencyLimits, LoadBalancer, Retry, RetryBudget
from kubelb.core.lease import Lease
from kubelb.core.steps import Send
from kubelb.errors import Closed, DeadlineExceeded, LoadBalancerError, NoEndpoints, NotReady, Overloaded
from kubelb.model import ANY, IDEMPOTENT, SUCCESS, Outcome, Request, Sent, Snapshot, Verdict
from kubelb.runtime import aio, door, driving, sync
from kubelb.runtime.door import OPENED, Exchange
from kubelb.service import Service, service_of
from runtime.kit import Source, balancer, in_flight

STATIC = "static:///10.0.0.1:80,10.0.0.2:80,10.0.0.3:80"
QUICK = Retry(wait=tenacity.wait_fixed(0), budget=None)


class RefusedError(Exception):
    """What the client's users catch where kubelb refuses."""

    def __init__(self, error: LoadBalancerError) -> None:
        super().__init__(error)
        self.error = error


class Answer:
    """A response whose body is still to be read: it holds the lease until it is closed, thrown away or lost."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease

    def close(self) -> None:
        self.lease.release(SUCCESS)


End = Callable[[Lease], tuple[Outcome, Any]]


def good(lease: Lease) -> tuple[Outcome, Any]:
    return SUCCESS, "answer"


def opened(lease: Lease) -> tuple[Outcome, Any]:
    return OPENED, Answer(lease)


def unavailable(lease: Lease) -> tuple[Outcome, Any]:
    return Outcome(Verdict.FAILED, retryable=True, reason="503", open=True), Answer(lease)


def broken(lease: Lease) -> tuple[Outcome, Any]:
    return Outcome(Verdict.FAILED, sent=Sent.NEVER, retryable=True, reason="connect error", error=raised()), None


def raised() -> Exception:
    """An exception with a traceback: that frame, and those that called it, which must not hold the exception."""
    try:
        raise ConnectionError("no connection")
    except ConnectionError as error:
        return error


class Call(Exchange):
    """A call whose bridge reads what it wants from here, as an adapter does from its client's request."""

    __slots__ = ("__weakref__", "asks")

    def __init__(
        self, wanted: Request = IDEMPOTENT, *, limit: float | None = None, deadline: float | None = None
    ) -> None:
        self.asks = wanted, limit, deadline
        self.seen = None


class Bridge:
    """A client that does what it was told to, one end an attempt; the last one again and again."""

    def __init__(self, *ends: End) -> None:
        self.ends = list(ends)
        self.log: list[Any] = []
        self.answers: list[weakref.ref[Answer]] = []
        self.thrown: list[int] = []
        """Which of them were thrown away."""
        self.gone: list[str] = []
        """Where `left` was told of."""
        self.carriers: list[Any] = []

    def seen(self, call: Call) -> Any:
        return Seen(self.log)

    def told(self, outcome: Outcome, value: Any) -> Mapping[str, Any]:
        return {"as": outcome.reason or "well"}

    def prepare(self, call: Call) -> None:
        call.wanted, call.limit, call.deadline = call.asks

    def attempt(self, call: Call, lease: Lease, number: int, carrier: Any) -> tuple[Outcome, Any]:
        self.log.append((number, lease.endpoint.ip))
        self.carriers.append(carrier)
        end = self.ends.pop(0) if len(self.ends) > 1 else self.ends[0]
        return self._noted(*end(lease))

    def _noted(self, outcome: Outcome, value: Any) -> tuple[Outcome, Any]:
        if isinstance(value, Answer):
            self.answers.append(weakref.ref(value))
        return outcome, value

    def throw_away(self, outcome: Outcome) -> None:
        answer = outcome.value
        self.log.append("thrown")
        self.thrown.append(self.answers.index(weakref.ref(answer)))
        answer.lease.release(None)

    def left(self, lease: Lease) -> None:
        self.gone.append(lease.endpoint.ip)

    def refused(self, error: LoadBalancerError, call: Call) -> Exception:
        return RefusedError(error)

    @property
    def tries(self) -> list[Any]:
        return [entry for entry in self.log if isinstance(entry, tuple) and isinstance(entry[0], int)]

    def check(self, lb: Service, kept: int = 0) -> None:
        """Nothing in flight but what the caller keeps; all other answers are thrown away, or lost, and none twice."""
        assert in_flight(lb) == kept
        assert len(set(self.thrown)) == len(self.thrown)
        alive = {number for number, answer in enumerate(self.answers) if answer() is not None}
        assert len(alive - set(self.thrown)) == kept


class Turn:
    """Awaited for one turn of the event loop."""

    def __await__(self) -> Iterator[None]:
        yield


class AioBridge(Bridge):
    """Its twin, which is suspended once in each."""

    async def attempt(self, call: Call, lease: Lease, number: int, carrier: Any) -> tuple[Outcome, Any]:  # type: ignore[override]
        await Turn()
        return super().attempt(call, lease, number, carrier)

    async def throw_away(self, outcome: Outcome) -> None:  # type: ignore[override]
        await Turn()
        super().throw_away(outcome)


class Seen:
    """Telemetry's view of a call, and of an attempt below it."""

    def __init__(self, log: list[Any], name: str = "call") -> None:
        self.log = log
        self.name = name
        self.said: Any = None

    def attempt(self, endpoint: Any, number: int) -> "Seen":
        return Seen(self.log, f"attempt {number}")

    def carrier(self) -> dict[str, str]:
        return {"trace": self.name}

    def answered(self, said: Any) -> None:
        self.said = said

    def __enter__(self) -> "Seen":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.log.append((self.name, self.said if error is None else type(error).__name__))


class World:
    """The same verbs for threads and asyncio."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.aio = name == "asyncio"

    def bridge(self, *ends: End) -> Bridge:
        return AioBridge(*ends) if self.aio else Bridge(*ends)

    def call(self, lb: Service, bridge: Any, call: Exchange | None = None) -> Any:
        if not self.aio:
            return sync.run(lb, bridge, call or Call())
        with asyncio.Runner() as runner:
            return runner.run(aio.run(lb, bridge, call or Call()))

    def by_hand(self, lb: Service, bridge: Any, call: Exchange | None = None) -> Any:
        """Without an event loop: nothing here waits for more than its turn."""
        if not self.aio:
            return sync.run(lb, bridge, call or Call())
        coroutine = aio.run(lb, bridge, call or Call())
        try:
            while True:
                coroutine.send(None)
        except StopIteration as stop:
            return stop.value


def service(target: str, **options: Any) -> Service:
    """Return what calls are made through."""
    return service_of(LoadBalancer(target, **options))


def scripted(source: Source, **options: Any) -> Service:
    return service_of(balancer(source, **options))


@pytest.fixture(params=["threads", "asyncio"])
def world(request: pytest.FixtureRequest) -> World:
    return World(request.param)


@contextmanager
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def contexts(error: BaseException | None) -> list[type]:
    found: list[type] = []
    while error is not None:
        found.append(type(error))
        error = error.__cause__ or error.__context__
    return found


# How it ends


def test_an_ordinary_success(world: World) -> None:
    """One attempt, its value, and the lease is released as a success."""
    lb, bridge = service(STATIC), world.bridge(good)
    assert world.call(lb, bridge) == "answer"
    assert len(bridge.tries) == 1
    assert sum(state.successes for state in lb.balancer.states()) == 1
    assert bridge.carriers == [None]
    bridge.check(lb)


def test_an_open_answer_holds_the_lease(world: World) -> None:
    """Its latency is taken when it opens, and it is in flight until it is closed."""
    lb, bridge = service(STATIC), world.bridge(opened)
    answer = world.call(lb, bridge)
    bridge.check(lb, kept=1)
    assert sum(state.successes for state in lb.balancer.states()) == 1
    answer.close()
    assert in_flight(lb) == 0


def test_another_endpoint_after_a_failure(world: World) -> None:
    """Elsewhere, with the next number."""
    lb, bridge = service(STATIC, retry=QUICK), world.bridge(broken, good)
    assert world.call(lb, bridge) == "answer"
    (first, at), (second, elsewhere) = bridge.tries
    assert (first, second) == (1, 2)
    assert at != elsewhere
    bridge.check(lb)


def test_when_tries_end_the_last_error_is_raised(world: World) -> None:
    """The client's own, with a note on each try before it."""
    lb, bridge = service(STATIC, retry=QUICK), world.bridge(broken)
    with pytest.raises(ConnectionError) as caught:
        world.call(lb, bridge)
    assert len(bridge.tries) == 3
    assert len(caught.value.__notes__) == 2
    bridge.check(lb)


def test_what_need_not_be_repeated_is_the_end(world: World) -> None:
    """A failure that may not be repeated is the call's, without the flow."""
    lb, bridge = service(STATIC, retry=QUICK), world.bridge(unavailable)
    answer = world.call(lb, bridge, Call(ANY))
    assert len(bridge.tries) == 1
    assert answer is not None
    bridge.check(lb, kept=1)


def test_a_refusal_is_the_clients_own(world: World) -> None:
    """What the pick refuses with goes through the bridge, and nothing is sent."""
    lb, bridge = service(STATIC), world.bridge(good)
    lb.close()
    with pytest.raises(RefusedError) as caught:
        world.call(lb, bridge)
    assert type(caught.value.error) is Closed
    assert caught.value.__suppress_context__
    assert bridge.tries == []


def test_a_limit(world: World) -> None:
    """One too many is refused, and counts nowhere."""
    lb, bridge = service(STATIC, limits=ConcurrencyLimits(max_requests=1), retry=QUICK), world.bridge(opened)
    answer = world.call(lb, bridge)
    with pytest.raises(RefusedError) as caught:
        world.call(lb, bridge)
    assert type(caught.value.error) is Overloaded
    answer.close()
    assert in_flight(lb) == 0
    world.call(lb, bridge).close()
    assert in_flight(lb) == 0


def test_no_room_for_a_retry(world: World) -> None:
    """A limit of retries in flight: the first answer is what the caller gets, and it is not thrown away."""
    lb = service(STATIC, limits=ConcurrencyLimits(max_retries=0), retry=QUICK)
    bridge = world.bridge(unavailable)
    answer = world.call(lb, bridge)
    assert bridge.thrown == []
    assert len(bridge.tries) == 1
    answer.close()
    assert in_flight(lb) == 0


# Waiting


@pytest.mark.parametrize("end", [good, opened, broken])
def test_a_call_that_waits_for_the_first_endpoints(world: World, end: End) -> None:
    """It is not refused, and no error of its attempts has NotReady for its context."""
    source = Source(None)
    lb, bridge = scripted(source, retry=QUICK), world.bridge(end)
    timer = threading.Timer(0.05, source.say, (pods(3),))
    timer.start()
    try:
        if end is broken:
            with pytest.raises(ConnectionError) as caught:
                world.call(lb, bridge)
            assert NotReady not in contexts(caught.value)
            assert len(bridge.tries) == 3
        else:
            value = world.call(lb, bridge)
            assert len(bridge.tries) == 1
            if end is opened:
                value.close()
        assert in_flight(lb) == 0
    finally:
        timer.join()
        lb.close()


def test_a_call_that_waits_in_vain(world: World) -> None:
    """The refusal says what discovery is stuck on."""
    source = Source(None)
    source.error = "no such file"
    lb, bridge = scripted(source, ready_timeout=0.05), world.bridge(good)
    with pytest.raises(RefusedError, match="no such file") as caught:
        world.call(lb, bridge)
    assert type(caught.value.error) is NotReady
    assert caught.value.__suppress_context__
    bridge.check(lb)
    lb.close()


def test_nothing_to_pick_is_not_waited_for(world: World) -> None:
    """A set that is known, and empty, is an answer."""
    source = Source(None)
    lb, bridge = scripted(source), world.bridge(good)
    lb.balancer.update(Snapshot(1, ()))
    with pytest.raises(RefusedError) as caught:
        world.call(lb, bridge)
    assert type(caught.value.error) is NoEndpoints
    lb.close()


# Time


@pytest.mark.parametrize("deadline", [0.0, -1.0])
def test_a_deadline_that_is_over_before_the_call(world: World, deadline: float) -> None:
    """Nothing is picked, let alone sent."""
    lb, bridge = service(STATIC), world.bridge(good)
    with pytest.raises(RefusedError, match=f"deadline={deadline}") as caught:
        world.call(lb, bridge, Call(deadline=deadline, limit=deadline))
    assert type(caught.value.error) is DeadlineExceeded
    assert bridge.tries == []
    assert lb.balancer.requests == 0


def test_a_deadline_that_ends_while_a_call_waits(world: World) -> None:
    """It is the deadline that is told, before the longer wait for endpoints."""
    lb, bridge = scripted(Source(None), ready_timeout=60.0), world.bridge(good)
    with pytest.raises(RefusedError) as caught:
        world.call(lb, bridge, Call(deadline=0.05, limit=0.05))
    assert type(caught.value.error) is DeadlineExceeded
    bridge.check(lb)
    lb.close()


@pytest.mark.parametrize("limit", [1.0, math.inf, None])
def test_time_that_is_over_after_an_attempt(world: World, limit: float | None) -> None:
    """No other one begins; where there is time, it does."""
    clock = Clock()
    lb = service(STATIC, retry=QUICK, clock=clock)

    def slow(lease: Lease) -> tuple[Outcome, Any]:
        clock.advance(2.0)
        return broken(lease)

    bridge = world.bridge(slow)
    with pytest.raises(ConnectionError):
        world.call(lb, bridge, Call(limit=limit))
    assert len(bridge.tries) == (1 if limit == 1.0 else 3)
    bridge.check(lb)


def test_the_calls_time_begins_with_its_first_attempt() -> None:
    """`start` is that of the first lease, and stays so; `ends` follows from it."""
    clock = Clock()
    call = Call(limit=10.0)
    ends: list[float | None] = []

    def note(lease: Lease) -> tuple[Outcome, Any]:
        ends.append(call.ends)
        clock.advance(1.0)
        return broken(lease)

    with pytest.raises(ConnectionError):
        sync.run(service(STATIC, retry=QUICK, clock=clock), Bridge(note), call)
    assert ends == [1010.0] * 3


# Open answers that are replaced


def test_an_open_answer_is_thrown_away_before_the_next_attempt(world: World) -> None:
    """So that the connection is free; and once."""
    lb, bridge = service(STATIC, retry=QUICK), world.bridge(unavailable, unavailable, opened)
    answer = world.call(lb, bridge)
    assert [entry if entry == "thrown" else entry[0] for entry in bridge.log] == [1, "thrown", 2, "thrown", 3]
    assert bridge.thrown == [0, 1]
    bridge.check(lb, kept=1)
    answer.close()
    assert in_flight(lb) == 0


def test_the_last_open_answer_is_the_callers(world: World) -> None:
    """Although it is no good: it is what the service has answered."""
    lb, bridge = service(STATIC, retry=QUICK), world.bridge(unavailable)
    answer = world.call(lb, bridge)
    assert bridge.thrown == [0, 1]
    bridge.check(lb, kept=1)
    answer.close()


def test_the_first_answer_comes_back_where_no_other_can_be_had(world: World) -> None:
    """The flow returns what it began with: there is no budget for another try."""
    lb = service(STATIC, retry=Retry(budget=RetryBudget(ratio=0.0, reserve=0.0)))
    bridge = world.bridge(unavailable)
    answer = world.call(lb, bridge)
    assert bridge.thrown == []
    bridge.check(lb, kept=1)
    answer.close()


def test_a_flow_that_raises_while_an_answer_is_to_be_replaced(world: World) -> None:
    """An interrupt in the user's own strategy: the answer that nobody gets is thrown away."""

    def wait(state: Any) -> float:
        raise KeyboardInterrupt

    lb = service("static:///10.0.0.1:80", retry=Retry(wait=wait, budget=None))
    bridge = world.bridge(unavailable)
    with pytest.raises(KeyboardInterrupt):
        world.call(lb, bridge)
    assert bridge.thrown == [0]
    bridge.check(lb)


def test_a_second_attempt_that_is_interrupted(world: World) -> None:
    """The first answer was thrown away before it, and is not again."""

    def interrupted(lease: Lease) -> tuple[Outcome, Any]:
        raise KeyboardInterrupt

    lb, bridge = service(STATIC, retry=QUICK), world.bridge(unavailable, interrupted)
    with pytest.raises(KeyboardInterrupt):
        world.call(lb, bridge)
    assert bridge.thrown == [0]
    bridge.check(lb)


def test_a_strategy_that_judges_successes(world: World) -> None:
    """Every answer is shown to it, and one that it does not want is thrown away like any other."""
    wanted: list[Any] = []

    def again(state: tenacity.RetryCallState) -> bool:
        assert state.outcome is not None
        wanted.append(state.outcome.result())
        return len(wanted) < 2

    for end in (opened, good):
        wanted.clear()
        lb = service(STATIC, retry=Retry(wait=tenacity.wait_fixed(0), budget=None, retry=again))
        bridge = world.bridge(end)
        value = world.call(lb, bridge)
        assert len(bridge.tries) == 2
        assert value is wanted[-1]
        wanted.clear()
        bridge.check(lb, kept=int(end is opened))
        assert bridge.thrown == ([0] if end is opened else [])


# Endpoints that are gone


def stopped(lease: Lease) -> tuple[Outcome, Any]:
    raise KeyboardInterrupt


@pytest.mark.parametrize("end", [good, broken, stopped])
@pytest.mark.parametrize("before", [(), (unavailable,)], ids=["first", "second"])
def test_a_request_that_ends_on_an_endpoint_that_is_gone(world: World, end: End, before: Collection[End]) -> None:
    """`left` hears of it once, however it ended; of an open answer's end hears what reads it."""
    lb = service(STATIC, retry=Retry(attempts=1 + len(before), wait=tenacity.wait_fixed(0), budget=None))

    def ends(lease: Lease) -> tuple[Outcome, Any]:
        lb.balancer.update(Snapshot(2, ()))
        return end(lease)

    bridge = world.bridge(*before, ends)
    with suppress(ConnectionError, KeyboardInterrupt):
        world.call(lb, bridge)
    assert bridge.gone == [bridge.tries[-1][1]]
    bridge.check(lb)


# Telemetry


def test_telemetry_sees_the_call_and_each_attempt(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempt by attempt, each with a trace context of its own; what raises is seen too."""
    lb, bridge = service(STATIC, retry=QUICK), world.bridge(unavailable, good)
    monkeypatch.setattr(lb.watch, "on", lambda: True)
    world.call(lb, bridge)
    ends = [entry for entry in bridge.log if entry != "thrown" and isinstance(entry[0], str)]
    assert ends == [("attempt 1", {"as": "503"}), ("attempt 2", {"as": "well"}), ("call", {"as": "well"})]
    assert bridge.carriers == [{"trace": "attempt 1"}, {"trace": "attempt 2"}]
    bridge = world.bridge(stopped)
    with pytest.raises(KeyboardInterrupt):
        world.call(lb, bridge)
    assert bridge.log[1:] == [("attempt 1", "KeyboardInterrupt"), ("call", "KeyboardInterrupt")]
    bridge = world.bridge(good)
    with pytest.raises(RefusedError):
        world.call(lb, bridge, Call(deadline=0.0))
    assert bridge.log == [("call", "RefusedError")]


# Interrupts and cancellations


def polls(code: CodeType) -> set[int]:
    """Return where CPython lets an interrupt in: where a function begins or goes on, after calls, in loops."""
    found: set[int] = set()
    called = False
    for instruction in dis.get_instructions(code):
        name = instruction.opname
        if called or name == "RESUME" or name.startswith("JUMP_BACKWARD"):
            found.add(instruction.offset)
        called = name.startswith("CALL")
    return found


def polls_of(*places: Any) -> dict[CodeType, set[int]]:
    """Do so for all code of these modules and classes, inner code included."""
    found: dict[CodeType, set[int]] = {}
    waiting: list[Any] = [thing for place in places for thing in vars(place).values()]
    while waiting:
        thing = waiting.pop()
        if isinstance(thing, type) and thing.__module__.startswith("kubelb.runtime"):
            waiting += vars(thing).values()
        code = thing if isinstance(thing, CodeType) else getattr(thing, "__code__", None)
        if isinstance(code, CodeType) and code not in found:
            found[code] = polls(code)
            waiting += code.co_consts
    return found


def interrupted_at(number: int, places: Mapping[CodeType, set[int]], act: Callable[[], Any]) -> bool:
    """Act, and raise KeyboardInterrupt at the place of this number; False where it ended before that."""
    left = number
    fired = False

    def trace(frame: Any, event: str, _arg: Any) -> Any:
        nonlocal left, fired
        if frame.f_code not in places:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_lasti in places[frame.f_code]:
            left -= 1
            if left < 0:
                fired = True
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with warnings.catch_warnings(), suppress(KeyboardInterrupt, ConnectionError):
            warnings.simplefilter("ignore")  # a coroutine that was not awaited, for that is where it hit
            act()
    finally:
        sys.settrace(before)
    return fired


@pytest.mark.parametrize(
    "ends",
    [(good,), (opened,), (broken, good), (unavailable, opened), (unavailable, broken, broken)],
    ids=lambda ends: " ".join(end.__name__ for end in ends),
)
def test_an_interrupt_wherever_one_can_come(world: World, ends: tuple[End, ...]) -> None:
    """In the door, the driver, the attempt: nothing in flight, no answer kept, none thrown away twice.

    Without the collector: no frame of the door's is in a circle.
    """
    lb = service(STATIC, retry=QUICK, outliers=None)
    places = polls_of(sync, aio, door, driving, Bridge, AioBridge)
    warm = world.bridge(broken, good)  # what is loaded at the first retry; and CPython 3.12 begins with it to trace
    assert not interrupted_at(10_000, places, lambda: world.by_hand(lb, warm))
    number = 0
    with no_collector():
        while True:
            bridge = world.bridge(*ends)
            fired = interrupted_at(number, places, lambda: world.by_hand(lb, bridge))  # noqa: B023
            bridge.check(lb)
            if not fired:
                break
            number += 1
    assert number >= 10 * len(ends)


@pytest.mark.parametrize("before", [(), (unavailable,)], ids=["first", "second"])
def test_a_cancelled_task(before: Collection[End]) -> None:
    """In the middle of an attempt: its lease is released as cancelled, and nothing is thrown away twice."""
    lb = service(STATIC, retry=QUICK)
    begun: list[bool] = []

    class Hanging(AioBridge):
        async def attempt(self, *args: Any) -> tuple[Outcome, Any]:  # type: ignore[override]
            if len(self.tries) == len(before):
                begun.append(True)
                await asyncio.Event().wait()
            return await super().attempt(*args)

    bridge = Hanging(*before, good)

    async def main() -> None:
        task = asyncio.ensure_future(aio.run(lb, bridge, Call()))
        while not begun:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert in_flight(lb) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert bridge.thrown == [0] * len(before)
    bridge.check(lb)
    assert sum(state.failures for state in lb.balancer.states()) == len(before)


# What is kept


def test_nothing_of_a_call_is_kept(world: World) -> None:
    """Without the collector: the frames of a try that failed, and of the door, are gone with the call's end."""

    class Local:
        """A local of the frame in which an attempt failed."""

    locals_: list[weakref.ref[Local]] = []

    def failed(lease: Lease) -> tuple[Outcome, Any]:
        local = Local()
        locals_.append(weakref.ref(local))
        return broken(lease)

    def kept() -> list[weakref.ref[Any]]:
        call, bridge = Call(), world.bridge(failed, unavailable, opened)
        answer = world.by_hand(lb, bridge, call)
        found = [weakref.ref(call), weakref.ref(bridge), *bridge.answers, *locals_]
        answer.close()
        return found

    lb = service(STATIC, retry=QUICK)
    with no_collector():
        assert [ref() for ref in kept()] == [None] * 5


def test_nothing_of_a_call_that_failed_is_kept(world: World) -> None:
    """Kind: an error whose traceback holds a frame that holds the error. What a call ended with lives as its caller
    wants, and the rest of the call no longer than that.
    """

    def kept() -> list[weakref.ref[Any]]:
        call, bridge = Call(), world.bridge(broken, broken, broken)
        with pytest.raises(OSError):
            world.by_hand(lb, bridge, call)
        return [weakref.ref(call), weakref.ref(bridge)]

    lb = service(STATIC, retry=QUICK)
    with no_collector():
        assert [ref() for ref in kept()] == [None] * 2


def test_nothing_of_a_call_that_waited_is_kept() -> None:
    """The same where it waited for the first endpoints: NotReady holds no frame of it."""
    source = Source(None)
    lb = scripted(source)

    def kept() -> weakref.ref[Call]:
        call = Call()
        assert sync.run(lb, Bridge(good), call) == "answer"
        return weakref.ref(call)

    timer = threading.Timer(0.05, source.say, (pods(3),))
    with no_collector():
        timer.start()
        assert kept()() is None
    timer.join()
    lb.close()


# Calls of functions go on through it


def test_a_function_goes_on_through_the_door() -> None:
    """`call` and `acall` hand over what their inlined first attempt did not end: the same numbers, the same notes."""
    lb = LoadBalancer(STATIC, retry=QUICK)
    numbers: list[int] = []

    def fn(attempt: Any) -> None:
        numbers.append(attempt.number)
        raise ConnectionRefusedError

    async def afn(attempt: Any) -> None:
        fn(attempt)

    with pytest.raises(ConnectionRefusedError) as caught:
        lb.call(fn, idempotent=True)
    with pytest.raises(ConnectionRefusedError) as acaught:
        asyncio.run(lb.acall(afn, idempotent=True))
    assert numbers == [1, 2, 3] * 2
    assert len(caught.value.__notes__) == len(acaught.value.__notes__) == 2
    assert in_flight(service_of(lb)) == 0


def test_the_drivers_throw_away_what_a_flow_began_with() -> None:
    """A first answer that is open belongs to the driver, once it is told of it."""
    lb = service(STATIC, retry=QUICK)
    lease = lb.balancer.pick(IDEMPOTENT)
    thrown: list[Outcome] = []
    first = driving.settle(lease, Outcome(Verdict.FAILED, retryable=True, open=True))

    def send(step: Send) -> Outcome:
        assert thrown == [first]
        return Outcome()

    lb.run(IDEMPOTENT, send, first=first, discard=thrown.append)
    assert thrown == [first]
    lease.release(None)
    assert in_flight(lb) == 0
