"""How an RPC of asyncio has ended, read off its call without waiting.

A call with a stream of requests may be told of two ends. To an RPC that is over nothing can be written, and grpcio
makes a status of its own out of that, INTERNAL, in the call's status as in its callbacks:

    the server's status, the late write's     the second overwrites the first
    the late write's, the server's status     core tells the writer first; and the status comes after all messages

So the first status that is no late write's is the call's, and it is kept. grpcio calls back once (1.80: for each), so
after a late write's the other is looked for.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import grpc.aio
from grpc import StatusCode

from kubelb.adapters._grpc.aio.interceptors import RAISED, Raised
from kubelb.adapters._grpc.shared.codes import made_here, outcome_of
from kubelb.adapters._grpc.shared.subchannels import SubChannels
from kubelb.core.lease import Lease
from kubelb.model import SUCCESS, Outcome
from kubelb.runtime.driving import settle

__all__ = [
    "AGAIN",
    "LOCALLY",
    "PATIENCE",
    "cancelled",
    "ended",
    "ending",
    "now",
    "provisional",
    "status_of",
    "tell",
    "went_well",
]

LATE_WRITE = 'Failed "execute_batch"'
AGAIN = (0.001, 0.032)
"""Seconds after which a late write's status is looked at again, at first and at most."""
PATIENCE = 1.0
"""Seconds that a server's status may take when nothing else can come of an RPC; then the late write's is taken."""
LOCALLY = "Locally cancelled by application!"


def ended(inner: Any, lease: Lease, subs: SubChannels, overdue: float | None = None) -> Outcome | BaseException:
    """Release the lease of an RPC that has ended; returns its outcome, or what an interceptor raised.

    `overdue` is in seconds since the end of its deadline.
    """
    try:
        if went_well(inner):
            lease.release()
            return SUCCESS
        outcome = subs.blamed(ending(inner, overdue=overdue), lease)
    except BaseException as error:  # noqa: BLE001  # what awaits the call gets it
        lease.release(None)
        return error
    return settle(lease, outcome)


def went_well(inner: Any) -> bool:
    """Whether an RPC has ended with OK; not, where an interceptor raised.

    It is asked of every call, so by grpcio's quick way (private) where it has that: a coroutine of its costs 3 us.
    """
    try:
        return bool(inner._cython_call.is_ok())  # noqa: SLF001
    except AttributeError:  # an intercepted one
        pass
    try:
        return now(inner.code()) is StatusCode.OK
    except Exception:  # noqa: BLE001  # `ending` raises it again
        return False


def ending(inner: Any, status: grpc.aio.AioRpcError | None = None, overdue: float | None = None) -> Outcome:
    """Return the outcome of an RPC that has ended (`status`: as it was kept). Raises what an interceptor did."""
    status = status or status_of(inner)
    if status.code() is StatusCode.OK:
        return SUCCESS
    if status.details() == RAISED and made_here(status):
        try:
            now(inner.wait_for_connection())
        except Raised as raised:
            raise (raised.__cause__ or raised) from None
    return outcome_of(status, overdue)


def status_of(inner: Any) -> grpc.aio.AioRpcError:
    """Return the status of an RPC that has ended, also where it is OK."""
    code, initial, trailing, details, debug = (
        now(ask())
        for ask in (
            inner.code,
            inner.initial_metadata,
            inner.trailing_metadata,
            inner.details,
            inner.debug_error_string,
        )
    )
    return grpc.aio.AioRpcError(code, initial, trailing, details, debug)


def provisional(inner: Any) -> bool:
    """Whether the status is that of a write which came too late."""
    return now(inner.code()) is StatusCode.INTERNAL and now(inner.debug_error_string()).startswith(LATE_WRITE)


def now(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine returns that need not wait."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise RuntimeError(f"{coroutine!r} waits although the call has ended")


def tell(loop: asyncio.AbstractEventLoop, callback: Callable[[Any], object], call: Any) -> None:
    """Call back; what ended the call must not be hit by what that raises."""
    try:
        callback(call)
    except Exception as error:  # noqa: BLE001
        loop.call_exception_handler({"message": f"Exception in callback {callback!r}", "exception": error})


def cancelled() -> grpc.aio.AioRpcError:
    """Return what speaks for a call that its caller cancelled while no attempt was running."""
    return grpc.aio.AioRpcError(StatusCode.CANCELLED, grpc.aio.Metadata(), grpc.aio.Metadata(), LOCALLY, "")
