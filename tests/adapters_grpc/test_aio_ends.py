"""How asyncio calls end that nobody sees to their end: refused, cancelled, dropped, with requests left over."""

import asyncio
import gc
import random
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from tests.adapters_grpc.aio_kit import by_read, eventually, on_loop
from tests.adapters_grpc.conftest import in_flight
from tests.adapters_grpc.servers import free_port
from tests.adapters_grpc.test_aio_failures import UNAVAILABLE, aborts, every_kind, result_of

import kubelb
from kubelb.adapters.grpc import aio
from kubelb.service import service_of

CANCELLED = grpc.StatusCode.CANCELLED


@on_loop
async def test_what_a_refused_call_answers(balance: Any) -> None:
    """UNAVAILABLE, with the reason; it is done at once, and calls back at once."""
    async with aio.insecure_channel(balance(f"127.0.0.1:{free_port()}")) as channel:
        with pytest.raises(kubelb.Unusable):
            await channel.unary_unary("/test.Echo/UU")(b"x", timeout=10)
        for call in (channel.unary_unary("/test.Echo/UU")(b"x"), channel.stream_stream("/test.Echo/SS")()):
            told: list[Any] = []
            assert (call.done(), call.cancelled(), call.cancel()) == (True, False, False)
            call.add_done_callback(told.append)
            assert told == [call]
            assert await call.code() is UNAVAILABLE
            assert "cannot be reached" in await call.details()
            assert len(await call.trailing_metadata()) == len(await call.initial_metadata()) == 0
            assert await call.debug_error_string() == ""
            with pytest.raises(kubelb.Unusable):
                await call.wait_for_connection()
        with pytest.raises(kubelb.Unusable):
            await call.write(b"x")


@on_loop
async def test_what_a_call_that_failed_answers(server: Any, balance: Any) -> None:
    """The last attempt's status and metadata, by the call as by its error; whoever asks, and however often."""
    servers = [server() for _ in range(2)]
    for each in servers:
        each.behave = aborts(UNAVAILABLE, 9, (("why", "as told"),))
    lb = balance(*servers, retry=kubelb.Retry(attempts=2))
    async with aio.insecure_channel(lb, idempotent=True) as channel:
        for call in every_kind(channel):
            told: list[Any] = []
            call.add_done_callback(told.append)
            assert await call.code() is UNAVAILABLE
            assert await call.details() == "as told"
            assert (await call.trailing_metadata())["why"] == "as told"
            assert len(await call.initial_metadata()) == 0
            assert "as told" in await call.debug_error_string()
            assert (call.done(), call.cancelled(), call.cancel(), told) == (True, False, False, [call])
            for _ in range(2):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await result_of(call)
                assert caught.value.trailing_metadata()["why"] == "as told"
            with pytest.raises(grpc.aio.AioRpcError):
                await call.wait_for_connection()


@on_loop
async def test_cancel_between_tries(server: Any, balance: Any) -> None:
    """The wait before a second try ends with the call."""
    alone = server()
    alone.behave = aborts(UNAVAILABLE, 99)
    lb = balance(alone, retry=kubelb.Retry(wait=kubelb.FullJitter(30, 30)))
    async with aio.insecure_channel(lb, idempotent=True) as channel:
        await channel.channel_ready()
        for call in every_kind(channel):
            assert await eventually(lambda call=call: call._task is not None)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(result_of(call), 0.05)
            assert await call.code() is CANCELLED
            assert call.cancelled()


@on_loop
async def test_an_iterator_that_raises(server: Any, balance: Any) -> None:
    """grpcio cancels such a call; what was raised is the cause of the CancelledError."""

    async def failing() -> AsyncIterator[bytes]:
        yield b"1"
        raise KeyError("mine")

    def failing_too() -> Iterator[bytes]:
        yield b"1"
        raise KeyError("mine")

    alone = server()
    lb = balance(alone)
    async with aio.insecure_channel(lb, idempotent=True) as channel:
        for source in (failing, failing_too):
            with pytest.raises(asyncio.CancelledError) as caught:
                await channel.stream_unary("/test.Echo/SU")(source())
            assert isinstance(caught.value.__cause__, KeyError)
            call = channel.stream_stream("/test.Echo/SS")(source())
            with pytest.raises(asyncio.CancelledError) as caught:
                while True:
                    await call.read()
            assert isinstance(caught.value.__cause__, KeyError)
            assert await call.code() is CANCELLED
        assert await eventually(lambda: in_flight(lb) == 0)
        assert service_of(lb).balancer.states()[0].failures == 0


