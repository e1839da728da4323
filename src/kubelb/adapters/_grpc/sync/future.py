"""A call with one response that does not block: `stub.Method.future(request)`.

    picked --> the sub-channel's own future --> done          nearly always
                                            '-> the attempt flow under the callback driver, attempt after attempt

It is a Future and a Call of its own (`future_asked.py`), since several RPCs may stand behind it.
What happens here happens in grpcio's thread of a sub-channel or in a runner of the background worker, never in the
thread that learns of endpoints.

Dropping it does not cancel it, as with grpcio: the RPC goes on to its end, and so does its place in flight.
"""

import contextvars
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any

import grpc
from grpc import StatusCode

from kubelb.adapters._grpc.shared.refusals import Cancelled
from kubelb.adapters._grpc.sync.future_asked import Asked
from kubelb.adapters._grpc.sync.waiting import look_on
from kubelb.core.lease import Lease
from kubelb.core.steps import Send
from kubelb.errors import DeadlineExceeded, LoadBalancerError, NotReady
from kubelb.model import CANCELLED, Outcome, Request, Sent, Verdict
from kubelb.runtime.callback import CallbackDriver
from kubelb.runtime.door import annotate
from kubelb.runtime.driving import settle

__all__ = ["CallFuture"]

RENDEZVOUS: Any = getattr(import_module("grpc._channel"), "_MultiThreadedRendezvous", None)
"""grpcio's own future. How one of exactly this class has ended is read in its state (private), for each of its public
questions takes a lock and 2 us in the thread in which all calls end. Any other object is asked."""


class CallFuture(Asked):
    """A `grpc.Future` that is a `grpc.Call`, and the `grpc.RpcError` that it may end with."""

    def __init__(
        self,
        calling: Any,
        invoke: Callable[[Any, float | None], Any],
        wanted: Request,
        timeout: float | None,
        wait_for_ready: bool | None,
        replay: Any = None,
    ) -> None:
        self.args = ()
        if wait_for_ready is None:
            wait_for_ready = calling.waits
        self._calling = calling
        self._invoke = invoke
        self._wanted = wanted
        self._timeout = timeout
        self._patient = wait_for_ready
        self._replay = replay
        self._start = calling.clock()
        self._context = contextvars.copy_context()  # now: later tries see what the caller sees at this moment
        self._ends = []
        self._callbacks = []
        self._waiters = []
        subs = calling.channel.subs
        try:
            lease = (subs.pick_patiently if wait_for_ready else subs.pick)(wanted)
        except NotReady:
            lease = None
        except LoadBalancerError as error:
            self._finish(None, calling.refused_at_once(error))
            return
        if lease is None:
            self._drive(None)
        else:
            self._attempt(lease)

    # From attempt to attempt

    def _attempt(self, lease: Lease) -> None:
        """The straight first one."""
        self._start = lease.start
        try:
            calling = self._calling
            inner = self._invoke(calling.bound.get(lease.state) or calling.at(lease.state), self._timeout)
        except Exception as error:
            outcome = self._calling.outcome(error, lease)
            settle(lease, outcome)
            if outcome.sent is not Sent.NEVER:  # a request that cannot be serialized: grpcio raises at once
                raise error from None
            self._go_on(outcome)
        except BaseException:
            lease.release(CANCELLED)
            raise
        else:
            self._inner = inner
            inner.add_done_callback(partial(self._first_ended, lease))

    def _first_ended(self, lease: Lease, inner: Any) -> None:
        """In grpcio's thread, in which all calls of a sub-channel end; so what is ordinary is done quickly."""
        if type(inner) is RENDEZVOUS and not self._calling.lb.always_flow:
            state = inner._state  # noqa: SLF001
            if state.code is StatusCode.OK:
                lease.release()
                self._value = state.response
                self._end(None)
                return
        self._go_on(settle(lease, self.judge(inner, lease)))

    def _go_on(self, outcome: Outcome) -> None:
        if self._calling.lb.settled(self._wanted, outcome):
            self._finish(outcome, None)
        else:
            self._drive(outcome)

    def judge(self, inner: Any, lease: Lease) -> Outcome:
        """Return how a finished RPC ended. Raises nothing: an end that is not told is waited for without end."""
        overdue = self._calling.overdue(self._start, self._timeout)
        outcome: Outcome
        try:
            ok = inner.code() is StatusCode.OK
            outcome = Outcome(value=inner.result()) if ok else self._calling.judged(inner, lease, overdue)
        except Exception as error:  # noqa: BLE001  # of what an interceptor has put around the call
            outcome = Outcome(Verdict.NEUTRAL, reason="interceptor", error=error)
        outcome.fresh = self._replay is not None and self._replay.whole
        return outcome

    def _drive(self, first: Outcome | None) -> None:
        """Let the attempt flow go on, in the context that the call was made in."""
        calling = self._calling
        channel = calling.channel
        flow = calling.lb.flow(
            self._wanted,
            first=first,
            deadline=None if self._timeout is None else self._start + self._timeout,
            connections=channel.patient if self._patient else channel.waiting,
        )
        driver = self._context.run(CallbackDriver, flow, _World(self), self._finish)
        self._driver = driver
        if self._ends:  # cancelled; from here on `cancel` finds the driver by itself
            driver.cancel()
        else:
            driver.start()

    def begin(self, step: Send) -> Any:
        """Start another attempt; returns its RPC."""
        calling, left = self._calling, None
        if self._timeout is not None:
            left = max(0.0, self._start + self._timeout - calling.clock())
        self._inner = inner = self._invoke(calling.at(step.lease.state), left)
        return inner

    def _finish(self, outcome: Outcome | None, error: BaseException | None) -> None:
        calling = self._calling
        if outcome is not None:
            annotate(outcome)
            error = outcome.error
            if outcome is CANCELLED:
                error = Cancelled()
            self._value = outcome.value
        elif isinstance(error, LoadBalancerError) and not isinstance(error, grpc.RpcError):
            if isinstance(error, NotReady | DeadlineExceeded):
                error = calling.lb.explained(error)
            error = calling.refused(error)
        self._driver = None
        self._end(error)


