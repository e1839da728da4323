"""Sync calls with one response: `stub.Method(request)`, `with_call`, `future`.

The straight first attempt is the whole story of nearly every call; `CallFuture` (future.py) is its twin that does not
block.
"""

from collections.abc import Iterable
from typing import Any

import grpc

from kubelb.adapters._grpc.shared.replay import Replay
from kubelb.adapters._grpc.shared.requesting import fresh, lasting
from kubelb.adapters._grpc.sync.blocking import Invoke, OneResponse
from kubelb.adapters._grpc.sync.future import CallFuture
from kubelb.errors import LoadBalancerError, NotReady
from kubelb.model import CANCELLED

__all__ = ["StreamUnary", "UnaryUnary"]


def _calls(request: Any, metadata: Any, credentials: Any, compression: Any) -> Invoke:
    """Return what makes an attempt at a call of one message."""

    def invoke(bound: Any, left: float | None) -> Any:
        return bound(request, left, fresh(metadata), credentials, None, compression)

    return invoke


class UnaryUnary(OneResponse, grpc.UnaryUnaryMultiCallable):  # type: ignore[type-arg]  # generic in the stubs only
    """One request, one response."""

    kind = "unary_unary"
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
        """Make the RPC and return its response. Raises RpcError."""
        if self.off() is not None:
            return self.past()(request, timeout, metadata, credentials, wait_for_ready, compression)
        if metadata is not None or wait_for_ready or not self.ordinary(timeout):
            metadata = lasting(metadata)
            made = _calls(request, metadata, credentials, compression)
            return self.block(made, timeout, metadata, wait_for_ready)
        # The rest is `block` without all that an ordinary call need not ask: half of what a call costs.
        try:
            lease = self.channel.subs.pick(self.wanted)
        except NotReady:
            lease = None
        except LoadBalancerError as error:
            raise self.refused_at_once(error) from None
        if lease is None:
            return self._flow(_calls(request, None, credentials, compression), self.wanted, timeout, None, None, None)
        try:
            bound = self.bound.get(lease.state) or self.at(lease.state)
            value = bound(request, timeout, None, credentials, None, compression)
        except Exception as error:  # noqa: BLE001
            outcome = self.outcome(error, lease, self.overdue(lease.start, timeout))
        except BaseException:
            lease.release(CANCELLED)
            raise
        else:
            lease.release()
            if self.channel.subs.leaving:
                self.channel.left()
            return value
        made = _calls(request, None, credentials, compression)
        return self._go_on(outcome, lease, made, self.wanted, timeout, None, None)

    def with_call(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Make the RPC and return its response and its finished Call. Raises RpcError."""
        if self.off() is not None:
            return self.past().with_call(request, timeout, metadata, credentials, wait_for_ready, compression)
        metadata = lasting(metadata)

        def invoke(bound: Any, left: float | None) -> Any:
            return bound.with_call(request, left, fresh(metadata), credentials, None, compression)

        return self.block(invoke, timeout, metadata, wait_for_ready)

    def future(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Begin the RPC; returns a Future that is its Call. Raises RpcError for a request that cannot be serialized."""
        if self.off() is not None:
            return self.past().future(request, timeout, metadata, credentials, wait_for_ready, compression)
        metadata = lasting(metadata)

        def invoke(bound: Any, left: float | None) -> Any:
            return bound.future(request, left, fresh(metadata), credentials, None, compression)

        if metadata is None and self.ordinary(timeout):
            return CallFuture(self, invoke, self.wanted, timeout, wait_for_ready)
        wanted, timeout = self.begin(timeout, metadata)
        return self.started(CallFuture, invoke, wanted, timeout, wait_for_ready)


class StreamUnary(OneResponse, grpc.StreamUnaryMultiCallable):  # type: ignore[type-arg]  # generic in the stubs only
    """A stream of requests, one response."""

    kind = "stream_unary"
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
        """Send the requests and return the response. Raises RpcError."""
        if self.off() is not None:
            return self.past()(request_iterator, timeout, metadata, credentials, wait_for_ready, compression)
        replay = Replay(request_iterator)

        metadata = lasting(metadata)

        def invoke(bound: Any, left: float | None) -> Any:
            return bound(iter(replay), left, fresh(metadata), credentials, None, compression)

        return self.block(invoke, timeout, metadata, wait_for_ready, replay)

    def with_call(
        self,
        request_iterator: Iterable[Any],
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Send the requests and return the response and its finished Call. Raises RpcError."""
        if self.off() is not None:
            return self.past().with_call(request_iterator, timeout, metadata, credentials, wait_for_ready, compression)
        replay = Replay(request_iterator)

        metadata = lasting(metadata)

        def invoke(bound: Any, left: float | None) -> Any:
            return bound.with_call(iter(replay), left, fresh(metadata), credentials, None, compression)

        return self.block(invoke, timeout, metadata, wait_for_ready, replay)

    def future(
        self,
        request_iterator: Iterable[Any],
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        """Begin to send the requests; returns a Future that is the Call."""
        if self.off() is not None:
            return self.past().future(request_iterator, timeout, metadata, credentials, wait_for_ready, compression)
        replay = Replay(request_iterator)

        metadata = lasting(metadata)

        def invoke(bound: Any, left: float | None) -> Any:
            return bound.future(iter(replay), left, fresh(metadata), credentials, None, compression)

        wanted, timeout = self.begin(timeout, metadata)
        return self.started(CallFuture, invoke, wanted, timeout, wait_for_ready, replay)
