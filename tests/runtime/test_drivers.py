"""The three drivers, each through every scenario, and what is peculiar to each of them."""

import asyncio
import contextvars
import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from core.kit import Rig, pods
from core.scenarios import BOTH, UNIT, VIRTUAL, Scenario
from core.world import Seen, Virtual
from kubelb.clock import monotonic
from kubelb.core import Lease
from kubelb.core.balancer import Balancer
from kubelb.core.flow import Flow, attempt_flow
from kubelb.core.health.limits import ConcurrencyLimits
from kubelb.core.retry import Retry
from kubelb.core.retry.budget import BudgetState
from kubelb.core.steps import Send
from kubelb.errors import LoadBalancerError
from kubelb.model import CANCELLED, IDEMPOTENT, Outcome, Snapshot
from kubelb.runtime.aio import drive_async
from kubelb.runtime.callback import CallbackDriver
from kubelb.runtime.sync import drive

REAL = 0.04
"""Seconds a unit, where a driver really waits."""


class World:
    """The callback driver's world: virtual time, aborted attempts that end a little later."""

    def __init__(self, scenario: Scenario) -> None:
        self.virtual = Virtual(scenario)
        self.seen = self.virtual.seen
        self.landing: dict[Lease, Callable[[Outcome], None]] = {}
        self.numbers: dict[Lease, int] = {}
        self.waiters: list[Callable[[], None]] = []
        self.ended: list[float] = []

    def run(self) -> None:
        driver = CallbackDriver(self.virtual.flow(), self, self.done)
        driver.start()
        while self.virtual.heap and (not self.ended or self.landing):
            before = self.virtual.rig.balancer.version
            self.virtual.turn()
            if self.virtual.rig.balancer.version != before:
                waiters, self.waiters = self.waiters, []
                for waiter in waiters:
                    waiter()

    def done(self, outcome: Outcome | None, error: BaseException | None) -> None:
        self.seen.end(outcome, error)
        self.ended.append(self.virtual.rig.clock() - self.virtual.start)

    def send(self, step: Send, done: Callable[[Outcome], None]) -> None:
        self.seen.sends.append((step.number, step.lease.endpoint.ip))
        self.numbers[step.lease] = step.number
        self.landing[step.lease] = done
        reply = self.virtual.scenario.replies[step.number - 1]
        if reply.took == 0:
            self.land(step.lease, reply.outcome(step.number, 1.0))
        elif reply.took is not None:
            self.virtual.later(reply.took, lambda: self.land(step.lease, reply.outcome(step.number, 1.0)))

    def land(self, lease: Lease, outcome: Outcome) -> None:
        done = self.landing.pop(lease, None)
        if done is not None:
            done(outcome)

    def abort(self, lease: Lease) -> None:
        self.seen.cancelled.append(self.numbers[lease])
        self.virtual.later(0.5, lambda: self.land(lease, CANCELLED))

    def discard(self, outcome: Outcome) -> None:
        self.seen.discarded.append(outcome.value)
        outcome.lease.release(None)

    def call_at(self, when: float, job: Callable[[], None]) -> None:
        self.virtual.at(when, job)

    def when_newer(self, version: int | None, job: Callable[[], None]) -> Callable[[], None]:
        if self.virtual.rig.balancer.version != version:
            job()
        self.waiters.append(job)
        return lambda: self.waiters.remove(job) if job in self.waiters else None


@pytest.mark.parametrize("scenario", BOTH + VIRTUAL, ids=str)
def test_callback(scenario: Scenario) -> None:
    """The callback driver in virtual time; `done` is told once, nobody waits any more."""
    world = World(scenario)
    world.run()
    assert world.ended == [scenario.took]
    assert world.waiters == []
    world.seen.check(scenario, world.virtual.rig.balancer)


@pytest.fixture
def real_time() -> Iterator[None]:
    UNIT.seconds = REAL
    yield
    UNIT.seconds = 1.0


