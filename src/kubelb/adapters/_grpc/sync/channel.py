"""The sync channel: what stubs, interceptors and `grpc.channel_ready_future` see of a load-balanced service.

The state of the whole channel is looked at only while something waits for it (see `waiting.py`).
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import grpc

from kubelb.adapters._grpc.shared.common import Common, address_of
from kubelb.adapters._grpc.shared.keeping import by_worker
from kubelb.adapters._grpc.shared.lastwords import asked
from kubelb.adapters._grpc.shared.library import library
from kubelb.adapters._grpc.shared.options import Options
from kubelb.adapters._grpc.shared.refusals import refusal
from kubelb.adapters._grpc.shared.requesting import Idempotent
from kubelb.adapters._grpc.shared.subchannel import SubChannel
from kubelb.adapters._grpc.shared.tls import Credentials
from kubelb.adapters._grpc.shared.watch import Check, quick_check, subscribed_check
from kubelb.adapters._grpc.sync.streaming import StreamStream, UnaryStream
from kubelb.adapters._grpc.sync.unary import StreamUnary, UnaryUnary
from kubelb.adapters._grpc.sync.waiting import Subscriptions, Waiting
from kubelb.core.state import EndpointState
from kubelb.core.table import Difference
from kubelb.discovery.base import Discovery
from kubelb.errors import LoadBalancerError
from kubelb.loadbalancer import LoadBalancer
from kubelb.runtime.fork import register, settled
from kubelb.runtime.worker import worker

if TYPE_CHECKING:
    from kubelb.adapters._grpc.shared.common import Q, R

__all__ = ["SyncChannel"]


class SyncChannel(Common, grpc.Channel):
    """Everything of `kubelb.adapters.grpc.insecure_channel`'s result."""

    def __init__(
        self,
        lb_or_target: LoadBalancer | Discovery | str,
        credentials: Credentials | None,
        options: Options | None,
        compression: grpc.Compression | None,
        idempotent: Idempotent,
    ) -> None:
        super().__init__(lb_or_target, credentials, options, compression, idempotent)
        self.waiting = Waiting(self.lb, self.subs, patient=False)
        self.patient = Waiting(self.lb, self.subs, patient=True)
        self._subscriptions = Subscriptions(self.lb, self.subs)
        self.lb.on_change(self._on_change)
        register(self)

    # What grpc.Channel has

    def unary_unary(
        self,
        method: str,
        request_serializer: "Callable[[Q], bytes] | None" = None,
        response_deserializer: "Callable[[bytes], R] | None" = None,
        _registered_method: bool | None = False,
    ) -> "grpc.UnaryUnaryMultiCallable[Q, R]":
        """Return the multicallable of a method; the same one each time."""
        return self._calling(UnaryUnary, method, request_serializer, response_deserializer, _registered_method)

    def unary_stream(
        self,
        method: str,
        request_serializer: "Callable[[Q], bytes] | None" = None,
        response_deserializer: "Callable[[bytes], R] | None" = None,
        _registered_method: bool | None = False,
    ) -> "grpc.UnaryStreamMultiCallable[Q, R]":
        """Return the multicallable of a method; the same one each time."""
        return self._calling(UnaryStream, method, request_serializer, response_deserializer, _registered_method)

    def stream_unary(
        self,
        method: str,
        request_serializer: "Callable[[Q], bytes] | None" = None,
        response_deserializer: "Callable[[bytes], R] | None" = None,
        _registered_method: bool | None = False,
    ) -> "grpc.StreamUnaryMultiCallable[Q, R]":
        """Return the multicallable of a method; the same one each time."""
        return self._calling(StreamUnary, method, request_serializer, response_deserializer, _registered_method)

    def stream_stream(
        self,
        method: str,
        request_serializer: "Callable[[Q], bytes] | None" = None,
        response_deserializer: "Callable[[bytes], R] | None" = None,
        _registered_method: bool | None = False,
    ) -> "grpc.StreamStreamMultiCallable[Q, R]":
        """Return the multicallable of a method; the same one each time."""
        return self._calling(StreamStream, method, request_serializer, response_deserializer, _registered_method)

    def subscribe(
        self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool | None = False
    ) -> None:
        """Call `callback` with the state of the whole, now and whenever it changes: READY while any endpoint is."""
        if self.passing:
            self.plain.channel().subscribe(callback, try_to_connect)
            return
        if try_to_connect:
            self.start()
        self._subscriptions.add(callback, bool(try_to_connect))

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """Take back `subscribe`."""
        self._subscriptions.remove(callback)
        for channel in self.plain.made():
            channel.unsubscribe(callback)

    def close(self) -> None:
        """End every call and connection, and the load balancer if it was made from a target here. Idempotent."""
        settled()
        channels = self.subs.take_all() + self.plain.take()
        self._subscriptions.close()
        for channel in channels:
            _close(channel)
        self._kept.clear()
        if self._owns:
            self.lb.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Sub-channels

    def _make(self, state: EndpointState) -> tuple[grpc.Channel, Check]:
        library.use()
        return self._open(address_of(state), self._options)

    def _open(self, target: str, options: Options) -> tuple[grpc.Channel, Check]:
        # By the module's attribute: instrumentations put theirs there.
        credentials = self._credentials_now()
        if credentials is None:
            channel = grpc.insecure_channel(target, options=options, compression=self._compression)
        else:
            channel = grpc.secure_channel(target, credentials, options=options, compression=self._compression)
        return channel, quick_check(channel) or subscribed_check(channel)

    def _close_one(self, channel: grpc.Channel) -> None:
        """Not in this thread: it may be the channel's own, at the end of its last call, and a close waits for that."""
        worker.retain()
        worker.call_at(worker.clock(), partial(_close_late, channel))

    # Switched off

    def _open_plainly(self, address: str, options: Options) -> tuple[grpc.Channel, Check]:
        return self._open(address, options)

    def _closed_plainly(self) -> Exception:
        return ValueError("Cannot invoke RPC on closed channel!")

    def _refused(self, error: LoadBalancerError) -> Any:
        return refusal(error)

    def _ask(self, sub: SubChannel) -> None:
        sub.words = asked(sub.channel)

    _repeat = staticmethod(by_worker)

    def _on_change(self, difference: Difference) -> None:  # noqa: ARG002
        if self.subs.started:
            self.subs.connect()

    def after_fork_in_child(self) -> None:
        """The subscriptions go on, with a worker of the child's own."""
        super().after_fork_in_child()
        self._subscriptions.after_fork_in_child()


def _close(channel: grpc.Channel) -> None:
    with suppress(Exception):
        channel.close()


def _close_late(channel: grpc.Channel) -> None:
    _close(channel)
    worker.release()
