"""The asyncio channel: what stubs see of a load-balanced service.

gRPC's channels for asyncio belong to the event loop they are made in. So this one belongs to the first loop that it is
used in, where everything happens: sub-channels are made and closed there, calls begin and end there. News of endpoints
comes from another thread and is handed to the loop.

The state of the whole channel is looked at only while something waits for it.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import grpc
import grpc.aio

from kubelb.adapters._grpc.aio.calling import StreamStream, StreamUnary, UnaryStream, UnaryUnary
from kubelb.adapters._grpc.aio.closing import AioClosing, close_now, closed
from kubelb.adapters._grpc.aio.interceptors import flat, put_into, sorted_out
from kubelb.adapters._grpc.aio.waiting import AioWaiting
from kubelb.adapters._grpc.shared.common import Common, address_of
from kubelb.adapters._grpc.shared.lastwords import aio_asked
from kubelb.adapters._grpc.shared.library import library
from kubelb.adapters._grpc.shared.options import Options
from kubelb.adapters._grpc.shared.readiness import Poll
from kubelb.adapters._grpc.shared.refusals import aio_refusal
from kubelb.adapters._grpc.shared.requesting import Idempotent
from kubelb.adapters._grpc.shared.subchannel import SubChannel
from kubelb.adapters._grpc.shared.tls import Credentials
from kubelb.adapters._grpc.shared.watch import Check, quick_check
from kubelb.core.state import EndpointState
from kubelb.core.table import Difference
from kubelb.discovery.base import Discovery
from kubelb.errors import LoadBalancerError
from kubelb.loadbalancer import LoadBalancer
from kubelb.runtime.fork import register
from kubelb.runtime.loops import modules

if TYPE_CHECKING:
    from kubelb.adapters._grpc.shared.common import Q, R

__all__ = ["AioChannel"]


class AioChannel(AioClosing, Common, grpc.aio.Channel):
    """Everything of `kubelb.adapters.grpc.aio.insecure_channel`'s result."""

    def __init__(
        self,
        lb_or_target: LoadBalancer | Discovery | str,
        credentials: Credentials | None,
        options: Options | None,
        compression: grpc.Compression | None,
        interceptors: Sequence[Any] | None,
        idempotent: Idempotent,
    ) -> None:
        super().__init__(lb_or_target, credentials, options, compression, idempotent)
        lists = sorted_out(interceptors)
        # grpcio's names for them, which others append to (see `aio/interceptors.py`).
        self._unary_unary_interceptors = lists["unary_unary"]
        self._unary_stream_interceptors = lists["unary_stream"]
        self._stream_unary_interceptors = lists["stream_unary"]
        self._stream_stream_interceptors = lists["stream_stream"]
        self.waiting = AioWaiting(self.lb, self.subs, patient=False)
        self.patient = AioWaiting(self.lb, self.subs, patient=True)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.flows: set[asyncio.Task[Any]] = set()
        """Calls whose first attempt was not the whole story."""
        self.running: set[Any] = set()
        """RPCs that no flow sees to, for `close(grace)`."""
        self.past: WeakSet[Any] = WeakSet()
        """Calls that go past kubelb, for `close`."""
        self._closing: set[asyncio.Task[None]] = set()
        self._abandoned: list[object] = []
        self.lb.on_change(self._on_change)
        register(self)

    # What grpc.aio.Channel has

    def unary_unary(
        self,
        method: str,
        request_serializer: "Callable[[Q], bytes] | None" = None,
        response_deserializer: "Callable[[bytes], R] | None" = None,
        _registered_method: bool | None = False,
    ) -> "grpc.aio.UnaryUnaryMultiCallable[Q, R]":
        """Return the multicallable of a method; the same one each time."""
        return self._calling(UnaryUnary, method, request_serializer, response_deserializer, _registered_method)

    def unary_stream(
        self,
        method: str,
        request_serializer: "Callable[[Q], bytes] | None" = None,
        response_deserializer: "Callable[[bytes], R] | None" = None,
        _registered_method: bool | None = False,
    ) -> "grpc.aio.UnaryStreamMultiCallable[Q, R]":
        """Return the multicallable of a method; the same one each time."""
        return self._calling(UnaryStream, method, request_serializer, response_deserializer, _registered_method)

    def stream_unary(
        self,
        method: str,
        request_serializer: "Callable[[Q], bytes] | None" = None,
        response_deserializer: "Callable[[bytes], R] | None" = None,
        _registered_method: bool | None = False,
    ) -> "grpc.aio.StreamUnaryMultiCallable[Q, R]":
        """Return the multicallable of a method; the same one each time."""
        return self._calling(StreamUnary, method, request_serializer, response_deserializer, _registered_method)

    def stream_stream(
        self,
        method: str,
        request_serializer: "Callable[[Q], bytes] | None" = None,
        response_deserializer: "Callable[[bytes], R] | None" = None,
        _registered_method: bool | None = False,
    ) -> "grpc.aio.StreamStreamMultiCallable[Q, R]":
        """Return the multicallable of a method; the same one each time."""
        return self._calling(StreamStream, method, request_serializer, response_deserializer, _registered_method)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return the state of the whole: READY while any endpoint is."""
        if self.passing:
            return _STATES[self.plain.check(try_to_connect)]
        if try_to_connect:
            self.start()
        return self.subs.connectivity(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return when the state of the whole is another one."""
        self.refuse_trio()
        poll = Poll()
        while self._now() is last_observed_state:  # noqa: ASYNC110
            await asyncio.sleep(poll.pause())

    def _now(self) -> grpc.ChannelConnectivity:
        return self.get_state() if self.passing else self.subs.connectivity(self.subs.started)

    async def channel_ready(self) -> None:
        """Connect, and return when any endpoint is ready. Raises UsageError once the channel is closed."""
        poll = Poll()
        while (state := self.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
            if state is grpc.ChannelConnectivity.SHUTDOWN:
                raise closed_channel()
            await asyncio.sleep(poll.pause())

    # The loop

    def begin(self) -> None:
        """A call begins."""
        if self.subs.closed:
            raise closed_channel()
        self.here()

    def here(self) -> asyncio.AbstractEventLoop:
        """Return the running loop, which must be the one this channel belongs to; it belongs to the first."""
        if "trio" in modules:
            self.refuse_trio()
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(f"{self!r} is used from coroutines: there is no running event loop here") from None
        loop = self.loop
        if loop is not running:
            library.use()
            loop = self.loop  # the child of a fork of which Python was not told forgets it just now
            if _process.inherited:
                raise RuntimeError(
                    f"{self!r} cannot be used here: this process was forked from one that had used grpc.aio, which "
                    "grpcio does not survive; fork before that, or start processes by spawn or forkserver"
                )
            if loop is not None and not loop.is_closed():
                raise RuntimeError(
                    f"{self!r} is bound to another event loop; give each loop a channel of its own "
                    "(they may share the LoadBalancer)"
                )
            if loop is not None:  # its connections are gone with it
                self._start_anew()
            self.loop = running
            _process.used = True
        return running

    def start(self) -> None:
        """On the loop that the channel belongs to, which may be found by this."""
        if not self.subs.closed:
            self.here()
        super().start()

    @property
    def _loop(self) -> asyncio.AbstractEventLoop | None:
        """grpcio's name for it: the loop it belongs to; before that the one that runs here, which it may belong to."""
        if self.loop is not None:
            return self.loop
        with suppress(RuntimeError):
            return asyncio.get_running_loop()
        return None

    def _start_anew(self, gone: Iterable[grpc.aio.Channel] = ()) -> None:
        """Forget what belonged to a loop that does not run any more; `gone`: channels that were made there."""
        closed = self.subs.closed
        self.subs.forget()
        self.subs.closed = closed
        self.plain.forget()
        self.keeper.after_fork_in_child()
        self.loop, self.flows, self.running, self._closing = None, set(), set(), set()
        self.past = WeakSet()
        for calling in self._callings:
            calling.forget_all()
        for channel in gone:
            close_now(channel)

    def _on_change(self, difference: Difference) -> None:  # noqa: ARG002
        loop = self.loop
        if loop is not None and self.subs.started:
            with suppress(RuntimeError):  # the loop is closed, and its connections with it
                loop.call_soon_threadsafe(self.subs.connect)

    # Sub-channels

    def _make(self, state: EndpointState) -> tuple[grpc.aio.Channel, Check]:
        return self._open(address_of(state), self._options, guarded=True)

    def _open(self, target: str, options: Options, *, guarded: bool) -> tuple[grpc.aio.Channel, Check]:
        channel = self._made(target, options, None)
        if not put_into(channel, self, guarded=guarded):
            self.aside(closed(channel))
            channel = self._made(target, options, flat(self, guarded=guarded))
        return channel, quick_check(channel) or (lambda connect: channel.get_state(connect).value[0])

    def _made(self, target: str, options: Options, interceptors: Sequence[Any] | None) -> grpc.aio.Channel:
        # By the module's attribute: instrumentations put theirs there. By their names, for they add interceptors.
        credentials = self._credentials_now()
        given: Any = {"options": options, "compression": self._compression, "interceptors": interceptors}
        if credentials is None:
            return grpc.aio.insecure_channel(target, **given)
        return grpc.aio.secure_channel(target, credentials, **given)

    # Switched off

    def _open_plainly(self, address: str, options: Options) -> tuple[grpc.aio.Channel, Check]:
        self.here()
        return self._open(address, options, guarded=False)

    def _closed_plainly(self) -> Exception:
        return closed_channel()

    def _refused(self, error: LoadBalancerError) -> Any:
        return aio_refusal(error)

    def _ask(self, sub: SubChannel) -> None:
        hearing = self.subs.unreached.hearing
        task = self.aside(_put_down(sub))
        hearing.add(task)
        task.add_done_callback(hearing.discard)

    def _repeat(self, pause: float, ask: Callable[[], bool]) -> None:
        loop = self.here()

        def step() -> None:
            if self.loop is loop and ask():
                loop.call_later(pause, step)

        loop.call_later(pause, step)

    def _close_one(self, channel: grpc.aio.Channel) -> None:
        self.aside(closed(channel))

    def aside(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Have something done for which nothing waits but `close`."""
        assert self.loop is not None
        task = self.loop.create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    def after_fork_in_child(self) -> None:
        """The parent's loop does not run here."""
        super().after_fork_in_child()
        self._abandoned += [self.flows, self.running, self._closing, list(self.past)]
        self.past = WeakSet()
        self.loop, self.flows, self.running, self._closing = None, set(), set(), set()


_STATES = {state.value[0]: state for state in grpc.ChannelConnectivity}
"""By core's numbers."""


class _Process:
    """What grpc.aio has of a process, its threads and its poller, is lost to a forked child: it hangs or crashes."""

    def __init__(self) -> None:
        self.used = False
        self.inherited = False
        register(self)

    def after_fork_in_child(self) -> None:
        """No channel for asyncio is of use here."""
        self.inherited = self.used


_process = _Process()


async def _put_down(sub: SubChannel) -> None:
    sub.words = await aio_asked(sub.channel)


def closed_channel() -> Exception:
    """Return what grpcio raises for a call on a closed channel."""
    return grpc.aio.UsageError("Channel is closed.")
