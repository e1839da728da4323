"""LoadBalancer.call and acall: what comes back, how often, and that nothing stays behind."""

import asyncio
import contextlib
import math
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import tenacity
from opentelemetry.sdk.trace import TracerProvider

from core.kit import Clock, pods
from kubelb import Attempt, ConcurrencyLimits, LoadBalancer, Retry, Telemetry, hints
from kubelb.core.lease import Lease
from kubelb.core.steps import Send
from kubelb.errors import Closed, DeadlineExceeded, NeverSent, NoEndpoints, NotReady, Overloaded
from kubelb.model import CANCELLED, IDEMPOTENT, Outcome, Sent, Verdict
from kubelb.service import service_of

from .kit import Source, balancer, in_flight, no_threads_left, until

STATIC = "static:///10.0.0.1:80,10.0.0.2:80,10.0.0.3:80"
QUICK = Retry(wait=tenacity.wait_fixed(0))
ROOMY = ConcurrencyLimits(max_requests_per_endpoint=1000, max_retries=1000)


def both(lb: LoadBalancer, fn: Callable[[Attempt], Any], **hints: Any) -> Any:
    """Run a call in a thread's way and in asyncio's; both must end alike."""

    async def afn(attempt: Attempt) -> Any:
        return fn(attempt)

    ends: list[tuple[str, Any]] = []
    for run in (lambda: lb.call(fn, **hints), lambda: asyncio.run(lb.acall(afn, **hints))):
        try:
            ends.append(("returned", run()))
        except Exception as error:
            ends.append(("raised", error))
        assert in_flight(lb) == 0
    (one, first), (other, second) = ends
    assert one == other
    assert type(first) is type(second)
    if one == "raised":
        raise first
    assert first == second
    return first


