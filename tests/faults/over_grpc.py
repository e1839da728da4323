"""gRPC, sync and asyncio, as the table's clients; and the servicers of its pods.

/shop.Pod/Get, Pay        one response; the channel knows that Get is idempotent
/shop.Pod/List, Follow    three responses; the same of List
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import grpc.aio
from tests.faults.asking import Allowed, Ask, End, How
from tests.faults.clients import PATIENCE, AioClient, Client
from tests.faults.over_http import kubelb_class

import kubelb
from kubelb.adapters import grpc as balanced
from kubelb.adapters.grpc import aio as balanced_aio
from kubelb.testing import Backend

__all__ = ["RPC", "STREAM", "AioStream", "AioUnary", "FutureCall", "Gate", "Stream", "Unary"]

RPC = "rpc"
STREAM = "stream"
READY = grpc.ChannelConnectivity.READY.value[0]
LONG = 20.0


class Gate:
    """Between the first and the second message of a stream, where one is shut."""

    def __init__(self) -> None:
        self._shut: dict[str, threading.Event] = {}

    def shut(self, pod: Backend) -> None:
        self._shut[pod.name] = threading.Event()

    def open(self) -> None:
        for event in self._shut.values():
            event.set()

    def register(self, server: grpc.Server, backend: Backend) -> None:
        """Add the servicers of a pod."""

        def one(request: bytes, context: grpc.ServicerContext) -> bytes:
            return backend.name.encode()

        def many(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            yield backend.name.encode()
            if (event := self._shut.get(backend.name)) is not None:
                context.add_callback(event.set)
                event.wait()
            for _ in range(2):
                yield backend.name.encode()

        handlers: dict[str, Any] = {
            "Get": grpc.unary_unary_rpc_method_handler(one),
            "Pay": grpc.unary_unary_rpc_method_handler(one),
            "List": grpc.unary_stream_rpc_method_handler(many),
            "Follow": grpc.unary_stream_rpc_method_handler(many),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Pod", handlers),))


class _Grpc:
    """What the sync and the asyncio clients share."""

    kind = "unary_unary"
    methods = {True: "/shop.Pod/Get", False: "/shop.Pod/Pay"}
    channel: Any
    lb: kubelb.LoadBalancer

    def make(self, factory: Callable[..., Any]) -> Any:
        return factory(self.lb, idempotent=["/shop.Pod/Get", "/shop.Pod/List"])

    def call(self, ask: Ask) -> tuple[Any, dict[str, Any]]:
        """The multicallable, and what it is called with beside the request."""
        method = self.methods[ask.allowed is Allowed.YES]
        return getattr(self.channel, self.kind)(method), {
            "metadata": (("x-ask", ask.marker),),
            "timeout": ask.timeout or LONG,
        }

    def meaning(self, error: BaseException, *, begun: bool) -> End:
        """gRPC has one class: the status tells, and whether it is the pod's word or that of core."""
        if isinstance(error, grpc.FutureCancelledError):
            return End(How.CANCELLED, type(error).__name__)
        if not isinstance(error, grpc.RpcError):
            raise error
        call: Any = error
        code, own = call.code(), call.code().name
        if isinstance(error, kubelb.LoadBalancerError):
            late = isinstance(error, kubelb.DeadlineExceeded)
            assert code is (grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.UNAVAILABLE)
            return End(How.LATE if late else How.UNREACHABLE, own, kubelb_class(error))
        if code is grpc.StatusCode.CANCELLED:
            return End(How.CANCELLED, own)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return End(How.LATE, own)
        pod = dict(call.trailing_metadata() or ()).get("x-backend", "")
        if pod or code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return End(How.TOLD, own, pod=pod)
        assert code is grpc.StatusCode.UNAVAILABLE, error
        return End(How.BROKEN if begun else How.LOST, own)