class _World:
    """`kubelb.runtime.callback.World` over a sub-channel's futures and the background worker."""

    def __init__(self, future: CallFuture) -> None:
        self._future = future
        self._running: dict[Lease, Any] = {}

    def send(self, step: Send, done: Callable[[Outcome], None]) -> None:
        future, lease = self._future, step.lease
        try:
            inner = future.begin(step)
        except Exception as error:  # noqa: BLE001
            done(future._calling.outcome(error, lease))  # noqa: SLF001
            return
        self._running[lease] = inner
        inner.add_done_callback(lambda ended: done(future.judge(ended, lease)))

    def abort(self, lease: Lease) -> None:
        inner = self._running.get(lease)
        if inner is not None:  # else it could not be begun, and its outcome is on its way
            with suppress(Exception):  # an interceptor's own future: whatever it says, the call has ended
                inner.cancel()

    def discard(self, outcome: Outcome) -> None:
        """A response of one message needs no closing."""

    def call_at(self, when: float, job: Callable[[], None]) -> None:
        clock = self._future._calling.clock  # noqa: SLF001
        self._once(lambda: clock() >= when, job)

    def when_newer(self, version: int | None, job: Callable[[], None]) -> Callable[[], None]:
        channel = self._future._calling.channel  # noqa: SLF001
        connections = channel.patient if self._future._patient else channel.waiting  # noqa: SLF001
        over = connections.question(version)
        channel.start()
        waiting = [True]
        self._once(lambda: not waiting or over(), job)
        return waiting.clear

    def _once(self, due: Callable[[], bool], job: Callable[[], None]) -> None:
        """Do the job when it is due, unless the call has ended by then."""

        def step() -> bool:
            if self._future.done():
                return True
            if not due():
                return False
            job()
            return True

        look_on(step)