class Real:
    """Real time, in short units: what the sync and the asyncio driver need."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.seen = Seen()
        self.balancer = Balancer("round_robin", outliers=None, limits=ConcurrencyLimits(max_retries=100))
        if scenario.arrives is None:
            self.balancer.update(Snapshot(1, pods(scenario.pods)))
        self.numbers: dict[Lease, int] = {}
        self.start = monotonic()
        self.timer: threading.Timer | None = None
        moment, snapshot = scenario.vanishes, Snapshot(2)
        if scenario.arrives is not None:
            moment, snapshot = scenario.arrives, Snapshot(1, pods(scenario.pods))
        if moment is not None:
            self.timer = threading.Timer(moment * REAL, self.balancer.update, (snapshot,))
            self.timer.start()

    def flow(self) -> Flow:
        def at(units: float | None) -> float | None:
            return None if units is None else self.start + units * REAL

        scenario = self.scenario
        return attempt_flow(
            self.balancer,
            scenario.request,
            scenario.retry,
            budget=BudgetState(scenario.retry.budget, self.start) if scenario.retry.budget else None,
            deadline=at(scenario.deadline),
            ready_until=at(scenario.ready),
            hedge=None if scenario.hedge is None else scenario.hedge * REAL,
        )

    def begun(self, step: Send) -> None:
        self.seen.sends.append((step.number, step.lease.endpoint.ip))
        self.numbers[step.lease] = step.number

    def reply(self, step: Send) -> Outcome:
        return self.scenario.replies[step.number - 1].outcome(step.number, REAL)

    def finish(self) -> None:
        if self.timer:
            self.timer.cancel()
            self.timer.join()
        assert monotonic() - self.start >= self.scenario.took * REAL - 0.002
        self.seen.check(self.scenario, self.balancer)


@pytest.mark.usefixtures("real_time")
@pytest.mark.parametrize("scenario", BOTH, ids=str)
def test_sync(scenario: Scenario) -> None:
    """The blocking driver; losers end in their own threads, and no thread is left."""
    world = Real(scenario)
    aborted: dict[Lease, threading.Event] = {}

    def send(step: Send) -> Outcome:
        stop = aborted.setdefault(step.lease, threading.Event())
        world.begun(step)
        took = scenario.replies[step.number - 1].took
        if stop.wait(10 if took is None else took * REAL):
            return CANCELLED
        return world.reply(step)

    def discard(outcome: Outcome) -> None:
        world.seen.discarded.append(outcome.value)
        outcome.lease.release(None)

    def abort(lease: Lease) -> None:
        world.seen.cancelled.append(world.numbers[lease])
        aborted[lease].set()

    def wait(version: int | None, until: float) -> None:
        while world.balancer.version == version and monotonic() < until:
            time.sleep(0.001)

    before = set(threading.enumerate())
    try:
        outcome = drive(world.flow(), send, wait=wait, clock=monotonic, discard=discard, abort=abort)
        world.seen.end(outcome, None)
    except LoadBalancerError as error:
        world.seen.end(None, error)
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
    assert set(threading.enumerate()) - {world.timer} <= before
    world.finish()


@pytest.mark.usefixtures("real_time")
@pytest.mark.parametrize("scenario", BOTH, ids=str)
def test_asyncio(scenario: Scenario) -> None:
    """The asyncio driver; losers are cancelled, and no task is left a moment later."""
    world = Real(scenario)

    async def send(step: Send) -> Outcome:
        world.begun(step)
        took = scenario.replies[step.number - 1].took
        try:
            await asyncio.sleep(10 if took is None else took * REAL)
        except asyncio.CancelledError:
            world.seen.cancelled.append(step.number)
            raise
        return world.reply(step)

    async def discard(outcome: Outcome) -> None:
        world.seen.discarded.append(outcome.value)
        outcome.lease.release(None)

    async def wait(version: int | None, until: float) -> None:
        while world.balancer.version == version and monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    async def main() -> None:
        try:
            outcome = await drive_async(world.flow(), send, wait=wait, clock=monotonic, discard=discard)
            world.seen.end(outcome, None)
        except LoadBalancerError as error:
            world.seen.end(None, error)
        for _ in range(4):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    world.finish()


def hedged(rig: Rig) -> Flow:
    return attempt_flow(rig.balancer, IDEMPOTENT, Retry(attempts=2), hedge=0.01)


def idle(*_: Any) -> None:
    """Nothing to do."""


def test_sync_throws_away_a_loser_that_answered_just_too_late() -> None:
    """Its response had come and nobody took it: it is discarded, not left to the collector."""
    rig = Rig(3)
    rig.balancer.clock = monotonic
    both = threading.Barrier(2)
    discarded: list[Outcome] = []

    def send(step: Send) -> Outcome:
        both.wait(5)
        return Outcome(open=True, value=step.number)

    def discard(outcome: Outcome) -> None:
        discarded.append(outcome)
        outcome.lease.release(None)

    outcome = drive(hedged(rig), send, wait=idle, clock=monotonic, discard=discard)
    deadline = monotonic() + 5
    while not discarded and monotonic() < deadline:
        time.sleep(0.001)
    assert {outcome.value, discarded[0].value} == {1, 2}
    outcome.lease.release()
    assert sum(state.in_flight for state in rig.balancer.states()) == 0


def test_sync_raises_what_stops_an_attempt_and_ends_the_other() -> None:
    """A KeyboardInterrupt in one attempt's thread ends the call."""
    rig = Rig(3)
    rig.balancer.clock = monotonic
    aborted = threading.Event()

    def send(step: Send) -> Outcome:
        if step.number == 2:
            raise KeyboardInterrupt
        aborted.wait(5)
        return Outcome(open=False)

    with pytest.raises(KeyboardInterrupt):
        drive(hedged(rig), send, wait=idle, clock=monotonic, discard=idle, abort=lambda lease: aborted.set())
    deadline = monotonic() + 5
    while any(thread.name == "kubelb-attempt" for thread in threading.enumerate()) and monotonic() < deadline:
        time.sleep(0.001)
    assert sum(state.in_flight for state in rig.balancer.states()) == 0


