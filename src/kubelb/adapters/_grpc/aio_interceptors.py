"""Two interceptors of our own around the user's, for what grpcio does not bear of them.

    outermost   what a user's interceptor raises is carried out as an error of gRPC's and unpacked by the call
    innermost   metadata that an interceptor has added and that cannot be sent are refused as anywhere else

grpcio 1.80 takes only its own errors from interceptors: any other is raised a second time in a callback of the event
loop and a third time in a finalizer, and the end of the call is not told.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import grpc.aio
from grpc import StatusCode
from grpc.aio import ClientInterceptor

from kubelb.adapters._grpc.aio_metadata import sendable

__all__ = ["RAISED", "Raised", "guarded"]

RAISED = "kubelb: an interceptor raised"


class Raised(grpc.aio.AioRpcError):
    """Carries what an interceptor raised, as its `__cause__`."""

    def __init__(self) -> None:
        super().__init__(StatusCode.UNKNOWN, grpc.aio.Metadata(), grpc.aio.Metadata(), RAISED, "")


async def _outermost(_: Any, continuation: Callable[[Any, Any], Any], details: Any, request: Any) -> Any:
    try:
        return await continuation(details, request)
    except grpc.aio.AioRpcError:
        raise
    except Exception as error:
        raise Raised from error


async def _innermost(_: Any, continuation: Callable[[Any, Any], Any], details: Any, request: Any) -> Any:
    if details.metadata:
        sendable(details.metadata)
    return await continuation(details, request)


KINDS = {
    grpc.aio.UnaryUnaryClientInterceptor: "intercept_unary_unary",
    grpc.aio.UnaryStreamClientInterceptor: "intercept_unary_stream",
    grpc.aio.StreamUnaryClientInterceptor: "intercept_stream_unary",
    grpc.aio.StreamStreamClientInterceptor: "intercept_stream_stream",
}


def guarded(given: Sequence[Any] | None) -> Sequence[Any] | None:
    """Return the interceptors of a sub-channel; kinds of calls that are not intercepted stay as quick as they are."""
    if given is None:
        return None
    if isinstance(given, ClientInterceptor) or not isinstance(given, Iterable):
        raise TypeError(f"interceptors={given!r}: give a list of them")
    given = tuple(given)
    for each in given:
        if not isinstance(each, ClientInterceptor):
            raise TypeError(f"interceptors=[{each!r}]: give objects of classes that derive from grpc.aio's")
    kinds = [kind for kind in KINDS if any(isinstance(each, kind) for each in given)]
    first, last = ([_made(kind, KINDS[kind], way) for kind in kinds] for way in (_outermost, _innermost))
    return [*first, *given, *last]


def _made(kind: type[Any], name: str, way: Callable[..., Any]) -> Any:
    return type(way.__name__.strip("_").title(), (kind,), {name: way})()
