"""What the four kinds of asyncio calls share: attempts, the end, and everything that may be asked of a call.

    picked --> the sub-channel's own call --> over           nearly always
                                          '-> the attempt flow in a Task, attempt after attempt --> over

A call object is there at once, whatever becomes of it. The first attempt starts with it, so there is a Task of ours
only where that attempt failed and another may do better, or where nothing could be picked yet. It is the sub-channel's
own call that reports its end, on the event loop: also of a call that is not awaited.
"""

import asyncio
from asyncio import get_running_loop
from typing import Any

import grpc.aio

from kubelb.adapters._grpc.aio.asked import Asked
from kubelb.adapters._grpc.aio.endings import cancelled, tell
from kubelb.adapters._grpc.aio.metadata import sendable
from kubelb.core.lease import Lease
from kubelb.core.steps import Send
from kubelb.errors import LoadBalancerError, NotReady
from kubelb.model import CANCELLED, SUCCESS, Outcome, Request
from kubelb.runtime.door import annotate
from kubelb.runtime.driving import settle
from kubelb.runtime.hinting import current

__all__ = ["AioCall"]


class AioCall(Asked):
    """One call, whatever its kind."""

    def __init__(
        self,
        calling: Any,
        request: Any,
        timeout: float | None,
        wait_for_ready: bool | None,
        *said: Any,
    ) -> None:
        if wait_for_ready is None:
            wait_for_ready = calling.waits
        self._calling = calling
        self._request = request
        self._timeout = timeout
        self._patient = wait_for_ready
        self._said = said
        """Metadata, call credentials, compression."""
        self._start: float
        self._wanted: Request
        channel = calling.channel
        subs = channel.subs
        try:
            here = channel.loop is get_running_loop()
        except RuntimeError:
            here = False
        if subs.closed or not here:
            channel.begin()
        lease = None
        try:
            if said[0]:
                self._said = (sendable(said[0]), *said[1:])
            if (timeout is None or timeout > 0) and calling.plain and current() is None:
                self._wanted = calling.wanted
            else:
                self._wanted, self._timeout = calling.begin(timeout, self._said[0])
            if not calling.always_flow:
                lease = (subs.pick_patiently if wait_for_ready else subs.pick)(self._wanted)
        except NotReady:
            pass
        except (grpc.aio.AioRpcError, LoadBalancerError) as error:
            self._start = calling.clock()
            self._finish(error if isinstance(error, grpc.RpcError) else calling.refused(error))
            return
        if lease is None:
            self._start = calling.clock()
            self._drive(None)
            return
        self._start = lease.start
        try:
            self._inner = inner = self._invoke(lease, self._timeout)
        except Exception as error:  # noqa: BLE001
            self._go_on(settle(lease, calling.outcome(error, lease)))
        except BaseException:
            lease.release(CANCELLED)
            raise
        else:
            self._watch(inner, lease)

    # From attempt to attempt

    def _invoke(self, lease: Lease, timeout: float | None) -> Any:
        metadata, credentials, compression = self._said
        bound = self._calling.bound.get(lease.state) or self._calling.at(lease.state)
        return bound(
            self._request, timeout=timeout, metadata=metadata, credentials=credentials, compression=compression
        )

    def _watch(self, inner: Any, lease: Lease) -> None:
        """Have the first attempt's end reported, on the event loop when its status is here."""
        raise NotImplementedError

    def _attempt_over(self, outcome: Outcome | BaseException) -> None:
        """The attempt has ended that is not the flow's, or is no longer."""
        if isinstance(outcome, BaseException):  # an interceptor's own
            self._finish(outcome)
        elif outcome is SUCCESS or self._committed:
            self._finish(None)
        else:
            self._go_on(outcome)

    def _go_on(self, outcome: Outcome) -> None:
        outcome.fresh = self._whole()
        if self._calling.lb.settled(self._wanted, outcome):
            self._finish(None)
        else:
            self._drive(outcome)

    def _whole(self) -> bool:
        """Whether a request that can be sent once could still be."""
        return False

    def _drive(self, first: Outcome | None) -> None:
        """Let the attempt flow take over."""
        channel = self._calling.channel
        self._task = task = channel.loop.create_task(self._flow(first))
        channel.flows.add(task)  # the loop holds its tasks weakly
        task.add_done_callback(self._flowed)
        self._news()

    async def _flow(self, first: Outcome | None) -> Outcome:
        calling = self._calling
        channel = calling.channel
        ends = None if self._timeout is None else self._start + self._timeout
        connections = channel.patient if self._patient else channel.waiting
        try:
            outcome: Outcome = await calling.lb.arun(
                self._wanted, self._send, first=first, deadline=ends, connections=connections, discard=self._discard
            )
        except LoadBalancerError as error:
            return Outcome(error=calling.refused(error))
        except Exception as error:  # noqa: BLE001  # the caller's own, such as a request that cannot be serialized
            return Outcome(error=error)
        annotate(outcome)
        return outcome

    async def _send(self, step: Send) -> Outcome:
        """Make one more attempt, with the time that is left."""
        lease, left = step.lease, None
        if self._timeout is not None:
            left = max(0.0, self._start + self._timeout - self._calling.clock())
        try:
            self._status = None
            self._inner = inner = self._invoke(lease, left)
            self._news()
            return await self._received(inner, lease)
        except Exception as error:  # noqa: BLE001
            outcome: Outcome = self._calling.outcome(error, lease, self._overdue())
        outcome.fresh = self._whole()
        outcome.retryable = outcome.retryable and not self._committed
        return outcome

    def _overdue(self) -> float | None:
        """Return the seconds since the end of the deadline; None where there is none."""
        overdue: float | None = self._calling.overdue(self._start, self._timeout)
        return overdue

    async def _discard(self, outcome: Outcome) -> None:
        """Throw away what an attempt has begun to bring."""

    async def _received(self, inner: Any, lease: Lease) -> Outcome:
        """Return what this attempt brings, its one response or its first one."""
        raise NotImplementedError

    def _flowed(self, task: asyncio.Task[Outcome]) -> None:
        self._calling.channel.flows.discard(task)
        if task.cancelled():
            self._finish(cancelled())
        elif (error := task.exception()) is not None:
            self._finish(error)
        else:
            self._brought(task.result())

    def _brought(self, outcome: Outcome) -> None:
        """The flow has done what it could."""
        self._finish(outcome.error)

    def _finish(self, error: BaseException | None) -> None:
        channel = self._calling.channel
        self._over = True
        self._error = error
        if self._callbacks is not None:
            callbacks, self._callbacks = self._callbacks, None
            for callback in callbacks:
                tell(channel.loop, callback, self)
        if self._moved is not None:
            self._news()
        if channel.subs.leaving:
            channel.left()

    def _news(self) -> None:
        moved, self._moved = self._moved, None
        if moved is not None:
            moved.set_result(None)