class Script:
    """Raises or returns what is next in line; begins anew after the last."""

    def __init__(self, *ends: Any) -> None:
        self.ends = ends
        self.seen: list[Attempt] = []

    def __call__(self, attempt: Attempt) -> Any:
        end = self.ends[len(self.seen) % len(self.ends)]
        self.seen.append(attempt)
        if isinstance(end, BaseException):
            raise type(end)(*end.args)
        return end

    def once(self) -> list[Attempt]:
        """The attempts of the first of two equal calls."""
        assert len(self.seen) % 2 == 0
        return self.seen[: len(self.seen) // 2]


def test_a_result_comes_back() -> None:
    """With endpoint, number 1 and no timeout where there is no deadline."""
    lb = LoadBalancer(STATIC)
    script = Script("done")
    assert both(lb, script) == "done"
    (attempt,) = script.once()
    assert attempt.endpoint.authority in STATIC
    assert (attempt.number, attempt.timeout) == (1, None)


def test_never_sent_is_tried_elsewhere() -> None:
    """Where the function says so, any request goes to another endpoint."""
    lb = LoadBalancer(STATIC)
    script = Script(NeverSent(), "done")
    assert both(lb, script) == "done"
    one, other = script.once()
    assert one.endpoint != other.endpoint
    assert (one.number, other.number) == (1, 2)


@pytest.mark.parametrize(
    "error", [ConnectionRefusedError(), ConnectionResetError(), TimeoutError(), BrokenPipeError(), EOFError()]
)
def test_maybe_sent_is_repeated_only_where_the_caller_allows_it(error: Exception) -> None:
    """Idempotent: tried elsewhere. Not: the error comes out as it is."""
    lb = LoadBalancer(STATIC, retry=QUICK, outliers=None)
    assert both(lb, Script(error, "done"), idempotent=True) == "done"
    script = Script(error)
    with pytest.raises(type(error)):
        both(lb, script)
    assert len(script.once()) == 1


def said(error: Exception, deadline: float, took: float) -> tuple[int, int, int, float]:
    """Return failures, silences, successes and cost of the one endpoint after a call that took so long and raised."""
    clock = Clock()
    lb = LoadBalancer("static:///10.0.0.1:80", clock=clock)
    lb.call(lambda _: clock.advance(0.1))

    def fn(_: Attempt) -> None:
        clock.advance(took)
        raise error

    with pytest.raises(type(error)):
        lb.call(fn, deadline=deadline)
    (state,) = service_of(lb).balancer.states()
    return state.failures, state.silent, state.successes, state.cost


@pytest.mark.parametrize("error", [TimeoutError(), ValueError("my client's own word for a timeout")])
def test_an_exception_at_the_deadline_is_silence(error: Exception) -> None:
    """Not every client's timeout is a TimeoutError. A pod that hangs is found all the same."""
    assert said(error, deadline=0.5, took=0.501) == (1, 1, 1, pytest.approx(0.501))


def test_an_exception_long_after_the_deadline_is_our_own_stall() -> None:
    """The function, or the machine, was away: that says nothing."""
    for error in (TimeoutError(), ValueError()):
        assert said(error, deadline=0.5, took=1.5) == (0, 0, 1, pytest.approx(0.1))


def test_an_exception_before_the_deadline() -> None:
    """A TimeoutError is the function's own, shorter timeout, and silence; any other is not known."""
    assert said(TimeoutError(), deadline=5.0, took=0.5)[:3] == (1, 1, 1)
    assert said(ValueError(), deadline=5.0, took=0.5)[:3] == (0, 0, 1)


def test_an_application_error_is_the_applications() -> None:
    """A ValueError says nothing about a pod: no retry, no failure."""
    lb = LoadBalancer(STATIC)
    script = Script(ValueError("bad input"))
    with pytest.raises(ValueError, match="bad input"):
        both(lb, script, idempotent=True)
    assert len(script.once()) == 1
    assert sum(state.failures for state in service_of(lb).balancer.states()) == 0


def test_a_pod_on_which_everything_raises_draws_no_traffic() -> None:
    """An unknown exception taken for a quick answer: the one broken pod of two got 59 of 60 calls."""
    lb = LoadBalancer("static:///10.0.0.1:80,10.0.0.2:80")
    raised = 0

    def fn(attempt: Attempt) -> None:
        if attempt.endpoint.ip == "10.0.0.1":
            raise RuntimeError("unknown to kubelb")
        time.sleep(0.001)

    for _ in range(60):
        try:
            lb.call(fn)
        except RuntimeError:
            raised += 1
    assert 1 <= raised <= 20
    assert {view.state for view in lb.endpoints()} == {"ready"}


def test_the_last_error_has_notes_on_the_tries_before() -> None:
    """Who was tried and how it ended, oldest first."""
    lb = LoadBalancer(STATIC, retry=QUICK)
    with pytest.raises(ConnectionRefusedError) as caught:
        both(lb, Script(ConnectionRefusedError()), idempotent=True)
    notes = caught.value.__notes__
    assert [note.split(" on ")[0] for note in notes] == ["kubelb: try 1", "kubelb: try 2"]
    assert all("ended with refused" in note for note in notes)


def test_one_attempt_without_a_retry() -> None:
    """retry=None: the first error is the last."""
    lb = LoadBalancer(STATIC, retry=None)
    script = Script(NeverSent())
    with pytest.raises(NeverSent):
        both(lb, script)
    assert len(script.once()) == 1


def test_classify_says_what_is_a_refusal() -> None:
    """Of a result, and of what a client raises for a "not found": an answer, and no sign of room."""
    lb = LoadBalancer(STATIC)
    refusal = Outcome(refusal=True, reason="404")
    assert both(lb, Script("missing"), classify=lambda *_: refusal) == "missing"
    with pytest.raises(KeyError):
        both(lb, Script(KeyError("x")), classify=lambda *_: refusal)
    states = service_of(lb).balancer.states()
    assert sum(state.refusals for state in states) == sum(state.successes for state in states) == 2 * 2


def test_classify_judges_results_and_errors_and_may_use_constants() -> None:
    """An Outcome of the user's decides; what belongs to one attempt is kept on a copy."""
    bad = Outcome(Verdict.FAILED, retryable=True, reason="bad result")
    lb = LoadBalancer(STATIC, retry=QUICK)

    def classify(result: Any, error: Exception | None) -> Outcome | None:
        if error is not None:
            return Outcome(Verdict.FAILED, sent=Sent.NEVER, reason="mine")
        return bad if result == "bad" else CANCELLED if result == "given up" else None

    script = Script("bad", KeyError("x"), "good")
    assert both(lb, script, idempotent=True, classify=classify) == "good"
    assert len(script.once()) == 3
    assert both(lb, Script("bad"), classify=classify) == "bad"
    assert both(lb, Script("given up"), classify=classify) == "given up"
    assert bad.value is bad.lease is CANCELLED.value is CANCELLED.lease is None
    assert sum(state.failures for state in service_of(lb).balancer.states()) == 2 * 3


@pytest.mark.parametrize("end", ["result", ConnectionRefusedError()])
def test_a_classify_that_returns_no_outcome(end: Any) -> None:
    """It is named, with what it may return."""
    with pytest.raises(TypeError, match="classify returned 5: give an Outcome, or None"):
        both(LoadBalancer(STATIC), Script(end), classify=lambda _result, _error: 5)


@pytest.mark.parametrize("ready", [True, False])
def test_call_is_not_for_async_functions(ready: bool) -> None:
    """What `call` got would be awaited by somebody else, after the lease's end: it says so, and takes no part in it."""
    begun = []

    async def ask(attempt: Attempt) -> None:
        begun.append(attempt)

    # A call that must wait for its first endpoints goes through the flow.
    with LoadBalancer(STATIC) if ready else balancer(Source(3), ready_timeout=10.0) as lb:
        with pytest.raises(TypeError, match=r"call\(.*ask\): it is an async function; await acall\(.*ask\) instead"):
            lb.call(ask)
        assert (begun, in_flight(lb)) == ([], 0)


def test_a_classify_that_raises_leaves_nothing_in_flight() -> None:
    """Its own error comes out, even while somebody keeps it."""

    def classify(result: Any, error: Exception | None) -> Outcome | None:
        raise LookupError("classify is broken")

    lb = LoadBalancer(STATIC)
    kept: list[BaseException] = []
    for end in ("result", ConnectionRefusedError()):
        with pytest.raises(LookupError) as caught:
            lb.call(Script(end), classify=classify)
        kept.append(caught.value)
        assert in_flight(lb) == 0


def test_a_classify_may_raise_what_ends_generators() -> None:
    """A StopIteration of the caller's own is no end of the flow, and comes out of a retry as out of a first try."""
    lb = LoadBalancer(STATIC, retry=QUICK)
    judged: list[Exception | None] = []

    def classify(result: Any, error: Exception | None) -> Outcome | None:
        judged.append(error)
        if len(judged) == 2:
            raise StopIteration("nothing left to compare with")
        return None

    with pytest.raises(StopIteration, match="nothing left"):
        lb.call(Script(NeverSent()), classify=classify)
    assert in_flight(lb) == 0


def test_a_call_in_an_except_block_leaves_its_exception_alone() -> None:
    """Retries forget the frames of their errors, but not those of the error that the caller is dealing with."""
    lb = LoadBalancer(STATIC, retry=QUICK)
    with pytest.raises(KeyError) as caught:
        try:
            raise KeyError("not in the cache")
        except KeyError as error:
            frames = error.__traceback__
            for _ in range(2):
                assert both(lb, Script(NeverSent(), "good")) == "good"
            assert error.__traceback__ is frames
            raise
    assert caught.value.__traceback__ is not None


@pytest.mark.parametrize("world", ["threads", "asyncio"])
def test_a_retry_that_ends_while_an_answer_is_thrown_away(world: str) -> None:
    """Its endpoint was picked and will never be used: it is free, even while somebody keeps what ended the call."""
    lb = LoadBalancer(STATIC, retry=QUICK)
    thrown: list[Outcome] = []

    def send(step: Send) -> Outcome:
        return Outcome(Verdict.FAILED, retryable=True, open=True)

    def discard(outcome: Outcome) -> None:
        assert isinstance(outcome.lease, Lease)
        outcome.lease.release(None)
        thrown.append(outcome)
        raise KeyboardInterrupt

    async def asend(step: Send) -> Outcome:
        return send(step)

    async def adiscard(outcome: Outcome) -> None:
        with suppress(KeyboardInterrupt):
            discard(outcome)
        raise asyncio.CancelledError

    def acall() -> None:
        with asyncio.Runner() as runner:
            runner.run(service_of(lb).arun(IDEMPOTENT, asend, discard=adiscard))

    with pytest.raises((KeyboardInterrupt, asyncio.CancelledError)) as caught:
        service_of(lb).run(IDEMPOTENT, send, discard=discard) if world == "threads" else acall()
    assert caught.value.__traceback__ is not None
    assert len(thrown) == 1
    assert in_flight(lb) == 0


def test_a_retry_strategy_sees_results() -> None:
    """tenacity's retry_if_result repeats a success that was not one, where that is safe."""
    lb = LoadBalancer(STATIC, retry=Retry(wait=tenacity.wait_fixed(0), retry=tenacity.retry_if_result(lambda r: r < 3)))
    assert both(lb, Script(1, 2, 3), idempotent=True) == 3
    assert both(lb, Script(1)) == 1


def test_the_deadline_is_split_among_tries() -> None:
    """Each attempt is told what is left; a deadline in the past sends nothing."""
    clock = Clock()
    lb = LoadBalancer(STATIC, retry=QUICK, clock=clock)
    left: list[float | None] = []

    def fn(attempt: Attempt) -> str:
        left.append(attempt.timeout)
        clock.advance(2)
        raise NeverSent from ConnectionRefusedError()

    with pytest.raises(ConnectionRefusedError):
        lb.call(fn, deadline=5)
    assert left == [5, 3, 1]
    for deadline in (0, -1):
        with pytest.raises(DeadlineExceeded):
            both(lb, pytest.fail, deadline=deadline)  # type: ignore[arg-type]


def test_asyncio_cancels_at_the_deadline() -> None:
    """A coroutine that does not look at the time is ended, and the error says so."""
    lb = LoadBalancer(STATIC)

    async def main() -> None:
        with pytest.raises(DeadlineExceeded, match=r"0\.02 s"):
            await lb.acall(lambda attempt: asyncio.sleep(10), deadline=0.02)
        assert await lb.acall(lambda attempt: asyncio.sleep(0, "done"), deadline=5) == "done"
        with pytest.raises(ConnectionResetError):
            await lb.acall(fail, deadline=5)

    async def fail(attempt: Attempt) -> None:
        raise ConnectionResetError

    asyncio.run(main())
    assert in_flight(lb) == 0


def test_refusals_come_out_as_they_are() -> None:
    """Closed and NoEndpoints at once, NotReady and a deadline before it with what discovery is stuck on."""
    lb = LoadBalancer(STATIC)
    lb.close()
    with pytest.raises(Closed):
        both(lb, pytest.fail)  # type: ignore[arg-type]
    with no_threads_left():
        source = Source(0)
        lb = balancer(source)
        with pytest.raises(NoEndpoints):
            lb.call(pytest.fail)  # type: ignore[arg-type]
        lb.close()
        source = Source(None)
        source.error = "403 Forbidden"
        lb = balancer(source, ready_timeout=0.05)
        with pytest.raises(NotReady, match="scripted: 403 Forbidden; wait"):
            both(lb, pytest.fail)  # type: ignore[arg-type]
        service_of(lb).readiness.timeout = 20
        with pytest.raises(DeadlineExceeded, match="before the deadline from scripted: 403 Forbidden; wait"):
            both(lb, pytest.fail, deadline=0.05)  # type: ignore[arg-type]
        lb.close()


def test_a_key_goes_to_the_policy() -> None:
    """The request that a picker sees carries key and idempotence."""
    lb = LoadBalancer(STATIC)
    seen: list[tuple[Any, bool]] = []
    pick = service_of(lb).balancer._picker.pick

    class Watching:
        def pick(self, request: Any, now: float) -> Any:
            seen.append((request.key, request.idempotent))
            return pick(request, now)

    service_of(lb).balancer._picker = Watching()
    both(lb, Script(1), key="user-7")
    both(lb, Script(1), idempotent=True)
    assert seen == [("user-7", False)] * 2 + [(None, True)] * 2
    with pytest.raises(TypeError, match=r"key=7: give text or bytes, e.g. str\(key\)"):
        both(lb, Script(1), key=7)
    with pytest.raises(TypeError, match="idempotent='no': give True or False"):
        both(lb, Script(1), idempotent="no")
    assert len(seen) == 4


@pytest.mark.parametrize("deadline", [math.nan, "5"])
def test_a_deadline_is_a_number(deadline: Any) -> None:
    """NaN bounds nothing, and text would be found out by an addition; also inside a block that has one."""
    lb = LoadBalancer(STATIC)
    script = Script(1)
    for block in (contextlib.nullcontext(), hints(deadline=5.0)):
        with block, pytest.raises(ValueError, match=f"deadline={deadline!r}: give a number of seconds"):
            both(lb, script, deadline=deadline)
    assert not script.seen
    lb.close()


ENDS = [
    *(
        None,
        NeverSent(),
        ConnectionRefusedError(),
        ConnectionResetError(),
        TimeoutError(),
        ValueError(),
        StopIteration(),
    ),
    "classify",
]


@pytest.mark.slow
def test_ten_thousand_random_ends_in_asyncio() -> None:
    """Cancels, timeouts, dropped coroutines and errors: zero in flight, no task left, no warning."""
    rng = random.Random(3)
    lb = LoadBalancer(STATIC, retry=Retry(wait=tenacity.wait_fixed(0), budget=None), outliers=None, limits=ROOMY)

    async def fn(attempt: Attempt) -> str:
        way = rng.randrange(9)
        if way < 3:
            await asyncio.sleep(rng.random() * 0.002)
        elif way < 8:
            end = rng.choice(ENDS)
            if isinstance(end, StopIteration):
                raise RuntimeError
            if isinstance(end, Exception):
                raise type(end)
        return "done"

    def classify(result: Any, error: Exception | None) -> Outcome | None:
        if rng.random() < 0.05:
            raise LookupError
        return None

    async def one() -> None:
        deadline = rng.choice([None, None, 0.001, 1.0])
        chosen = classify if rng.random() < 0.2 else None
        task = asyncio.ensure_future(lb.acall(fn, idempotent=rng.random() < 0.5, deadline=deadline, classify=chosen))
        way = rng.randrange(5)
        if way == 0:
            await asyncio.sleep(0)
            task.cancel()
        elif way == 1:
            await asyncio.wait([task], timeout=0.001)
            task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()

    async def main() -> None:
        for _ in range(20):
            await asyncio.gather(*(one() for _ in range(500)))
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert in_flight(lb) == 0
        coroutine = lb.acall(fn)  # begun and dropped
        coroutine.close()

    asyncio.run(main())
    assert in_flight(lb) == 0


@pytest.mark.slow
def test_ten_thousand_random_ends_in_threads() -> None:
    """Eight threads of every kind of end: zero in flight, no thread left."""
    import threading

    lb = LoadBalancer(STATIC, retry=Retry(wait=tenacity.wait_fixed(0), budget=None), outliers=None, limits=ROOMY)
    odd: list[BaseException] = []

    def storm(seed: int) -> None:
        rng = random.Random(seed)

        def fn(attempt: Attempt) -> str:
            end = rng.choice(ENDS)
            if isinstance(end, Exception):
                raise type(end)
            return str(end)

        def classify(result: Any, error: Exception | None) -> Outcome | None:
            if result == "classify":
                raise LookupError
            return None

        for _ in range(1250):
            try:
                lb.call(
                    fn,
                    idempotent=rng.random() < 0.5,
                    deadline=rng.choice([None, 0.0, 1.0]),
                    classify=rng.choice([None, classify]),
                )
            except (OSError, ValueError, StopIteration, LookupError, DeadlineExceeded, NeverSent):
                pass
            except BaseException as error:
                odd.append(error)

    with no_threads_left():
        threads = [threading.Thread(target=storm, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert odd == []
    assert in_flight(lb) == 0


def test_waiters_that_give_up_are_gone() -> None:
    """200 calls before the first snapshot: cancelled, expired and served; nobody stays on the list."""
    with no_threads_left():
        source = Source(None)
        lb = balancer(source, ready_timeout=10, limits=ROOMY)

        async def fn(attempt: Attempt) -> int:
            return attempt.number

        async def main() -> list[Any]:
            tasks = [asyncio.ensure_future(lb.acall(fn, deadline=0.05 if n % 3 == 0 else None)) for n in range(200)]
            await asyncio.sleep(0.02)
            assert in_flight(lb) >= len(tasks[1::3] + tasks[2::3])  # they count as waiting
            for task in tasks[1::3]:
                task.cancel()
            await asyncio.wait(tasks[::3])
            source.say(pods(3))
            return await asyncio.gather(*tasks, return_exceptions=True)

        ends = asyncio.run(main())
        assert all(isinstance(end, DeadlineExceeded) for end in ends[::3])
        assert all(isinstance(end, asyncio.CancelledError) for end in ends[1::3])
        assert ends[2::3] == [1] * len(ends[2::3])
        feed = service_of(lb).opening.now
        assert feed is not None
        assert feed._waiters == set()
        assert in_flight(lb) == 0
        lb.close()
        until(lambda: source.stopped == 1)


@pytest.mark.parametrize("world", ["sync", "asyncio"])
def test_a_wait_too_many_is_refused_at_once(world: str) -> None:
    """Before the first snapshot, `max_pending` calls wait and the next one is told; what waited is served."""
    with no_threads_left():
        source = Source(None)
        lb = balancer(source, ready_timeout=10, limits=ConcurrencyLimits(max_pending=0))

        async def fn(attempt: Attempt) -> int:
            return attempt.number

        with pytest.raises(Overloaded, match="0 calls wait for endpoints, which is the limit"):
            lb.call(lambda attempt: 1) if world == "sync" else asyncio.run(lb.acall(fn))
        source.say(pods(1))
        lb.wait_ready()
        assert lb.call(lambda attempt: 1) == 1
        assert in_flight(lb) == 0
        lb.close()


@pytest.mark.parametrize("seen", [False, True])
@pytest.mark.parametrize("given", [5, None, lambda: 1])
def test_what_cannot_be_called_says_nothing_of_an_endpoint(given: Any, seen: bool) -> None:
    """Kind: a slip of the caller's that costs a healthy endpoint its traffic. It is a TypeError, with the cure where
    that is known, and no endpoint has failed or looks slow; before the first endpoints are known, and where telemetry
    sees the call, too.
    """
    telemetry = Telemetry(tracer_provider=TracerProvider()) if seen else False
    lb = LoadBalancer(STATIC, policy="round_robin", retry=QUICK, telemetry=telemetry)
    source = Source(3)
    for each in (lb, balancer(source, retry=QUICK, telemetry=telemetry)):
        with pytest.raises(TypeError, match=r"give a function that takes an Attempt|positional argument"):
            each.call(given)
        with pytest.raises(TypeError, match=r"give a function that takes an Attempt|positional argument"):
            asyncio.run(each.acall(given))
        assert in_flight(each) == 0
        assert {(view.failures, view.latency) for view in each.endpoints()} == {(0, None)}
        each.close()
