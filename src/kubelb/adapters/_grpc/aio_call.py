"""What the four kinds of asyncio calls share: attempts, the end, and everything that may be asked of a call.

    picked --> the sub-channel's own call --> over           nearly always
                                          '-> the attempt flow in a Task, attempt after attempt --> over

A call object is there at once, whatever becomes of it. The first attempt starts with it, so there is a Task of ours
only where that attempt failed and another may do better, or where nothing could be picked yet. It is the sub-channel's
own call that reports its end, on the event loop: also of a call that is not awaited.

Once over, the latest attempt's own call speaks for the whole, or `_error` does where no attempt says it: a refusal, a
cancellation between two attempts.
"""

import asyncio
from asyncio import get_running_loop
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc.aio
from grpc import StatusCode

from kubelb.adapters._grpc.aio_endings import LOCALLY, cancelled, status_of, tell
from kubelb.adapters._grpc.aio_metadata import sendable
from kubelb.adapters._grpc.codes import made_here
from kubelb.adapters._grpc.refusals import asked
from kubelb.adapters._grpc.speaking import told
from kubelb.core.lease import Lease
from kubelb.core.steps import Send
from kubelb.errors import LoadBalancerError, NotReady
from kubelb.model import CANCELLED, SUCCESS, Outcome, Request
from kubelb.runtime.calls import annotate
from kubelb.runtime.driving import settle
from kubelb.runtime.hinting import current

__all__ = ["AioCall"]


class AioCall:
    """One call, whatever its kind."""

    _channel: Any = None
    """For grpcio 1.80: a channel that closes looks for its calls in every task's frame, and stumbles over one of ours
    that has none."""
    _inner: Any = None
    """The sub-channel's call of the latest attempt; None before the first."""
    _task: asyncio.Task[Outcome] | None = None
    """The attempt flow, where it had to take over."""
    _over = False
    _cancelling = False
    _committed = False
    """Whether the caller has seen something of the latest attempt, so that no other may follow."""
    _error: BaseException | None = None
    _callbacks: list[Callable[[Any], object]] | None = None
    _late_writes = False
    """Whether there is a stream of requests, to which grpcio may write when the call has ended (`aio_endings`)."""
    _status: grpc.aio.AioRpcError | None = None
    """Of the latest attempt, where there are late writes: kept, for its own call may say something else by and by."""
    _moved: asyncio.Future[None] | None = None
    """Set when another attempt begins, and at the end, where somebody waits for it."""

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
            if not calling.lb.always_flow:
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

    def _commit(self) -> None:
        self._committed = True

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

    # What may be asked of a call

    def __repr__(self) -> str:
        return told(self, self._calling.method, self._how())

    def _how(self) -> tuple[Any, Any] | None:
        if self._cancelling:
            return StatusCode.CANCELLED, LOCALLY
        if not self._over:
            return None
        ended: Any = self._error or self._status
        if ended is None:
            try:
                ended = status_of(self._inner)
            except Exception as error:  # noqa: BLE001  # an interceptor's own
                ended = error
        return asked(ended, "code", StatusCode.UNKNOWN), asked(ended, "details", ended)

    def cancel(self) -> bool:
        """End the call; False where it has ended."""
        if self._over or self._cancelling:
            return False
        self._cancelling = True
        if self._task is not None:
            self._task.cancel()
        elif not self._inner.cancel():
            self._give_up()
        return True

    def _give_up(self) -> None:
        """Cancelled, although grpcio takes the attempt for ended (`aio_endings`)."""

    def cancelled(self) -> bool:
        """Whether it was ended by its caller, or with the status CANCELLED."""
        if self._cancelling or (self._task is not None and self._task.cancelled()):
            return True
        if not self._over or self._error is not None:
            return False
        return bool(self._inner.cancelled()) if self._status is None else self._status.code() is StatusCode.CANCELLED

    def done(self) -> bool:
        """Whether it has ended."""
        return self._over or self._cancelling

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Call `callback(self)` when it has ended; at once where it has."""
        if self._over:
            tell(self._calling.channel.loop, callback, self)
        elif self._callbacks is None:
            self._callbacks = [callback]
        else:
            self._callbacks.append(callback)

    def time_remaining(self) -> float | None:
        """Return the seconds left of the call's timeout; None without one."""
        if self._timeout is None:
            return None
        return max(0.0, self._start + self._timeout - float(self._calling.clock()))

    async def initial_metadata(self) -> Any:
        """Wait for the server's and return it; the call then stays with that server."""
        while not self._over:
            inner = self._inner
            if inner is not None:
                metadata = await inner.initial_metadata()
                if inner is self._inner and not inner.done():
                    self._commit()
                    return metadata
            await self._another(inner)
        return await self._asked("initial_metadata", grpc.aio.Metadata())

    async def wait_for_connection(self) -> None:
        """Wait until the request is on its way. Raises what ends the call before that."""
        while not self._over:
            inner = self._inner
            if inner is not None:
                with suppress(grpc.aio.AioRpcError):
                    await inner.wait_for_connection()
                    return
            await self._another(inner)
        await self._raise()

    async def code(self) -> Any:
        """Wait for the end and return the status."""
        return await self._asked("code", StatusCode.UNKNOWN)

    async def details(self) -> Any:
        """Wait for the end and return the status's text."""
        return await self._asked("details", "")

    async def trailing_metadata(self) -> Any:
        """Wait for the end and return the server's."""
        return await self._asked("trailing_metadata", grpc.aio.Metadata())

    async def debug_error_string(self) -> Any:
        """Wait for the end and return what core knows of an error."""
        return await self._asked("debug_error_string", "")

    async def _asked(self, what: str, otherwise: Any) -> Any:
        await self._ended()
        said = self._error or self._status
        if said is None:
            return await getattr(self._inner, what)()
        return asked(said, what, otherwise)

    async def _raise(self) -> None:
        """Raise what the call has ended with, if it is not OK."""
        if self._cancelling or (self._task is not None and self._task.cancelled()):
            raise asyncio.CancelledError
        if self._error is not None:
            raise self._error
        status = self._status
        ended = status_of(self._inner) if status is None else status
        if ended.details() == LOCALLY and made_here(ended):  # a server may write the same
            raise asyncio.CancelledError  # grpcio would wait for what was never sent
        if status is None:
            await self._inner.wait_for_connection()  # which raises it, and waits for nothing now
        elif status.code() is not StatusCode.OK:
            raise status

    def _blame(self, error: asyncio.CancelledError) -> None:
        """Say why grpcio cancelled the call, where no other did."""

    async def _ended(self) -> None:
        """Wait for the end, without ending it when the waiter is cancelled."""
        await self._until(lambda: self._over)

    async def _another(self, inner: Any) -> None:
        await self._until(lambda: self._inner is not inner)

    async def _until(self, changed: Callable[[], bool]) -> None:
        """Wait until it is so, or the call has ended; asked again when an attempt begins or ends."""
        while not (self._over or changed()):
            if self._moved is None:
                self._moved = self._calling.channel.loop.create_future()
            await asyncio.wait([self._moved])
