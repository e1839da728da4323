"""The multicallables of asyncio: they make the call objects, which do the rest."""

from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any

import grpc
import grpc.aio

from kubelb.adapters._grpc.aio.seen import when_over
from kubelb.adapters._grpc.aio.stream import ManyResponses
from kubelb.adapters._grpc.aio.unary import OneResponse
from kubelb.adapters._grpc.aio.writing import ManyRequests
from kubelb.adapters._grpc.shared.calling import Calling
from kubelb.adapters._grpc.shared.refusals import aio_refusal
from kubelb.errors import LoadBalancerError

__all__ = ["StreamStream", "StreamUnary", "UnaryStream", "UnaryUnary"]


class _AioCalling(Calling):
    gone = grpc.aio.UsageError
    when_over = staticmethod(when_over)

    def refused(self, error: LoadBalancerError) -> Any:
        """Return kubelb's refusal as an AioRpcError."""
        return aio_refusal(error)

    def started(self, kind: Callable[..., Any], *said: Any) -> Any:
        """Return the call object; grpcio's own of a call that goes past kubelb."""
        return self._plainly(kind, *said) if self.off() is not None else super().started(kind, *said)

    def _plainly(self, kind: Callable[..., Any], request: Any, timeout: Any, waits: Any, *said: Any) -> Any:
        """Return grpcio's own, or one of ours that is refused where there is no address."""
        channel = self.channel
        channel.begin()
        try:
            bound = self.past()
        except LoadBalancerError as error:
            refused = copy(self)
            refused.plain, refused.begin = False, partial(_raise, error)  # type: ignore[method-assign]
            return kind(refused, request, timeout, waits, None, None, None)
        metadata, credentials, compression = said
        call = bound(
            request,
            timeout=timeout,
            metadata=metadata,
            credentials=credentials,
            wait_for_ready=waits,
            compression=compression,
        )
        channel.past.add(call)
        return call


def _raise(error: LoadBalancerError, *_: Any) -> Any:
    raise error


class UnaryUnaryCall(OneResponse, grpc.aio.UnaryUnaryCall):  # type: ignore[type-arg]  # generic in the stubs only
    """One request, one response: awaitable."""


class UnaryStreamCall(ManyResponses, grpc.aio.UnaryStreamCall):  # type: ignore[type-arg]  # generic in the stubs only
    """One request, many responses: an asynchronous iterator."""


class StreamUnaryCall(ManyRequests, OneResponse, grpc.aio.StreamUnaryCall):  # type: ignore[type-arg]  # as above
    """Many requests, one response: awaitable."""


class StreamStreamCall(ManyRequests, ManyResponses, grpc.aio.StreamStreamCall):  # type: ignore[type-arg]  # as above
    """Many of both: an asynchronous iterator."""


class UnaryUnary(_AioCalling, grpc.aio.UnaryUnaryMultiCallable):  # type: ignore[type-arg]  # generic in the stubs only
    """One request, one response."""

    kind = "unary_unary"
    replayable = True

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Begin the RPC; returns its call object."""
        if self.off() is not None or self.watch.on():
            return self.started(UnaryUnaryCall, request, timeout, wait_for_ready, metadata, credentials, compression)
        # As `started` does it, without the way there.
        return UnaryUnaryCall(self, request, timeout, wait_for_ready, metadata, credentials, compression)


class UnaryStream(_AioCalling, grpc.aio.UnaryStreamMultiCallable):  # type: ignore[type-arg]  # as above
    """One request, a stream of responses."""

    kind = "unary_stream"
    replayable = True

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Begin the RPC; returns its call object."""
        return self.started(UnaryStreamCall, request, timeout, wait_for_ready, metadata, credentials, compression)


class StreamUnary(_AioCalling, grpc.aio.StreamUnaryMultiCallable):  # type: ignore[type-arg]  # as above
    """A stream of requests, one response."""

    kind = "stream_unary"
    replayable = False

    def __call__(
        self,
        request_iterator: Any = None,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Begin the RPC; returns its call object, whose `write` sends requests where there is no iterator."""
        return self.started(
            StreamUnaryCall, request_iterator, timeout, wait_for_ready, metadata, credentials, compression
        )


class StreamStream(_AioCalling, grpc.aio.StreamStreamMultiCallable):  # type: ignore[type-arg]  # as above
    """A stream of requests, a stream of responses."""

    kind = "stream_stream"
    replayable = False

    def __call__(
        self,
        request_iterator: Any = None,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Begin the RPC; returns its call object, whose `write` sends requests where there is no iterator."""
        return self.started(
            StreamStreamCall, request_iterator, timeout, wait_for_ready, metadata, credentials, compression
        )
