"""Calls whose server is done with them before their requests are: the server's status counts, never a late write's."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from concurrent import futures
from typing import Any

import grpc
import grpc.aio
import pytest
from tests.adapters_grpc.aio_kit import eventually, on_loop
from tests.adapters_grpc.conftest import in_flight

from kubelb.adapters.grpc import aio
from kubelb.service import service_of

KINDS = ["stream_unary", "stream_stream"]


class Hasty(grpc.GenericRpcHandler):
    """Answers before it has read anything: with the status that the method is named after."""

    def service(self, details: Any) -> Any:
        _, kind, name = details.method.split("/")
        code = grpc.StatusCode[name]

        def one(requests: Iterator[bytes], context: Any) -> bytes:
            if code is not grpc.StatusCode.OK:
                context.abort(code, "as told")
            return b"one"

        def many(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
            yield b"one"
            yield b"two"
            if code is not grpc.StatusCode.OK:
                context.abort(code, "as told")

        if kind == "stream_unary":
            return grpc.stream_unary_rpc_method_handler(one)
        return grpc.stream_stream_rpc_method_handler(many)


@pytest.fixture
def hasty() -> Iterator[str]:
    """The address of such a server."""
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=(Hasty(),), options=[("grpc.so_reuseport", 0)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait(5)


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x"
        await asyncio.sleep(0)


def all_of(call: Any) -> Any:
    return gathered(call) if hasattr(call, "read") else call


async def gathered(call: Any) -> bytes:
    messages = []
    while (message := await call.read()) is not grpc.aio.EOF:
        messages.append(message)
    return b" ".join(messages)


@pytest.mark.parametrize("kind", KINDS)
@on_loop
async def test_the_servers_status_counts(hasty: str, balance: Any, kind: str) -> None:
    """Whichever of the two is told first, whoever asks, and however late."""
    lb = balance(hasty)
    async with aio.insecure_channel(lb, idempotent=True) as channel:
        for _ in range(15):
            call = getattr(channel, kind)(f"/{kind}/OK")(endless())
            assert await asyncio.wait_for(all_of(call), 10) == (b"one" if kind == "stream_unary" else b"one two")
            for _ in range(3):
                assert (await call.code(), call.cancelled(), call.done()) == (grpc.StatusCode.OK, False, True)
                await asyncio.sleep(0.002)
            call = getattr(channel, kind)(f"/{kind}/NOT_FOUND")(endless())
            for _ in range(3):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await asyncio.wait_for(all_of(call), 10)
                assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.NOT_FOUND, "as told")
                assert await call.details() == "as told"
                await asyncio.sleep(0.002)
        assert in_flight(lb) == 0
    assert service_of(lb).balancer.states()[0].failures == 0


async def hidden(channel: Any) -> Any:
    """A call that grpcio takes for ended although its messages, and so its status, are still to be read."""
    call = channel.stream_stream("/stream_stream/OK")(endless())
    assert await eventually(lambda: call._inner is not None and call._inner.done())
    assert not call.done()
    return call


@on_loop
async def test_hidden_by_a_late_write(hasty: str, balance: Any) -> None:
    """Messages are there all the same, and then the status."""
    lb = balance(hasty)
    async with aio.insecure_channel(lb) as channel:
        await channel.channel_ready()
        call = await hidden(channel)
        assert in_flight(lb) == 1
        assert await gathered(call) == b"one two"
        assert await call.code() is grpc.StatusCode.OK
        assert in_flight(lb) == 0


@pytest.mark.parametrize("begun", [False, True])
@on_loop
async def test_cancelled_while_hidden(hasty: str, balance: Any, begun: bool) -> None:
    """CANCELLED at once, as any other; nothing is in flight, and nobody waits for what nobody reads."""
    lb = balance(hasty)
    async with aio.insecure_channel(lb) as channel:
        await channel.channel_ready()
        call, told = await hidden(channel), []
        call.add_done_callback(told.append)
        if begun:
            assert await call.read() == b"one"
        assert call.cancel()
        assert in_flight(lb) == 0
        assert told == [call]
        assert (call.done(), call.cancelled(), call.cancel()) == (True, True, False)
        assert await call.code() is grpc.StatusCode.CANCELLED
        with pytest.raises(asyncio.CancelledError):
            await call.read()


@on_loop
async def test_dropped_while_hidden(hasty: str, balance: Any) -> None:
    """As if cancelled."""
    lb = balance(hasty)
    async with aio.insecure_channel(lb) as channel:
        await channel.channel_ready()
        told: list[Any] = []
        call = await hidden(channel)
        call.add_done_callback(told.append)
        del call
        assert await eventually(lambda: gc.collect() >= 0 and in_flight(lb) == 0)
        assert len(told) == 1


@pytest.mark.parametrize("leave", ["cancel", "wait"])
@on_loop
async def test_one_response_left_after_a_late_write(server: Any, balance: Any, leave: str) -> None:
    """Between a late write's status and the server's there is a moment in which a call can be left: CANCELLED."""
    alone = server()
    alone.behave = lambda method, context: context.abort(grpc.StatusCode.UNAVAILABLE, "as told")
    lb = balance(alone)
    async with aio.insecure_channel(lb, idempotent=True) as channel:
        await channel.channel_ready()
        left = 0
        for _ in range(40):
            call = channel.stream_unary("/test.Echo/SU")(endless())
            waiter = asyncio.ensure_future(awaited(call))
            while not call._inner.done():  # noqa: ASYNC110 - that moment is short
                await asyncio.sleep(0)
            if call.done():  # the server's was first
                with pytest.raises(grpc.aio.AioRpcError):
                    await waiter
                continue
            call.cancel() if leave == "cancel" else waiter.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(waiter, 10)
            code = await asyncio.wait_for(call.code(), 10)
            if leave == "wait" and code is grpc.StatusCode.UNAVAILABLE:
                continue  # a task hears of its cancellation a turn of the loop later, and the server's came before
            left += 1
            assert code is grpc.StatusCode.CANCELLED
            assert call.cancelled()
            assert await eventually(lambda: in_flight(lb) == 0)
        assert left


async def awaited(call: Any) -> Any:
    return await call
