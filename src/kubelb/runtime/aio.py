"""The driver for asyncio and its door; the same shape as `kubelb.runtime.sync`, to be read side by side.

One attempt at a time is awaited where the caller is. Only where the flow wants an answer before the attempt's end (a
hedge is armed) do attempts run as tasks; one that lost is cancelled and settles its lease when it has really ended. A
cancelled caller cancels what it started.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kubelb.clock import Clock
from kubelb.core.flow import Flow
from kubelb.core.lease import Lease
from kubelb.core.steps import Next, Send, Wait
from kubelb.errors import LoadBalancerError, NotReady
from kubelb.model import SUCCESS, Outcome
from kubelb.runtime.door import OPENED, AioAttempts, AioBridge, Exchange, judged, refuse_late, result
from kubelb.runtime.driving import settle, settle_cancelled, stay

if TYPE_CHECKING:
    from kubelb.runtime.calls import Calls

__all__ = ["drive_async", "go_on", "nothing_to_discard", "run"]

SendSoon = Callable[[Send], Awaitable[Outcome]]
Discard = Callable[[Outcome], Awaitable[None]]
Left = Callable[[Lease], None]
WaitNewer = Callable[[int | None, float], Awaitable[None]]


async def run(service: "Calls", bridge: AioBridge, call: Exchange) -> Any:
    """Make a call; returns the client's answer. Raises what the client does, and what the bridge makes of refusals."""
    seen = call.seen
    if seen is None and service.watch.on():
        with bridge.seen(call) as call.seen:
            value = await run(service, bridge, call)
            call.seen.answered(bridge.told(SUCCESS, value))
            return value
    bridge.prepare(call)
    if call.deadline is not None and call.deadline <= 0:
        refuse_late(service, bridge, call)
    try:
        lease = service.balancer.pick(call.wanted)
    except NotReady:
        lease = None
    except LoadBalancerError as error:
        raise bridge.refused(error, call) from None
    if lease is None:  # out here, so that no error of the flow's has NotReady for its context
        return await go_on(service, bridge, call, None)
    call.start = lease.start
    try:
        if seen is None:
            outcome, value = await bridge.attempt(call, lease, 1, None)
        else:
            outcome, value = await _watched(bridge, call, lease, 1)
        if not service.always_flow:
            if outcome is OPENED:
                lease.observe(outcome)
                return value
            if outcome is SUCCESS:
                lease.release()
                if lease.state.removed:
                    bridge.left(lease)
                return value
        outcome = settle(lease, judged(outcome, value), bridge.left)
    except BaseException:
        settle_cancelled(lease, bridge.left)
        raise
    if service.settled(call.wanted, outcome):
        return result(outcome)
    return await go_on(service, bridge, call, outcome)


async def go_on(service: "Calls", bridge: AioAttempts, call: Exchange, first: Outcome | None) -> Any:
    """Hand a call over to the attempt flow: after a first attempt, or where there was nothing to pick from yet."""
    call.start = service.balancer.clock() if first is None else first.lease.start

    async def send(step: Send) -> Outcome:
        if call.seen is None:
            return judged(*await bridge.attempt(call, step.lease, step.number, None))
        return judged(*await _watched(bridge, call, step.lease, step.number))

    try:
        outcome = await service.arun(
            call.wanted, send, first=first, deadline=call.ends, discard=bridge.throw_away, left=bridge.left
        )
    except LoadBalancerError as error:
        raise bridge.refused(error, call) from None
    return result(outcome)


async def _watched(bridge: AioAttempts, call: Any, lease: Lease, number: int) -> tuple[Outcome, Any]:
    with call.seen.attempt(lease.state.endpoint, number) as attempt:
        outcome, value = await bridge.attempt(call, lease, number, attempt.carrier())
        attempt.answered(bridge.told(outcome, value))
        return outcome, value


async def drive_async(
    flow: Flow,
    send: SendSoon,
    *,
    wait: WaitNewer,
    clock: Clock,
    discard: Discard,
    first: Outcome | None = None,
    left: Left = stay,
) -> Outcome:
    """Run `flow` to its end in this task and return its outcome; `first` is the one that it began with."""
    race = _Race(send, discard, clock, left)
    held = [first] if first is not None and first.open else []  # open responses that the flow may still return
    answer: Outcome | None = None
    outcome: Outcome | None = None
    try:
        while True:
            step = flow.send(answer)
            answer = None
            if isinstance(step, Send):
                try:
                    await _discard_all(held, discard)
                except BaseException:
                    settle_cancelled(step.lease, left)
                    raise
                if step.until is None and not race.running:
                    answer = await attempt(step, send, left)
                else:
                    race.start(step)
                    answer = await race.next(step.until)
            elif isinstance(step, Next):
                if race.running:
                    answer = await race.next(step.until)
                elif step.until is not None:
                    await asyncio.sleep(max(0.0, step.until - clock()))
            elif isinstance(step, Wait):
                await wait(step.version, step.until)
            else:
                race.cancel(step.lease)
            if answer is not None and answer.open:
                held.append(answer)
    except StopIteration as stop:
        outcome = stop.value
        with suppress(ValueError):
            held.remove(outcome)
        return outcome
    finally:
        flow.close()
        race.cancel_all()
        try:
            await _discard_all(held, discard)
        except asyncio.CancelledError:  # so it will be given to no caller
            if outcome is not None and outcome.open:
                await discard(outcome)
            raise


async def attempt(step: Send, send: SendSoon, left: Left) -> Outcome:
    """Make one attempt and settle its lease, however it ends."""
    try:
        return settle(step.lease, await send(step), left)
    except BaseException:
        settle_cancelled(step.lease, left)
        raise


async def nothing_to_discard(outcome: Outcome) -> None:
    """For clients whose results need no closing."""


async def _discard_all(held: list[Outcome], discard: Discard) -> None:
    """Each of them, although one is cancelled: nothing else knows them."""
    try:
        while held:
            await discard(held.pop())
    except asyncio.CancelledError:
        await _discard_all(held, discard)
        raise


class _Race:
    """Attempts as tasks."""

    def __init__(self, send: SendSoon, discard: Discard, clock: Clock, left: Left) -> None:
        self._send = send
        self._discard = discard
        self._clock = clock
        self._left = left
        self.running: dict[Lease, asyncio.Task[Outcome]] = {}

    def start(self, step: Send) -> None:
        self.running[step.lease] = asyncio.ensure_future(attempt(step, self._send, self._left))

    async def next(self, until: float | None) -> Outcome | None:
        """Return the next outcome, None at `until`; raises what stopped an attempt."""
        timeout = None if until is None else max(0.0, until - self._clock())
        done, _ = await asyncio.wait(self.running.values(), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for lease, task in self.running.items():
            if task in done:
                del self.running[lease]
                return task.result()
        return None

    def cancel(self, lease: Lease) -> None:
        task = self.running.pop(lease, None)
        if task is not None:
            task.cancel()
            burial = asyncio.ensure_future(_bury(task, self._discard))
            _burials.add(burial)
            burial.add_done_callback(_burials.discard)

    def cancel_all(self) -> None:
        for lease in tuple(self.running):
            self.cancel(lease)


_burials: set[asyncio.Task[None]] = set()
"""The event loop holds its tasks weakly."""


async def _bury(task: asyncio.Task[Outcome], discard: Discard) -> None:
    """See a loser to its end; it may have ended before it could be cancelled, and what it brought is thrown away."""
    await asyncio.wait([task])
    if not task.cancelled() and task.exception() is None and task.result().open:
        await discard(task.result())
