"""A call with one response that does not block: `stub.Method.future(request)`.

    picked --> the sub-channel's own future --> done          nearly always
                                            '-> the attempt flow under the callback driver, attempt after attempt

It is a Future and a Call of its own, since several RPCs may stand behind it; once done it speaks for the last of them.
What happens here happens in grpcio's thread of a sub-channel or in a runner of the background worker, never in the
thread that learns of endpoints.

Dropping it does not cancel it, as with grpcio: the RPC goes on to its end, and so does its place in flight.
"""

import contextvars
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any

import grpc
from grpc import StatusCode

from kubelb.adapters._grpc.refusals import Cancelled, asked
from kubelb.adapters._grpc.speaking import Speaking
from kubelb.adapters._grpc.waiting import look_on
from kubelb.core.lease import Lease
from kubelb.core.steps import Send
from kubelb.errors import DeadlineExceeded, LoadBalancerError, NotReady
from kubelb.model import CANCELLED, Outcome, Request, Sent, Verdict
from kubelb.runtime.callback import CallbackDriver
from kubelb.runtime.calls import annotate
from kubelb.runtime.driving import settle

__all__ = ["CallFuture"]


class CallFuture(Speaking, grpc.Future, grpc.Call):  # type: ignore[type-arg]  # generic in the stubs only
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
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._finished = threading.Event()
        self._callbacks: list[Callable[[], object]] = []
        self._cancelling = False
        self._driver: CallbackDriver | None = None
        self._inner: Any = None
        self._error: Any = None
        self._value: Any = None
        subs = calling.channel.subs
        try:
            lease = (subs.pick_patiently if wait_for_ready else subs.pick)(wanted)
        except NotReady:
            self._drive(None)
        except LoadBalancerError as error:
            self._finish(None, calling.refused_at_once(error))
        else:
            self._attempt(lease)

    # From attempt to attempt

    def _attempt(self, lease: Lease) -> None:
        """The straight first one."""
        self._start = lease.start
        try:
            inner = self._invoke(self._calling.at(lease.state), self._timeout)
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
        with self._lock:
            self._driver = driver
            cancelling = self._cancelling
        if cancelling:
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
        elif isinstance(error, LoadBalancerError) and not isinstance(error, grpc.RpcError):
            if isinstance(error, NotReady | DeadlineExceeded):
                error = calling.lb.explained(error)
            error = calling.refused(error)
        with self._lock:
            if not self._finished.is_set():
                self._error = error
                if outcome is not None:
                    self._value = outcome.value
            self._driver = None
            callbacks, self._callbacks = self._callbacks, []
            self._finished.set()
        calling.channel.left()
        for callback in callbacks:
            try:
                callback()
            except Exception as raised:  # noqa: BLE001  # whose thread this is must go on
                threading.excepthook(threading.ExceptHookArgs((type(raised), raised, raised.__traceback__, None)))

    # grpc.Future

    def cancel(self) -> bool:
        """End the call; False where it has ended. Then it is cancelled, whatever its RPC comes to."""
        with self._lock:
            if self._finished.is_set():
                return False
            self._cancelling = True
            self._error = Cancelled()
            inner, driver = self._inner, self._driver
            self._finished.set()  # its callbacks are called when its RPC has ended, not in this thread
        if driver is not None:
            driver.cancel()
        elif inner is not None:
            inner.cancel()
        return True

    def cancelled(self) -> bool:
        """Whether the caller ended it."""
        return self._cancelling

    def running(self) -> bool:
        """Whether it has not ended."""
        return not self._finished.is_set()

    def done(self) -> bool:
        """Whether it has ended."""
        return self._finished.is_set()

    def result(self, timeout: float | None = None) -> Any:
        """Return the response; raises the RpcError, FutureTimeoutError or FutureCancelledError."""
        if (error := self.exception(timeout)) is not None:
            raise error
        return self._value

    def exception(self, timeout: float | None = None) -> Any:
        """Return what `result` would raise; raises FutureTimeoutError or FutureCancelledError."""
        if not self._finished.wait(timeout):
            raise grpc.FutureTimeoutError
        if self.cancelled():
            raise grpc.FutureCancelledError
        return self._error

    def traceback(self, timeout: float | None = None) -> TracebackType | None:
        """Return where the exception was raised."""
        error = self.exception(timeout)
        if error is None:
            return None
        try:
            raise error
        except type(error):
            return sys.exc_info()[2]

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Call `fn(self)` when it has ended; at once where it has."""
        if not self.add_callback(partial(fn, self)):
            fn(self)

    # grpc.Call: once ended, the last RPC's

    def _ended(self) -> Any:
        self._finished.wait()
        return self._inner if self._error is None else self._error

    def _said(self) -> tuple[Any, Any] | None:
        return (self.code(), self.details()) if self._finished.is_set() else None

    def _code(self) -> Any:
        return StatusCode.OK if self._error is None else asked(self._error, "code", StatusCode.UNKNOWN)

    def add_callback(self, callback: Callable[[], object]) -> bool:
        """Have it called when the call has ended; False where it has."""
        with self._lock:
            if self._finished.is_set():
                return False
            self._callbacks.append(callback)
            return True

    def is_active(self) -> bool:
        """Whether it has not ended."""
        return not self._finished.is_set()

    def time_remaining(self) -> Any:
        """Return the seconds left of the call's timeout; None without one."""
        if self._timeout is None:
            return None
        return float(max(0.0, self._start + self._timeout - self._calling.clock()))

    def initial_metadata(self) -> Any:
        """Return the server's, when the call has ended."""
        return asked(self._ended(), "initial_metadata", ())

    def trailing_metadata(self) -> Any:
        """Return the server's, when the call has ended."""
        return asked(self._ended(), "trailing_metadata", ())

    def code(self) -> Any:
        """Return the status, when the call has ended."""
        return asked(self._ended(), "code", StatusCode.UNKNOWN)

    def details(self) -> Any:
        """Return the status's text, when the call has ended."""
        return asked(self._ended(), "details", "")

    def debug_error_string(self) -> Any:
        """Return what core knows of an error, when the call has ended."""
        return asked(self._ended(), "debug_error_string", "")


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
