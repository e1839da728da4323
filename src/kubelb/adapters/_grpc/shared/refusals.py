"""kubelb's own errors as what the users of gRPC catch: an RpcError that is a finished Call, or an AioRpcError.

except grpc.RpcError as error:
    error.code()       UNAVAILABLE, or DEADLINE_EXCEEDED where no time was left
    error.details()    the service, the reason, the counts
"""

from typing import Any

import grpc
import grpc.aio
from grpc import StatusCode

from kubelb.adapters.refusals import Refusals
from kubelb.errors import LoadBalancerError

__all__ = ["Cancelled", "aio_refusal", "asked", "refusal"]


class _Ended(grpc.RpcError, grpc.Call, grpc.Future):  # type: ignore[type-arg]  # generic in the stubs only
    """The sync half: a call that ended before it began."""

    status = StatusCode.UNAVAILABLE

    def code(self) -> StatusCode:
        return self.status

    def details(self) -> str:
        return str(self)

    def debug_error_string(self) -> str:
        return ""

    def initial_metadata(self) -> tuple[()]:
        return ()

    def trailing_metadata(self) -> tuple[()]:
        return ()

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> Any:
        return None

    def cancel(self) -> bool:
        return False

    def add_callback(self, callback: Any) -> bool:  # noqa: ARG002
        return False

    def cancelled(self) -> bool:
        return self.status is StatusCode.CANCELLED

    def running(self) -> bool:
        return False

    def done(self) -> bool:
        return True

    def result(self, timeout: float | None = None) -> Any:
        raise self.exception(timeout)

    def exception(self, timeout: float | None = None) -> Any:  # noqa: ARG002
        if self.cancelled():
            raise grpc.FutureCancelledError
        return self

    def traceback(self, timeout: float | None = None) -> Any:
        return self.exception(timeout).__traceback__

    def add_done_callback(self, fn: Any) -> None:
        fn(self)


class _Late(_Ended):
    status = StatusCode.DEADLINE_EXCEEDED


class Cancelled(_Ended):
    """A call that its caller cancelled before any of it was sent."""

    status = StatusCode.CANCELLED

    def __str__(self) -> str:
        return "Locally cancelled by application!"


class _AioEnded(grpc.aio.AioRpcError):
    """The asyncio half."""

    status = StatusCode.UNAVAILABLE

    def code(self) -> StatusCode:
        return self.status

    def details(self) -> str:
        return str(self)

    def debug_error_string(self) -> str:
        return ""

    def initial_metadata(self) -> Any:
        return grpc.aio.Metadata()

    def trailing_metadata(self) -> Any:
        return grpc.aio.Metadata()


class _AioLate(_AioEnded):
    status = StatusCode.DEADLINE_EXCEEDED


_sync = Refusals(_Ended, _Late)
_aio = Refusals(_AioEnded, _AioLate, __repr__=LoadBalancerError.__repr__)


def asked(said: Any, what: str, otherwise: Any) -> Any:
    """Return what a call that has ended says of itself; the caller's own exception, in its place, knows no status."""
    answer = getattr(said, what, None)
    return otherwise if answer is None else answer()


def refusal(error: LoadBalancerError) -> Any:
    """Return the same refusal as a `grpc.RpcError` that is a `grpc.Call`."""
    return _sync.of(error, None)


def aio_refusal(error: LoadBalancerError) -> Any:
    """Return the same refusal as a `grpc.aio.AioRpcError`."""
    return _aio.of(error, None)