def test_sync_without_a_thread_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a limit of threads a hedged attempt is made in the caller's own."""

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    rig = Rig(3)
    rig.balancer.clock = monotonic
    here: list[int] = []

    def send(step: Send) -> Outcome:
        here.append(threading.get_ident())
        return Outcome(value="answer")

    assert drive(hedged(rig), send, wait=idle, clock=monotonic, discard=idle).value == "answer"
    assert here == [threading.get_ident()]
    assert sum(state.in_flight for state in rig.balancer.states()) == 0


def test_sync_attempts_see_the_callers_context() -> None:
    """Context variables follow an attempt into its thread."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="lost")
    variable.set("here")
    rig = Rig(3)
    rig.balancer.clock = monotonic
    seen: list[str] = []

    def send(step: Send) -> Outcome:
        seen.append(variable.get())
        return Outcome()

    drive(hedged(rig), send, wait=idle, clock=monotonic, discard=idle)
    assert seen == ["here"]


def test_a_cancelled_caller_cancels_what_it_started() -> None:
    """asyncio: one attempt awaited in place, two raced; cancelling the caller ends them all."""

    async def main(hedge: float | None) -> None:
        rig = Rig(3)
        rig.balancer.clock = monotonic
        ended: list[int] = []

        async def send(step: Send) -> Outcome:
            try:
                await asyncio.sleep(10)
            finally:
                ended.append(step.number)
            return Outcome()

        flow = attempt_flow(rig.balancer, IDEMPOTENT, Retry(attempts=2), hedge=hedge)
        task = asyncio.ensure_future(
            drive_async(flow, send, wait=idle, clock=monotonic, discard=idle)  # type: ignore[arg-type]
        )
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.01)
        assert sorted(ended) == ([1] if hedge is None else [1, 2])
        assert sum(state.in_flight for state in rig.balancer.states()) == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main(None))
    asyncio.run(main(0.01))


def test_asyncio_throws_away_what_a_loser_brings() -> None:
    """A loser that had answered, one that answers in spite of its cancel, and one that fails at it."""

    async def main(way: str) -> list[int]:
        rig = Rig(3)
        rig.balancer.clock = monotonic
        discarded: list[int] = []
        release = asyncio.Event()

        async def send(step: Send) -> Outcome:
            if step.number == 1:
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    if way == "fails":
                        raise RuntimeError("cannot even be cancelled") from None
                return Outcome(open=True, value=1)
            if way == "had answered":
                release.set()
            return Outcome(open=True, value=2)

        async def discard(outcome: Outcome) -> None:
            discarded.append(outcome.value)
            outcome.lease.release(None)

        outcome = await drive_async(hedged(rig), send, wait=idle, clock=monotonic, discard=discard)  # type: ignore[arg-type]
        outcome.lease.release()
        await asyncio.sleep(0.01)
        gc.collect()
        assert sum(state.in_flight for state in rig.balancer.states()) == 0
        return [*discarded, outcome.value]

    assert sorted(asyncio.run(main("had answered"))) == [1, 2]
    assert asyncio.run(main("in spite")) == [1, 2]
    assert asyncio.run(main("fails")) == [2]


def test_callback_cancel_in_the_middle() -> None:
    """Attempts are aborted, `done` is told CANCELLED once, late ends are thrown away, timers and waiters are dead."""
    by_name = {scenario.name: scenario for scenario in BOTH}
    for name, turns in (("hedge wins", 1), ("waits for the first snapshot", 0), ("Retry-After within it", 0)):
        world = World(by_name[name])
        driver = CallbackDriver(world.virtual.flow(), world, world.done)
        driver.start()
        for _ in range(turns):
            world.virtual.turn()
        driver.cancel()
        driver.cancel()
        assert world.seen.outcome is CANCELLED
        assert len(world.ended) == 1
        assert world.waiters == []
        flying = len(world.landing)
        assert len(world.seen.cancelled) == flying
        while world.virtual.heap:
            world.virtual.turn()
        assert len(world.ended) == 1
        assert sum(state.in_flight for state in world.virtual.rig.balancer.states()) == 0


def test_callback_throws_away_a_response_that_comes_after_the_cancel() -> None:
    """The response of an aborted attempt is discarded."""
    world = World(BOTH[0])
    world.landing.clear()
    sent: list[tuple[Send, Callable[[Outcome], None]]] = []
    world.send = lambda step, done: sent.append((step, done))  # type: ignore[method-assign]
    world.abort = lambda lease: None  # type: ignore[method-assign]
    driver = CallbackDriver(world.virtual.flow(), world, world.done)
    driver.start()
    driver.cancel()
    ((step, done),) = sent
    done(Outcome(open=True, value=step.number))
    assert world.seen.discarded == [1]
    assert sum(state.in_flight for state in world.virtual.rig.balancer.states()) == 0


def test_callback_survives_a_done_that_raises() -> None:
    """What the caller's own callback raises goes to whoever brought the event; later events are still served."""
    world = World(next(scenario for scenario in BOTH if scenario.name == "hedge wins"))

    def done(outcome: Outcome | None, error: BaseException | None) -> None:
        raise RuntimeError("mine")

    driver = CallbackDriver(world.virtual.flow(), world, done)
    driver.start()
    with pytest.raises(RuntimeError, match="mine"):
        while world.virtual.heap:
            world.virtual.turn()
    while world.virtual.heap:
        world.virtual.turn()
    assert sum(state.in_flight for state in world.virtual.rig.balancer.states()) == 0


