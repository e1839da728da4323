"""The driver for code that blocks.

One attempt at a time runs in the caller's own thread. Only where the flow wants an answer before the attempt's end (a
hedge is armed) do attempts run in threads of their own, with the caller's context variables but not its thread-locals;
the caller then waits for whichever outcome comes first. An attempt that lost is aborted and settles its lease when it
has really ended, in its own thread.
"""

import contextvars
import queue
import threading
from collections.abc import Callable
from contextlib import suppress

from kubelb.clock import Clock, sleep
from kubelb.core.flow import Flow
from kubelb.core.lease import Lease
from kubelb.core.steps import Next, Send, Wait
from kubelb.model import Outcome
from kubelb.runtime.driving import settle, settle_cancelled

__all__ = ["drive", "nothing_to_discard"]

SendNow = Callable[[Send], Outcome]
Discard = Callable[[Outcome], None]
Abort = Callable[[Lease], None]
WaitNewer = Callable[[int | None, float], None]


def _cannot_abort(lease: Lease) -> None:
    """The client offers no way; the attempt runs to its end and is thrown away."""


def nothing_to_discard(outcome: Outcome) -> None:
    """For clients whose results need no closing."""


def drive(
    flow: Flow, send: SendNow, *, wait: WaitNewer, clock: Clock, discard: Discard, abort: Abort = _cannot_abort
) -> Outcome:
    """Run `flow` to its end in this thread and return its outcome."""
    race = _Race(send, discard, clock)
    held: list[Outcome] = []  # open responses that the flow may still return
    answer: Outcome | None = None
    try:
        while True:
            try:
                step = flow.send(answer)
            except StopIteration as stop:  # this generator's own: what `send` calls may raise one of its own
                outcome: Outcome = stop.value
                with suppress(ValueError):
                    held.remove(outcome)
                return outcome
            answer = None
            if isinstance(step, Send):
                try:
                    _discard_all(held, discard)
                except BaseException:
                    settle_cancelled(step.lease)
                    raise
                alone = step.until is None and not race.running
                answer = attempt(step, send) if alone or not race.start(step) else race.next(step.until)
            elif isinstance(step, Next):
                if race.running:
                    answer = race.next(step.until)
                elif step.until is not None:
                    sleep(max(0.0, step.until - clock()))
            elif isinstance(step, Wait):
                wait(step.version, step.until)
            else:
                race.cancel(step.lease)
                abort(step.lease)
            if answer is not None and answer.open:
                held.append(answer)
    finally:
        flow.close()
        held += race.cancel_all(abort)
        _discard_all(held, discard)


def attempt(step: Send, send: SendNow) -> Outcome:
    """Make one attempt and settle its lease, however it ends."""
    try:
        outcome = send(step)
    except BaseException:
        settle_cancelled(step.lease)
        raise
    return settle(step.lease, outcome)


def _discard_all(held: list[Outcome], discard: Discard) -> None:
    while held:
        discard(held.pop())


class _Race:
    """Attempts in threads of their own, and the queue that their outcomes come by."""

    def __init__(self, send: SendNow, discard: Discard, clock: Clock) -> None:
        self._send = send
        self._discard = discard
        self._clock = clock
        self._outcomes: queue.SimpleQueue[Outcome | BaseException] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self.running: set[Lease] = set()

    def start(self, step: Send) -> bool:
        """Begin an attempt; False where there is no thread for it: better made in the caller's than not at all."""
        self.running.add(step.lease)
        run = contextvars.copy_context().run
        try:
            threading.Thread(target=run, args=(self._attempt, step), name="kubelb-attempt", daemon=True).start()
        except RuntimeError:
            self.running.discard(step.lease)
            return False
        return True

    def next(self, until: float | None) -> Outcome | None:
        """Return the next outcome, None at `until`; raises what stopped an attempt."""
        try:
            got = self._outcomes.get(timeout=None if until is None else max(0.0, until - self._clock()))
        except queue.Empty:
            return None
        if isinstance(got, BaseException):
            raise got
        self.running.discard(got.lease)
        return got

    def cancel(self, lease: Lease) -> None:
        with self._lock:
            self.running.discard(lease)

    def cancel_all(self, abort: Abort) -> list[Outcome]:
        """Abort what runs; returns the open responses that were not taken."""
        for lease in tuple(self.running):
            self.cancel(lease)
            abort(lease)
        untaken: list[Outcome] = []
        while not self._outcomes.empty():
            got = self._outcomes.get()
            if isinstance(got, Outcome) and got.open:
                untaken.append(got)
        return untaken

    def _attempt(self, step: Send) -> None:
        lease = step.lease
        result: Outcome | BaseException
        try:
            result = self._send(step)
        except BaseException as error:  # noqa: BLE001
            result = error
        with self._lock:
            wanted = lease in self.running
            if wanted and isinstance(result, Outcome):
                self._outcomes.put(settle(lease, result))
                return
        settle_cancelled(lease)
        if isinstance(result, Outcome):
            result.lease = lease
            if result.open:
                self._discard(result)
        elif wanted:
            self._outcomes.put(result)
