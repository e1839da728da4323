"""The multicallables of sync calls with a stream of responses."""

from collections.abc import Iterable
from typing import Any

import grpc

from kubelb.adapters._grpc.shared.calling import Calling
from kubelb.adapters._grpc.shared.replay import Replay
from kubelb.adapters._grpc.shared.requesting import fresh, lasting
from kubelb.adapters._grpc.sync.stream import ResponseStream

__all__ = ["StreamStream", "UnaryStream"]


class UnaryStream(Calling, grpc.UnaryStreamMultiCallable):  # type: ignore[type-arg]  # generic in the stubs only
    """One request, a stream of responses."""

    kind = "unary_stream"
    replayable = True

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Begin the RPC; returns its responses. Raises RpcError for a request that cannot be serialized."""
        if self.off() is not None:
            return self.past()(request, timeout, metadata, credentials, wait_for_ready, compression)
        metadata = lasting(metadata)

        def invoke(bound: Any, left: float | None) -> Any:
            return bound(request, left, fresh(metadata), credentials, None, compression)

        wanted, timeout = self.begin(timeout, metadata)
        return self.started(ResponseStream, invoke, wanted, timeout, wait_for_ready)


class StreamStream(Calling, grpc.StreamStreamMultiCallable):  # type: ignore[type-arg]  # generic in the stubs only
    """A stream of requests, a stream of responses."""

    kind = "stream_stream"
    replayable = False

    def __call__(
        self,
        request_iterator: Iterable[Any],
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Begin the RPC; returns its responses."""
        if self.off() is not None:
            return self.past()(request_iterator, timeout, metadata, credentials, wait_for_ready, compression)
        replay = Replay(request_iterator)

        metadata = lasting(metadata)

        def invoke(bound: Any, left: float | None) -> Any:
            return bound(iter(replay), left, fresh(metadata), credentials, None, compression)

        wanted, timeout = self.begin(timeout, metadata)
        return self.started(ResponseStream, invoke, wanted, timeout, wait_for_ready, replay)
