"""Sync calls with a stream of responses.

An endpoint is picked once for a stream, when the call is made. Until its first message is here another endpoint may
take over, by the same rules as for any call; afterwards the stream is that endpoint's, and what breaks it reaches the
caller as it is. grpcio tells of a first message only to what asks for it, so a second attempt is made by the
caller's own first `next()`: a stream that is not read is not tried again.

The lease belongs to the RPC: it ends with the status, which grpcio reports when the stream was read to its end,
cancelled, out of time, or dropped (see `endings.py`). The endpoint's latency is that of the first message.
"""

import contextvars
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self
from weakref import ref

import grpc

from kubelb.adapters._grpc.calling import ended
from kubelb.adapters._grpc.codes import outcome_of
from kubelb.adapters._grpc.endings import Endings
from kubelb.adapters._grpc.refusals import Cancelled, asked
from kubelb.adapters._grpc.waiting import look_on
from kubelb.core.lease import Lease
from kubelb.core.steps import Send
from kubelb.errors import DeadlineExceeded, LoadBalancerError, NotReady
from kubelb.model import CANCELLED, SUCCESS, Outcome, Request, Sent, Verdict
from kubelb.runtime.driving import settle

__all__ = ["ResponseStream"]

FIRST = Outcome(open=True)
"""What an endpoint is told at the first message of a stream that goes on."""
_END = object()
"""Stands for the end of a stream that had no message."""


