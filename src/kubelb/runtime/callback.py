"""The driver for code that neither blocks nor awaits: gRPC's futures, and the simulator's virtual time.

Everything that happens (an outcome, a timer, new endpoints, a cancel) is an event in a queue, and one of the threads
that bring events drains it: a `send` into a running generator is a ValueError, so a thread that finds the flow busy
leaves its event for the one that is in there. Timers carry the number of the step they were set for; one that fires
late finds another number and does nothing. Foreign callbacks run in the caller's context, of which each call holds a
copy.
"""

import contextvars
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

from kubelb.core.flow import Flow
from kubelb.core.lease import Lease
from kubelb.core.steps import Next, Send, Step, Wait
from kubelb.model import CANCELLED, Outcome
from kubelb.runtime.driving import settle, settle_cancelled

__all__ = ["CallbackDriver", "World"]


class World(Protocol):
    """What the driver needs from outside; every method returns at once."""

    def send(self, step: Send, done: Callable[[Outcome], None]) -> None:
        """Start an attempt; `done` is called once, from any thread, also after `abort`."""
        ...

    def abort(self, lease: Lease) -> None:
        """End a running attempt."""
        ...

    def discard(self, outcome: Outcome) -> None:
        """Throw an open response away."""
        ...

    def call_at(self, when: float, job: Callable[[], None]) -> None:
        """Call `job` at that time, in the balancer's seconds."""
        ...

    def when_newer(self, version: int | None, job: Callable[[], None]) -> Callable[[], None]:
        """Call `job` once the snapshot is not `version`; returns what takes that back."""
        ...


class CallbackDriver:
    """Runs one flow. `done(outcome, error)` is called once, with one of the two."""

    def __init__(self, flow: Flow, world: World, done: Callable[[Outcome | None, BaseException | None], None]) -> None:
        self._flow = flow
        self._world = world
        self._done = done
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._events: deque[Callable[[], None]] = deque()
        self._busy = False
        self._step = 0
        self._ended = False
        self._flying: set[Lease] = set()
        self._held: list[Outcome] = []
        self._unwait: Callable[[], None] | None = None

    def start(self) -> None:
        """Begin; may finish before it returns."""
        self._post(partial(self._advance, None))

    def cancel(self) -> None:
        """Give up: every attempt is aborted and `done` is told `CANCELLED`. Too late is no error."""
        self._post(self._cancel)

    def _post(self, event: Callable[[], None]) -> None:
        with self._lock:
            self._events.append(event)
            if self._busy:
                return
            self._busy = True
        while True:
            with self._lock:
                if not self._events:
                    self._busy = False
                    return
                event = self._events.popleft()
            try:
                self._context.run(event)
            except BaseException:
                with self._lock:
                    self._busy = False
                raise

    def _advance(self, answer: Outcome | None) -> None:
        """Send `answer` into the flow and carry out steps until it has to wait."""
        self._step += 1
        self._stop_waiting()
        try:
            step = self._flow.send(answer)
            while not self._carry_out(step):
                step = self._flow.send(None)
        except StopIteration as stop:
            self._finish(stop.value, None)
        except BaseException as error:  # noqa: BLE001
            self._finish(None, error)

    def _carry_out(self, step: Step) -> bool:
        """Start what the step asks for; returns whether the flow now waits."""
        number = self._step
        if isinstance(step, Send):
            self._discard_held()
            self._flying.add(step.lease)
            self._set_timer(step.until, number)
            try:
                self._world.send(step, lambda outcome: self._post(partial(self._landed, step.lease, outcome)))
            except BaseException:
                self._flying.discard(step.lease)
                settle_cancelled(step.lease)
                raise
        elif isinstance(step, Next):
            self._set_timer(step.until, number)
        elif isinstance(step, Wait):
            self._set_timer(step.until, number)
            self._unwait = self._world.when_newer(step.version, lambda: self._post(partial(self._timer, number)))
        else:
            self._flying.discard(step.lease)
            self._world.abort(step.lease)
            return False
        return True

    def _set_timer(self, until: float | None, number: int) -> None:
        if until is not None:
            self._world.call_at(until, lambda: self._post(partial(self._timer, number)))

    def _timer(self, number: int) -> None:
        if not self._ended and number == self._step:
            self._advance(None)

    def _landed(self, lease: Lease, outcome: Outcome) -> None:
        if lease not in self._flying:  # cancelled, or the call is over
            settle_cancelled(lease)
            if outcome.open:
                outcome.lease = lease
                self._world.discard(outcome)
            return
        self._flying.discard(lease)
        if outcome.open:
            self._held.append(outcome)
        self._advance(settle(lease, outcome))

    def _cancel(self) -> None:
        if not self._ended:
            self._flow.close()
            self._finish(CANCELLED, None)

    def _finish(self, outcome: Outcome | None, error: BaseException | None) -> None:
        self._ended = True
        self._stop_waiting()
        flying, self._flying = self._flying, set()
        for lease in flying:
            self._world.abort(lease)
        self._held = [held for held in self._held if held is not outcome]
        self._discard_held()
        self._done(outcome, error)

    def _stop_waiting(self) -> None:
        if self._unwait is not None:
            self._unwait()
            self._unwait = None

    def _discard_held(self) -> None:
        while self._held:
            self._world.discard(self._held.pop())