class _SyncGrpc(_Grpc, Client):
    family = RPC

    def __init__(self, lb: kubelb.LoadBalancer) -> None:
        super().__init__(lb)
        self.channel = self.make(balanced.insecure_channel)

    def connected(self, count: int) -> None:
        self.channel.start()
        while ready(self.channel, connect=True) < count:
            time.sleep(0.001)

    def noticed(self, count: int) -> None:
        while ready(self.channel, connect=False) > count:
            time.sleep(0.001)

    def end_answer(self, answer: Any) -> Any:
        return answer.decode()

    def give_up(self, answer: Any) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        self.channel.close()


def ready(channel: Any, *, connect: bool) -> int:
    """How many sub-channels have a connection."""
    return sum(sub.check(connect) == READY for sub in tuple(channel.subs._subs.values()))


class _Cancellable(_SyncGrpc):
    """One with call objects; `running` is the one that the caller waits for."""

    running: Any = None

    def cancel(self) -> None:
        running = self.running
        for _ in range(1000):
            if running is not None:
                running.cancel()
                break
            time.sleep(0.001)  # the pod may have it before the caller
            running = self.running


class Unary(_SyncGrpc):
    name = "grpc-call"

    def begin_answer(self, ask: Ask) -> Any:
        call, options = self.call(ask)
        return call(ask.body, **options)


class FutureCall(_Cancellable):
    name = "grpc-future"

    def call_object(self, ask: Ask) -> Any:
        call, options = self.call(ask)
        return call.future(ask.body, **options)

    def begin_answer(self, ask: Ask) -> Any:
        self.running = self.call_object(ask)
        try:
            return self.running.result(PATIENCE)
        finally:
            self.running = None


class Stream(_Cancellable):
    name = "grpc-stream"
    family = STREAM
    kind = "unary_stream"
    methods = {True: "/shop.Pod/List", False: "/shop.Pod/Follow"}

    def call_object(self, ask: Ask) -> Any:
        call, options = self.call(ask)
        return call(ask.body, **options)

    def begin_answer(self, ask: Ask) -> Any:
        self.running = call = self.call_object(ask)
        try:
            return call, next(call)
        finally:
            self.running = None

    def end_answer(self, answer: Any) -> Any:
        call, first = answer
        assert list(call) == [first] * 2
        return first.decode()

    def give_up(self, answer: Any) -> Any:
        answer[0].cancel()


class _AioGrpc(_Grpc, AioClient):
    family = RPC

    async def start(self) -> None:
        self.channel = self.make(balanced_aio.insecure_channel)

    def connected(self, count: int) -> None:
        async def connect() -> None:
            self.channel.get_state(try_to_connect=True)
            while ready(self.channel, connect=True) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

        self.run(connect())

    def noticed(self, count: int) -> None:
        async def notice() -> None:
            while ready(self.channel, connect=False) > count:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

        self.run(notice())

    async def stop(self) -> None:
        await self.channel.close()

    def call_object(self, ask: Ask) -> Any:
        async def begin() -> Any:
            call, options = self.call(ask)
            return call(ask.body, **options)

        return self.run(begin())


class AioUnary(_AioGrpc):
    name = "grpc-aio-call"

    async def begin_answer(self, ask: Ask) -> Any:
        call, options = self.call(ask)
        return await call(ask.body, **options)

    async def end_answer(self, answer: Any) -> Any:
        return answer.decode()

    async def give_up(self, answer: Any) -> Any:
        raise NotImplementedError


class AioStream(_AioGrpc):
    name = "grpc-aio-stream"
    family = STREAM
    kind = "unary_stream"
    methods = Stream.methods

    async def begin_answer(self, ask: Ask) -> Any:
        method, options = self.call(ask)
        call = method(ask.body, **options)
        first = await call.read()
        assert first is not grpc.aio.EOF
        return call, first

    async def end_answer(self, answer: Any) -> Any:
        call, first = answer
        rest = []
        while (message := await call.read()) is not grpc.aio.EOF:
            rest.append(message)
        assert rest == [first] * 2
        return first.decode()

    async def give_up(self, answer: Any) -> Any:
        answer[0].cancel()
