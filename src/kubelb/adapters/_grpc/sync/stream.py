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
from functools import partial
from typing import Any, Self
from weakref import ref

import grpc

from kubelb.adapters._grpc.shared.calling import ended
from kubelb.adapters._grpc.shared.codes import outcome_of
from kubelb.adapters._grpc.shared.refusals import Cancelled
from kubelb.adapters._grpc.sync.endings import Endings
from kubelb.adapters._grpc.sync.stream_asked import Asked
from kubelb.adapters._grpc.sync.waiting import look_on
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


class ResponseStream(Asked):
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
        self.args = ()
        if wait_for_ready is None:
            wait_for_ready = calling.waits
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
        self._lease: Lease | None = None
        self._inner: Any = None
        self._watched = True
        self._unsent: Outcome | None = None
        """How a first attempt ended that could not be started."""
        self._refusal: Any = None
        self._opened: threading.Event | None = None
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
        except Exception as error:
            if not self._watched and self._lease is not None:
                self._endings.ended(self._broken_by(error, self._lease), self._lease)
            raise

    def _broken_by(self, error: Exception, lease: Lease) -> Outcome:
        """Return how a bare iterator has ended that raised this."""
        if isinstance(error, StopIteration):
            return SUCCESS
        if isinstance(error, grpc.RpcError):
            outcome: Outcome = self._calling.judged(error, lease)
            return outcome
        return Outcome(Verdict.NEUTRAL, reason="interceptor", error=error)  # what made the iterator has raised it

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
            if not self._watched and self._endings.last is None:
                self._endings.last = outcome
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
            self._watched = hasattr(inner, "add_callback")
            self._lease, self._inner = lease, inner
            cancelled = self._cancelled
        if self._watched:
            self._endings.watch(inner, lease)
        if cancelled:
            inner.cancel() if self._watched else self._close(inner)
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
        except Exception as error:
            if not self._watched:
                self._endings.ended(self._broken_by(error, lease), lease)
            raise
        else:
            if not lease.released:
                lease.observe(FIRST)
            outcome = Outcome(open=True, value=message)
            outcome.lease = lease
            return outcome
        return settle(lease, outcome)


def _final(lb: Any, wanted: Request, replay: Any, outcome: Outcome) -> bool:
    """Whether no other attempt may follow one that ended so."""
    if outcome.error is None:
        return True
    outcome.fresh = replay is not None and replay.whole
    return bool(lb.settled(wanted, outcome))
