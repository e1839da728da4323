"""The driver for code that blocks, and the door to it: `run` makes a call of an adapter's (see `door.py`).

The straight first attempt is the whole story of nearly every call, so it is written out here; what it does not end goes
through the attempt flow, which `drive` runs.

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
from typing import TYPE_CHECKING, Any

from kubelb.clock import Clock, sleep
from kubelb.core.flow import Flow
from kubelb.core.lease import Lease
from kubelb.core.steps import Next, Send, Wait
from kubelb.errors import LoadBalancerError, NotReady
from kubelb.model import SUCCESS, Outcome
from kubelb.runtime.door import OPENED, Attempts, Bridge, Exchange, judged, refuse_late, result
from kubelb.runtime.driving import settle, settle_cancelled, stay

if TYPE_CHECKING:
    from kubelb.runtime.calls import Calls

__all__ = ["drive", "go_on", "nothing_to_discard", "run"]

SendNow = Callable[[Send], Outcome]
Discard = Callable[[Outcome], None]
Abort = Callable[[Lease], None]
Left = Callable[[Lease], None]
WaitNewer = Callable[[int | None, float], None]


def run(service: "Calls", bridge: Bridge, call: Exchange) -> Any:
    """Make a call; returns the client's answer. Raises what the client does, and what the bridge makes of refusals."""
    seen = call.seen
    if seen is None and service.watch.on():
        with bridge.seen(call) as call.seen:
            value = run(service, bridge, call)
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
        return go_on(service, bridge, call, None)
    call.start = lease.start
    try:
        if seen is None:
            outcome, value = bridge.attempt(call, lease, 1, None)
        else:
            outcome, value = _watched(bridge, call, lease, 1)
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
    return go_on(service, bridge, call, outcome)


def go_on(service: "Calls", bridge: Attempts, call: Exchange, first: Outcome | None) -> Any:
    """Hand a call over to the attempt flow: after a first attempt, or where there was nothing to pick from yet."""
    call.start = service.balancer.clock() if first is None else first.lease.start

    def send(step: Send) -> Outcome:
        if call.seen is None:
            return judged(*bridge.attempt(call, step.lease, step.number, None))
        return judged(*_watched(bridge, call, step.lease, step.number))

    try:
        outcome = service.run(
            call.wanted, send, first=first, deadline=call.ends, discard=bridge.throw_away, left=bridge.left
        )
    except LoadBalancerError as error:
        raise bridge.refused(error, call) from None
    return result(outcome)


def _watched(bridge: Attempts, call: Any, lease: Lease, number: int) -> tuple[Outcome, Any]:
    with call.seen.attempt(lease.state.endpoint, number) as attempt:
        outcome, value = bridge.attempt(call, lease, number, attempt.carrier())
        attempt.answered(bridge.told(outcome, value))
        return outcome, value


def _cannot_abort(lease: Lease) -> None:
    """The client offers no way; the attempt runs to its end and is thrown away."""


def nothing_to_discard(outcome: Outcome) -> None:
    """For clients whose results need no closing."""


def drive(
    flow: Flow,
    send: SendNow,
    *,
    wait: WaitNewer,
    clock: Clock,
    discard: Discard,
    abort: Abort = _cannot_abort,
    first: Outcome | None = None,
    left: Left = stay,
) -> Outcome:
    """Run `flow` to its end in this thread and return its outcome; `first` is the one that it began with."""
    race = _Race(send, discard, clock, left)
    held = [first] if first is not None and first.open else []  # open responses that the flow may still return
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
                    settle_cancelled(step.lease, left)
                    raise
                alone = step.until is None and not race.running
                answer = attempt(step, send, left) if alone or not race.start(step) else race.next(step.until)
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


def attempt(step: Send, send: SendNow, left: Left) -> Outcome:
    """Make one attempt and settle its lease, however it ends."""
    try:
        return settle(step.lease, send(step), left)
    except BaseException:
        settle_cancelled(step.lease, left)
        raise


def _discard_all(held: list[Outcome], discard: Discard) -> None:
    while held:
        discard(held.pop())


class _Race:
    """Attempts in threads of their own, and the queue that their outcomes come by."""

    def __init__(self, send: SendNow, discard: Discard, clock: Clock, left: Left) -> None:
        self._send = send
        self._discard = discard
        self._clock = clock
        self._left = left
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
                self._outcomes.put(settle(lease, result, self._left))
                return
        settle_cancelled(lease, self._left)
        if isinstance(result, Outcome):
            result.lease = lease
            if result.open:
                self._discard(result)
        elif wanted:
            self._outcomes.put(result)