@on_loop
async def test_an_iterator_nobody_listens_to(server: Any, balance: Any) -> None:
    """A call that ends before its requests do ends them, too: the iterator is cancelled where it waits."""
    ended: list[str] = []

    async def endless() -> AsyncIterator[bytes]:
        try:
            yield b"1"
            await asyncio.sleep(3600)
        finally:
            ended.append("ended")

    servers = [server() for _ in range(2)]
    for each in servers:
        each.behave = aborts(UNAVAILABLE, 99)
    lb = balance(*servers, policy="round_robin", retry=kubelb.Retry(attempts=2, wait=kubelb.FullJitter(0, 0)))
    async with aio.insecure_channel(lb, idempotent=True) as channel:
        for kind, method in (("stream_unary", "/test.Echo/SU"), ("stream_stream", "/test.Echo/SS")):
            with pytest.raises(grpc.aio.AioRpcError):
                await result_of(getattr(channel, kind)(method)(endless()))
        assert await eventually(lambda: gc.collect() >= 0 and len(ended) == 2)
    assert [each.total for each in servers] == [2, 2]


@on_loop
async def test_streams_that_are_dropped(server: Any, balance: Any) -> None:
    """200 half read and left: cancelled at the server at once, in flight nowhere; told of with the RPC's own call."""
    alone, go_on = server(), threading.Event()
    alone.between = lambda number: number < 2 or go_on.wait(20)
    lb = balance(alone)
    told: list[Any] = []
    async with aio.insecure_channel(lb) as channel:
        stream, chat = channel.unary_stream("/test.Echo/US"), channel.stream_stream("/test.Echo/SS")
        for number in range(50):  # the server has threads for 64
            if number % 2:
                async for message in stream(b"x"):
                    assert message == b"x0"
                    break
            else:
                call = chat()
                call.add_done_callback(told.append)
                await call.write(b"x")
                assert await call.read()
                del call
        assert await eventually(lambda: in_flight(lb) == 0)
        assert await eventually(lambda: len(told) == 25)
        assert {await call.code() for call in told} == {CANCELLED}
        told.clear()
        go_on.set()
        assert await eventually(lambda: alone.active == 0)
        for _ in range(200):
            await stream(b"x").read()
        assert await eventually(lambda: in_flight(lb) == 0)
    assert sum(state.failures for state in service_of(lb).balancer.states()) == 0


def test_another_loop(server: Any, balance: Any) -> None:
    """Is refused while the first one lives, in words that say what to do; and taken when it is closed."""
    lb = balance(server())
    channel = aio.insecure_channel(lb)
    echo = channel.unary_unary("/test.Echo/UU")

    async def call() -> bytes:
        return await echo(b"x", timeout=20)

    first = asyncio.new_event_loop()
    assert first.run_until_complete(call()).startswith(b"x@")
    second = asyncio.new_event_loop()
    with pytest.raises(RuntimeError, match=r"another event loop.*may share the LoadBalancer"):
        second.run_until_complete(call())
    with pytest.raises(RuntimeError, match="no running event loop"):
        echo(b"x")
    first.close()
    assert second.run_until_complete(call()).startswith(b"x@")
    second.run_until_complete(channel.close())
    second.close()
    gc.collect()


@on_loop
async def test_a_closed_channel(server: Any, balance: Any) -> None:
    """gRPC's own error for new calls; those that run have their grace and are cancelled then. Closing twice is fine."""
    release = threading.Event()
    alone = server()
    lb = balance(alone)
    async with aio.insecure_channel(lb) as channel:
        echo = channel.unary_unary("/test.Echo/UU")
        assert await echo(b"x")
        alone.behave = lambda method, context: release.wait(20)
        slow = echo(b"x")
        reader = asyncio.ensure_future(by_read(channel))
        assert await eventually(lambda: alone.active == 2)
        asyncio.get_running_loop().call_later(0.2, release.set)
        await channel.close(grace=20)
        assert (await slow).startswith(b"x@")
        assert await reader == b"x0x1x2"
        for kind in ("unary_unary", "stream_stream"):
            with pytest.raises(grpc.aio.UsageError, match="closed"):
                getattr(channel, kind)("/test.Echo/UU")(b"x")
        assert channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.SHUTDOWN
        with pytest.raises(grpc.aio.UsageError):
            await channel.channel_ready()
        await channel.close()
        with pytest.raises(ValueError, match="grace"):
            await channel.close(-1)
    release.clear()
    channel = aio.insecure_channel(lb)
    call = channel.unary_unary("/test.Echo/UU")(b"x")
    assert await eventually(lambda: alone.active == 1)
    await channel.close()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert in_flight(lb) == 0
    release.set()


