"""asyncio: a cancellation ends what it was meant for, at once, and loses nothing that it cuts short.

The kind: a cancellation taken for somebody else's, or passed on to work that is not the cancelled task's own.
"""

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest

from core.kit import Rig
from kubelb import Attempt, LoadBalancer, Retry
from kubelb.core.flow import attempt_flow
from kubelb.core.steps import Next, Send
from kubelb.errors import Closed, DeadlineExceeded
from kubelb.model import IDEMPOTENT, Outcome
from kubelb.runtime.aio import drive_async
from kubelb.service import service_of

from .kit import in_flight

STATIC = "static:///10.0.0.1:80,10.0.0.2:80,10.0.0.3:80"


async def never(_: Attempt) -> None:
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("asked", ["deadline", "cancel", "deadline and cancel", "caller's timeout", "both timeouts"])
def test_a_deadline_and_the_callers_own(asked: str) -> None:
    """A deadline of the call is kubelb's to report; a cancellation that comes with it is the caller's."""

    async def main() -> str:
        lb = LoadBalancer(STATIC)
        loop = asyncio.get_running_loop()
        around = asyncio.timeout(None)
        begun = asyncio.Event()

        async def fn(attempt: Attempt) -> None:
            begun.set()
            await never(attempt)

        async def call() -> None:
            async with around:
                await lb.acall(fn, deadline=0.05 if "deadline" in asked or asked == "both timeouts" else 60.0)

        task = asyncio.ensure_future(call())
        await begun.wait()
        if "deadline and" in asked or asked == "both timeouts":
            await asyncio.sleep(0.03)
            threading.Event().wait(0.05)  # the loop stalls: at its next turn the deadline is over, and this comes, too
        if "cancel" in asked:
            loop.call_soon(task.cancel)
        if "timeout" in asked:
            around.reschedule(loop.time())
        try:
            await asyncio.wait_for(task, 5)
        except (Exception, asyncio.CancelledError) as error:
            assert in_flight(lb) == 0
            return type(error).__name__
        finally:
            lb.close()
        return "returned"

    expected = {"deadline": {DeadlineExceeded.__name__}, "caller's timeout": {"TimeoutError"}}
    both = {"deadline and cancel": {"CancelledError"}, "both timeouts": {"TimeoutError", DeadlineExceeded.__name__}}
    assert asyncio.run(main()) in {"cancel": {"CancelledError"}, **expected, **both}[asked]


@pytest.mark.parametrize("turns", range(6))
def test_the_answer_is_thrown_away_when_the_losers_clean_up_is_cancelled(turns: int) -> None:
    """A hedge's loser was held and is being discarded: then nobody is given the answer, so it is discarded, too."""

    async def main() -> list[int]:
        rig = Rig(3)
        discarded: list[int] = []
        discarding, both = asyncio.Event(), asyncio.Event()
        leases = [rig.balancer.pick(IDEMPOTENT) for _ in range(2)]

        def steps() -> Any:
            """Two attempts at once, of which the second is returned."""
            until = monotonic() + 60
            nothing = yield Send(leases[0], 0.0, 1)
            assert nothing is None
            answers = [(yield Send(leases[1], until, 2)), (yield Next(until))]
            return next(answer for answer in answers if answer.value == 2)

        async def send(step: Send) -> Outcome:
            if step.number == 2:
                both.set()
            await both.wait()
            return Outcome(open=True, value=step.number)

        async def discard(outcome: Outcome) -> None:
            discarding.set()
            try:
                for _ in range(4):
                    await asyncio.sleep(0)
            finally:
                discarded.append(outcome.value)
                outcome.lease.release(None)

        async def wait(version: int | None, until: float) -> None:
            """Never asked."""

        task = asyncio.ensure_future(drive_async(steps(), send, wait=wait, clock=monotonic, discard=discard))
        await asyncio.wait_for(discarding.wait(), 5)
        for _ in range(turns):
            await asyncio.sleep(0)
        kept = []
        task.cancel()
        try:
            kept = [(await asyncio.wait_for(task, 5)).value]
            leases[1].release()
        except asyncio.CancelledError:
            pass
        assert sum(state.in_flight for state in rig.balancer.states()) == 0
        return discarded + kept

    assert sorted(asyncio.run(main())) == [1, 2]


def test_a_flow_that_is_real_has_the_same_end() -> None:
    """Cancelled at each turn of a call with a retry: no lease is left, and no task."""

    async def main(turns: int) -> None:
        rig = Rig(3)
        rig.balancer.clock = monotonic

        async def send(step: Send) -> Outcome:
            await asyncio.sleep(0)
            return Outcome(open=True, value=step.number)

        async def discard(outcome: Outcome) -> None:
            await asyncio.sleep(0)
            outcome.lease.release(None)

        async def wait(version: int | None, until: float) -> None:
            """Never asked."""

        flow = attempt_flow(rig.balancer, IDEMPOTENT, Retry(attempts=2), hedge=0.0)
        task = asyncio.ensure_future(drive_async(flow, send, wait=wait, clock=monotonic, discard=discard))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            (await task).lease.release()
        for _ in range(10):
            await asyncio.sleep(0)
        assert sum(state.in_flight for state in rig.balancer.states()) == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    for turns in range(20):
        asyncio.run(main(turns))


def test_a_close_that_is_cancelled_is_done() -> None:
    """Also where its thread has not begun: with the executor busy, the cancellation would take it out of the queue."""

    async def main() -> LoadBalancer:
        lb = LoadBalancer(STATIC)
        release = threading.Event()
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        busy = loop.run_in_executor(None, release.wait, 10)
        task = asyncio.ensure_future(lb.aclose())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()
        await busy
        for _ in range(200):
            if service_of(lb).opening.closed:
                break
            await asyncio.sleep(0.01)
        return lb

    with pytest.raises(Closed):
        asyncio.run(main()).call(lambda attempt: attempt)