class ResponseStream(grpc.Call, grpc.Future):  # type: ignore[type-arg]  # generic in the stubs only
    """An iterator over responses that is the Call, as grpcio's own is."""

    def __init__(
        self,
        calling: Any,
        invoke: Callable[[Any, float | None], Any],
        wanted: Request,
        timeout: float | None,
        wait_for_ready: bool | None,
        replay: Any = None,
    ) -> None:
        self._calling = calling
        self._invoke = invoke
        self._wanted = wanted
        self._timeout = timeout
        self._replay = replay
        channel = calling.channel
        self._connections = channel.patient if wait_for_ready else channel.waiting
        self._start = calling.clock()
        self._lock = threading.Lock()
        self._cancelled = False
        self._begun = False
        """Whether the first message, or the end, has been seen."""
        self._lease: Lease | None = None
        self._inner: Any = None
        """The RPC of the latest attempt; None before the first, or where there is none."""
        self._watched = True
        """Whether the RPC tells of its end by itself."""
        self._unsent: Outcome | None = None
        """How a first attempt ended that could not be started."""
        self._refusal: Any = None
        self._opened: threading.Event | None = None
        """Set when there is a first attempt, or a refusal, where it had to be waited for."""
        self._endings = Endings(partial(_final, calling.lb, wanted, replay), channel.left, calling.judged)
        channel.keeper.begin()
        try:
            lease = self._connections.pick(wanted, ())
        except NotReady:
            lease = None
        except LoadBalancerError as error:
            self._refusal = calling.refused_at_once(error)
            return
        if lease is None:
            self._open_when_ready()
        else:
            self._start = lease.start
            self._unsent = self._open(lease, timeout)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if not self._begun:
            message = self._first()
            if message is _END:
                raise StopIteration
            return message
        if self._refusal is not None:
            raise self._refusal
        try:
            return next(self._inner)
        except (StopIteration, grpc.RpcError) as error:
            if not self._watched and self._lease is not None:
                judged = self._calling.judged
                outcome = judged(error, self._lease) if isinstance(error, grpc.RpcError) else SUCCESS
                self._endings.ended(outcome, self._lease)
            raise

    def _open_when_ready(self) -> None:
        """Start the first attempt from the background as soon as there is a connection: a call does not block.

        A call that is dropped meanwhile is none any more, as one that has begun.
        """
        calling, channel = self._calling, self._calling.channel
        limiter = calling.lb.balancer.limiter
        try:
            place = None if limiter is None else limiter.wait()
        except LoadBalancerError as error:
            self._refusal = calling.refused(error)
            return
        self._opened = opened = threading.Event()
        until = calling.clock() + (math.inf if self._connections.patient else calling.lb.ready_timeout)
        ends = math.inf if self._timeout is None else self._start + self._timeout
        run = contextvars.copy_context().run
        weak, endings = ref(self), self._endings

        def step() -> bool:
            call = weak()
            if call is not None and not call._opens(until, ends, run):  # noqa: SLF001
                return False
            if limiter is not None:
                limiter.go_on(place)
            opened.set()
            if call is None or call._refusal is not None:  # noqa: SLF001
                endings.commit(over=True)
            return True

        channel.start()
        look_on(step)

    def _opens(self, until: float, ends: float, run: Callable[..., Any]) -> bool:
        """Start the first attempt if there is a connection; returns whether the wait is over, for whatever reason."""
        calling = self._calling
        now = calling.clock()
        try:
            lease = self._connections.pick(self._wanted, ())
            self._unsent = run(self._open, lease, None if ends == math.inf else max(0.0, ends - now))
        except NotReady as error:
            if now < min(until, ends) and not self._cancelled:
                return False
            late = DeadlineExceeded(error.service, f"the deadline passed: {error.reason}", error.counts)
            refusal = calling.refused(calling.lb.explained(late if now >= ends else error))
            self._refusal = Cancelled() if self._cancelled else refusal
        except LoadBalancerError as error:
            self._refusal = calling.refused(error)
        except Exception as error:  # noqa: BLE001  # raised by the first `next`
            self._refusal = error
        return True

    # The first message

    def _first(self) -> Any:
        """Return the first message, by as many attempts as may be made."""
        if self._opened is not None:
            self._opened.wait()
        if self._refusal is not None:
            raise self._refusal
        outcome: Outcome | None = None
        try:
            outcome = self._unsent or self._pull()
            if not (outcome.open or self._calling.lb.settled(self._wanted, outcome)):
                outcome = self._flow(outcome)
            return ended(outcome)
        finally:
            self._begun = True
            if self._replay is not None:
                self._replay.commit()
            self._endings.commit(outcome is None or not outcome.open)

    def _flow(self, first: Outcome) -> Outcome:
        calling = self._calling
        ends = None if self._timeout is None else self._start + self._timeout

        def send(step: Send) -> Outcome:
            if self._cancelled:
                return Outcome(Verdict.CANCELLED, sent=Sent.NEVER, reason="cancelled", error=Cancelled())
            left = None if ends is None else max(0.0, ends - calling.clock())
            return self._open(step.lease, left) or self._pull()

        outcome: Outcome = calling.lb.run(self._wanted, send, first=first, deadline=ends, connections=self._connections)
        return outcome

    def _open(self, lease: Lease, timeout: float | None) -> Outcome | None:
        """Start an attempt; returns its outcome only where it could not be started."""
        try:
            inner = self._invoke(self._calling.at(lease.state), timeout)
        except grpc.RpcError as error:  # a request that cannot be serialized: grpcio raises at once
            settle(lease, outcome_of(error))
            raise
        except Exception as error:  # noqa: BLE001
            outcome: Outcome = self._calling.outcome(error, lease)
            return settle(lease, outcome)
        except BaseException:
            lease.release(CANCELLED)
            raise
        with self._lock:
            self._lease, self._inner = lease, inner
            cancelled = self._cancelled
        self._watched = self._endings.watch(inner, lease)
        if cancelled:
            inner.cancel()
        return None

    def _pull(self) -> Outcome:
        """Ask the latest attempt for its first message; returns its outcome, settled."""
        lease, endings = self._lease, self._endings
        assert lease is not None
        endings.overdue = partial(self._calling.overdue, self._start, self._timeout)
        try:
            message = next(self._inner)
        except StopIteration:
            outcome = Outcome(value=_END)
        except grpc.RpcError as error:
            outcome = self._calling.judged(error, lease, endings.overdue())
            outcome.fresh = self._replay is not None and self._replay.whole
        else:
            if not lease.released:
                lease.observe(FIRST)
            outcome = Outcome(open=True, value=message)
            outcome.lease = lease
            return outcome
        return settle(lease, outcome)

    # grpc.Call and grpc.Future: the latest attempt's

    def _call(self) -> Any:
        """Return what speaks for the call; waits where there is no attempt yet.

        Once there is one it can be asked, also by a callback in the thread that has just started it.
        """
        if self._opened is not None and self._inner is None:
            self._opened.wait()
        return self._inner if self._refusal is None else self._refusal

    def cancel(self) -> Any:
        """End the call."""
        with self._lock:
            self._cancelled = True
            inner = self._inner
        if inner is None or self._watched:
            return inner is None or inner.cancel()
        with suppress(ValueError):  # it is being read at this moment
            inner.close()
        return True

    def cancelled(self) -> bool:
        """Whether the caller ended it."""
        return self._cancelled if self._inner is None else bool(self._inner.cancelled())

    def is_active(self) -> bool:
        """Whether it has not ended."""
        if self._refusal is not None:
            return False
        return self._inner is None or bool(self._inner.is_active())

    def running(self) -> bool:
        """Whether it has not ended."""
        return self.is_active()

    def done(self) -> bool:
        """Whether it has ended."""
        return not self.is_active()

    def time_remaining(self) -> Any:
        """Return the seconds left of the call's timeout; None without one."""
        if self._timeout is None:
            return None
        return float(max(0.0, self._start + self._timeout - self._calling.clock()))

    def initial_metadata(self) -> Any:
        """Wait for the server's and return it."""
        return asked(self._call(), "initial_metadata", ())

    def trailing_metadata(self) -> Any:
        """Wait for the end and return the server's."""
        return asked(self._call(), "trailing_metadata", ())

    def code(self) -> Any:
        """Wait for the end and return the status."""
        if not self._watched and (last := self._endings.last) is not None:  # a bare iterator could not say
            error: Any = last.error
            return grpc.StatusCode.OK if error is None else error.code()
        return asked(self._call(), "code", grpc.StatusCode.UNKNOWN)

    def details(self) -> Any:
        """Wait for the end and return the status's text."""
        return asked(self._call(), "details", "")

    def debug_error_string(self) -> Any:
        """Wait for the end and return what core knows of an error."""
        return asked(self._call(), "debug_error_string", "")

    def add_callback(self, callback: Callable[[], object]) -> bool:
        """Have it called when the call has ended; False where it has."""
        return self._refusal is None and self._endings.add(callback)

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Call `fn(self)` when it has ended; at once where it has."""
        if not self.add_callback(partial(fn, self)):
            fn(self)

    def result(self, timeout: float | None = None) -> Any:
        """As grpcio's: wait for the end; raises the RpcError, FutureTimeoutError or FutureCancelledError."""
        call = self._call()
        if call is self._refusal:
            raise call
        return call.result(timeout)

    def exception(self, timeout: float | None = None) -> Any:
        """Wait for the end and return the RpcError, None where there is none."""
        call = self._call()
        return call if call is self._refusal else call.exception(timeout)

    def traceback(self, timeout: float | None = None) -> TracebackType | None:
        """Wait for the end and return where the RpcError was raised."""
        call = self._call()
        found: TracebackType | None = call.__traceback__ if call is self._refusal else call.traceback(timeout)
        return found


def _final(lb: Any, wanted: Request, replay: Any, outcome: Outcome) -> bool:
    """Whether no other attempt may follow one that ended so."""
    if outcome.error is None:
        return True
    outcome.fresh = replay is not None and replay.whole
    return bool(lb.settled(wanted, outcome))
