"""The driver for asyncio; the same shape as `kubelb.runtime.sync`, to be read side by side.

One attempt at a time is awaited where the caller is. Only where the flow wants an answer before the attempt's end (a
hedge is armed) do attempts run as tasks; one that lost is cancelled and settles its lease when it has really ended. A
cancelled caller cancels what it started.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from kubelb.clock import Clock
from kubelb.core.flow import Flow
from kubelb.core.lease import Lease
from kubelb.core.steps import Next, Send, Wait
from kubelb.model import Outcome
from kubelb.runtime.driving import settle, settle_cancelled

__all__ = ["drive_async", "nothing_to_discard"]

SendSoon = Callable[[Send], Awaitable[Outcome]]
Discard = Callable[[Outcome], Awaitable[None]]
WaitNewer = Callable[[int | None, float], Awaitable[None]]


async def drive_async(flow: Flow, send: SendSoon, *, wait: WaitNewer, clock: Clock, discard: Discard) -> Outcome:
    """Run `flow` to its end in this task and return its outcome."""
    race = _Race(send, discard, clock)
    held: list[Outcome] = []  # open responses that the flow may still return
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
                    settle_cancelled(step.lease)
                    raise
                if step.until is None and not race.running:
                    answer = await attempt(step, send)
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


async def attempt(step: Send, send: SendSoon) -> Outcome:
    """Make one attempt and settle its lease, however it ends."""
    try:
        outcome = await send(step)
    except BaseException:
        settle_cancelled(step.lease)
        raise
    return settle(step.lease, outcome)


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

    def __init__(self, send: SendSoon, discard: Discard, clock: Clock) -> None:
        self._send = send
        self._discard = discard
        self._clock = clock
        self.running: dict[Lease, asyncio.Task[Outcome]] = {}

    def start(self, step: Send) -> None:
        self.running[step.lease] = asyncio.ensure_future(attempt(step, self._send))

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
