"""The off switch for asyncio: see `test_off_switch.py`. Here the channel has interceptors of its own and an event loop
that it belongs to, and closing it gives a grace."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from tests.adapters_grpc.aio_kit import by_read, by_stream, eventually, on_loop, one, ways
from tests.adapters_grpc.conftest import until
from tests.adapters_grpc.off_kit import Ways, ways_to  # noqa: F401
from tests.adapters_grpc.test_aio_interceptors import each_kind, raises

import kubelb
from kubelb.adapters._grpc.aio import channel as aio_channel
from kubelb.adapters.grpc import aio
from kubelb.service import service_of

SECONDS = 20.0


@pytest.mark.parametrize("how", ["environment", "block"])
@on_loop
async def test_each_kind_of_call(ways_to: Ways, monkeypatch: Any, how: str) -> None:  # noqa: F811
    """All go to the name, over one connection; after the block calls go to pods again."""
    peers = set()
    ways_to.front.behave = lambda method, context: peers.add(context.peer())
    if how == "environment":
        monkeypatch.setenv("KUBELB_DISABLE", "1")
    with ways_to.balancer() as lb:
        async with aio.insecure_channel(lb) as channel:
            for way in ways:
                if how == "block":
                    with kubelb.disabled():
                        assert b"x" in await way(channel, timeout=SECONDS)
                else:
                    assert b"x" in await way(channel, timeout=SECONDS)
            assert ways_to.front.total == len(ways)
            assert ways_to.pod.total == 0
            assert len(peers) == 1
            assert service_of(lb).opening.now is None
            assert len(channel.subs) == 0
            if how == "block":
                for way in ways:
                    assert b"x" in await way(channel, timeout=SECONDS)
                assert ways_to.front.total == ways_to.pod.total == len(ways)


@on_loop
async def test_tasks_that_begin_inside(ways_to: Ways) -> None:  # noqa: F811
    """A call belongs where it is begun, wherever it is awaited."""
    pod, front = b"x@" + ways_to.pod.name, b"x@" + ways_to.front.name
    with ways_to.balancer() as lb:
        async with aio.insecure_channel(lb) as channel:
            before = asyncio.create_task(one(channel, timeout=SECONDS))
            with kubelb.disabled():
                inside = asyncio.create_task(one(channel, timeout=SECONDS))
                call = channel.unary_unary("/test.Echo/UU")(b"x", timeout=SECONDS)
            assert [await before, await inside, await call] == [pod, front, front]
            assert await one(channel, timeout=SECONDS) == pod


@on_loop
async def test_nothing_is_tried_again_or_blamed(ways_to: Ways) -> None:  # noqa: F811
    """The status comes as it is, of one try, although the method may be repeated.

    Not of streams of requests: there grpcio itself may say something else of its late writes.
    """
    ways_to.front.behave = lambda method, context: context.abort(grpc.StatusCode.UNAVAILABLE, "mine")
    with ways_to.balancer(outliers=kubelb.OutlierDetection(consecutive_failures=1)) as lb:
        async with aio.insecure_channel(lb, idempotent=True) as channel:
            for number, way in enumerate([one, by_stream, by_read], 1):
                with kubelb.disabled(), pytest.raises(grpc.aio.AioRpcError) as raised:
                    await way(channel, timeout=SECONDS)
                assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.UNAVAILABLE, "mine")
                assert ways_to.front.total == number
        assert [view.state for view in lb.endpoints()] == ["ready"]


# A finalizer of grpcio 1.80 raises what an interceptor has raised once more.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("lists", ["its own", "none of its own"])
@on_loop
async def test_interceptors(ways_to: Ways, monkeypatch: Any, lists: str) -> None:  # noqa: F811
    """Those of the channel, and those that are appended to its lists later; what one raises comes as with grpcio.

    A grpcio without these lists, which are private, is given what is in ours when the channel is made.
    """
    if lists == "none of its own":
        monkeypatch.setattr(aio_channel, "put_into", lambda *_, **__: False)
    seen: list[str] = []

    async def sees(continuation: Any, details: Any, request: Any) -> Any:
        seen.append(details.method.decode() if isinstance(details.method, bytes) else details.method)
        return await continuation(details, request)

    with ways_to.balancer() as lb, kubelb.disabled():
        async with aio.insecure_channel(lb, interceptors=each_kind(sees)) as channel:
            for way in ways:
                assert b"x" in await way(channel, timeout=SECONDS)
            assert len(seen) == len(ways)
            if lists == "none of its own":
                return
            channel._unary_unary_interceptors.append(each_kind(raises)[0])
            with pytest.raises(KeyError, match="mine"):
                await one(channel)


@pytest.mark.parametrize("grace", [None, SECONDS])
@on_loop
async def test_closing(ways_to: Ways, grace: float | None) -> None:  # noqa: F811
    """What runs is cancelled, or may end within the grace; afterwards nothing begins."""
    arrived: list[str] = []

    def slowly(method: str, context: Any) -> None:
        arrived.append(method)
        until(lambda: not context.is_active(), 0.5 if grace else SECONDS)

    ways_to.front.behave = slowly
    with ways_to.balancer() as lb, kubelb.disabled():
        channel = aio.insecure_channel(lb)
        call = channel.unary_unary("/test.Echo/UU")(b"x", timeout=SECONDS)
        assert await eventually(lambda: arrived)
        await channel.close(grace)
        assert call.done()
        assert await call.code() is (grpc.StatusCode.OK if grace else grpc.StatusCode.CANCELLED)
        with pytest.raises(grpc.aio.UsageError, match="Channel is closed"):
            await one(channel)
        assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


@on_loop
async def test_closing_that_is_cut_short(ways_to: Ways) -> None:  # noqa: F811
    """The calls are cancelled all the same."""
    arrived: list[str] = []

    def hang(method: str, context: Any) -> None:
        arrived.append(method)
        until(lambda: not context.is_active())

    ways_to.front.behave = hang
    with ways_to.balancer() as lb, kubelb.disabled():
        channel = aio.insecure_channel(lb)
        call = channel.unary_unary("/test.Echo/UU")(b"x", timeout=SECONDS)
        assert await eventually(lambda: arrived)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(channel.close(SECONDS), 0.05)
        assert await call.code() is grpc.StatusCode.CANCELLED


def test_a_later_loop(ways_to: Ways, monkeypatch: Any) -> None:  # noqa: F811
    """The connection is made anew; beside one that is open the channel is refused, as ever."""
    monkeypatch.setenv("KUBELB_DISABLE", "1")
    with ways_to.balancer() as lb:
        channel = aio.insecure_channel(lb)
        for _ in range(2):
            assert asyncio.run(one(channel, timeout=SECONDS)) == b"x@" + ways_to.front.name
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(one(channel, timeout=SECONDS)) == b"x@" + ways_to.front.name
        with pytest.raises(RuntimeError, match="bound to another event loop"):
            asyncio.run(one(channel))
        loop.close()
        asyncio.run(channel.close())
        with pytest.raises(grpc.aio.UsageError, match="Channel is closed"):
            asyncio.run(one(channel))


@on_loop
async def test_the_state_is_that_of_the_plain_channel(ways_to: Ways, monkeypatch: Any) -> None:  # noqa: F811
    """What waits for a channel to be ready waits for the one that is used."""
    monkeypatch.setenv("KUBELB_DISABLE", "1")
    with ways_to.balancer(seed=None) as lb:
        channel = aio.insecure_channel(lb)
        assert channel._channel.check_connectivity_state(False) == 0
        channel._channel.check_connectivity_state(True)
        await channel.close()
        async with aio.insecure_channel(lb) as channel:
            assert channel.get_state() is grpc.ChannelConnectivity.IDLE
            changed = asyncio.create_task(channel.wait_for_state_change(grpc.ChannelConnectivity.IDLE))
            await asyncio.wait_for(channel.channel_ready(), SECONDS)
            await asyncio.wait_for(changed, SECONDS)
            assert channel.get_state() is grpc.ChannelConnectivity.READY
            assert channel._channel.check_connectivity_state(False) == 2
            assert service_of(lb).opening.now is None


def test_its_state_without_a_loop(ways_to: Ways, monkeypatch: Any) -> None:  # noqa: F811
    """It is idle, for nothing was begun; to begin anything takes the loop, as ever."""
    monkeypatch.setenv("KUBELB_DISABLE", "1")
    with ways_to.balancer() as lb:
        channel = aio.insecure_channel(lb)
        assert channel.get_state() is grpc.ChannelConnectivity.IDLE
        with pytest.raises(RuntimeError, match="no running event loop"):
            channel.get_state(try_to_connect=True)
        asyncio.run(channel.close())


@on_loop
async def test_without_a_port_it_is_refused() -> None:
    """The call object ends with it, as with any refusal; and so does what waits for the channel."""
    with kubelb.LoadBalancer("reviews.prod:grpc") as lb, kubelb.disabled():
        async with aio.insecure_channel(lb) as channel:
            for way in (*ways, lambda channel: channel.channel_ready()):
                with pytest.raises(kubelb.NoEndpoints, match="fallback_port=") as raised:
                    await asyncio.wait_for(way(channel), SECONDS)
                assert isinstance(raised.value, grpc.aio.AioRpcError)
                assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
            call = channel.unary_unary("/test.Echo/UU")(b"x")
            assert await call.code() is grpc.StatusCode.UNAVAILABLE