def test_callback_reports_a_world_that_cannot_send() -> None:
    """An error of the world itself ends the call with it."""
    world = World(BOTH[0])

    def send(step: Send, done: Callable[[Outcome], None]) -> None:
        raise RuntimeError("no more file descriptors")

    world.send = send  # type: ignore[method-assign]
    CallbackDriver(world.virtual.flow(), world, world.done).start()
    assert world.seen.ends == "RuntimeError"
    assert sum(state.in_flight for state in world.virtual.rig.balancer.states()) == 0


def test_callback_events_from_many_threads() -> None:
    """Outcomes, timers and cancels of 200 calls from three threads: `done` once each, nothing in flight."""
    rig = Rig(5, "random", outliers=None)
    rig.balancer.clock = monotonic
    lock = threading.Lock()
    inbox: list[Callable[[], None]] = []
    told: list[int] = []

    class Threads:
        def send(self, step: Send, done: Callable[[Outcome], None]) -> None:
            with lock:
                inbox.append(lambda: done(Outcome(value=step.number)))

        def abort(self, lease: Lease) -> None:
            """Ends like the others."""

        def discard(self, outcome: Outcome) -> None:
            """Nothing is open."""

        def call_at(self, when: float, job: Callable[[], None]) -> None:
            with lock:
                inbox.append(job)

        def when_newer(self, version: int | None, job: Callable[[], None]) -> Callable[[], None]:
            raise AssertionError

    def finished(outcome: Outcome | None, error: BaseException | None) -> None:
        with lock:
            told.append(1)

    drivers = [CallbackDriver(hedged(rig), Threads(), finished) for _ in range(200)]
    for number, driver in enumerate(drivers):
        driver.start()
        if number % 3 == 0:
            inbox.append(driver.cancel)

    def work() -> None:
        while True:
            with lock:
                if not inbox:
                    return
                job = inbox.pop(len(inbox) * 7 // 11)
            job()

    while inbox:
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with suppress(IndexError):
        inbox.pop()
    assert len(told) == 200
    assert sum(state.in_flight for state in rig.balancer.states()) == 0