@on_loop
async def test_a_close_whose_grace_is_cut_short(server: Any, balance: Any) -> None:
    """By a timeout of the caller's, say: the calls that run are cancelled, and the connections closed, all the same."""
    release = threading.Event()
    alone = server()
    lb = balance(alone)
    for kind, method in (("unary_unary", "/test.Echo/UU"), ("unary_stream", "/test.Echo/US")):
        alone.behave = lambda method, context: None
        channel = aio.insecure_channel(lb)
        await channel.unary_unary("/test.Echo/UU")(b"x")  # connected: the next one is no flow's
        assert await eventually(lambda: alone.active == 0)
        alone.behave = lambda method, context: release.wait(20)
        call = getattr(channel, kind)(method)(b"x")
        assert await eventually(lambda: alone.active == 1)
        closing = asyncio.ensure_future(channel.close(grace=20))
        await asyncio.sleep(0.01)
        assert not closing.done()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert await call.code() is grpc.StatusCode.CANCELLED
        assert await eventually(lambda: (in_flight(lb), alone.active) == (0, 0))
        await channel.close()
    release.set()


@on_loop
async def test_the_state_of_the_whole(server: Any, balance: Any) -> None:
    """IDLE until wanted, READY while any endpoint is, TRANSIENT_FAILURE when all are gone."""
    states = grpc.ChannelConnectivity
    servers = [server(), server()]
    async with aio.insecure_channel(balance(*servers)) as channel:
        assert channel.get_state() is states.IDLE
        channel.get_state(try_to_connect=True)
        await asyncio.wait_for(channel.channel_ready(), 10)
        assert channel.get_state() is states.READY
        servers[0].stop(0)
        change = asyncio.ensure_future(channel.wait_for_state_change(states.READY))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(change), 0.15)
        servers[1].stop(0)
        await asyncio.wait_for(change, 10)
        assert await eventually(lambda: channel.get_state(try_to_connect=True) is states.TRANSIENT_FAILURE)
        servers[1].start()
        await asyncio.wait_for(channel.channel_ready(), 20)


@pytest.mark.slow
@on_loop
async def test_whatever_ends_how_nothing_is_left(server: Any, balance: Any) -> None:
    """2000 calls at once, by fifties: cancelled, out of time, dropped, failed; one server dies and returns."""
    servers = [server() for _ in range(4)]
    chance = random.Random(11)

    def behave(method: str, context: Any) -> None:
        if chance.random() < 0.15:
            context.abort(chance.choice(list(grpc.StatusCode)[1:]), "as it happens")

    for each in servers:
        each.behave = behave
    lb = balance(*servers, outliers=kubelb.OutlierDetection(base_ejection=0.1))
    rng = random.Random(5)
    ends: list[str] = []

    async def call(channel: Any) -> None:
        made = list(every_kind(channel, timeout=rng.choice([None, 5, 0.01])))
        mine = rng.choice(made)
        for other in made:
            if other is not mine:
                other.cancel()
        if rng.random() < 0.5:
            mine.add_done_callback(lambda _: None)
        if hasattr(mine, "write") and mine._written is not None:
            await mine.write(b"x")
            await mine.done_writing()
        if rng.random() < 0.2:
            return
        task = asyncio.ensure_future(result_of(mine))
        if rng.random() < 0.2:
            await asyncio.sleep(0)
            task.cancel()
        await task

    async def crew(channel: Any) -> None:
        for _ in range(7):
            try:
                await call(channel)
                ends.append("ok")
            except (grpc.aio.AioRpcError, asyncio.CancelledError, asyncio.InvalidStateError) as error:
                ends.append(type(error).__name__)

    async with aio.insecure_channel(lb, idempotent=True) as channel:
        await channel.channel_ready()
        loop = asyncio.get_running_loop()
        loop.call_later(0.2, lambda: servers[0].stop(0))
        loop.call_later(0.6, lambda: servers[0].start())
        await asyncio.gather(*(crew(channel) for _ in range(50)))
        gc.collect()
        assert len(ends) == 350
        assert ends.count("ok") > 100
        assert await eventually(lambda: in_flight(lb) == 0), service_of(lb).balancer.states()
        assert await eventually(lambda: sum(each.active for each in servers) == 0)
        for each in servers:
            each.behave = lambda method, context: None
        answer = await channel.unary_unary("/test.Echo/UU")(b"after", timeout=30, wait_for_ready=True)
        assert answer.startswith(b"after@")
