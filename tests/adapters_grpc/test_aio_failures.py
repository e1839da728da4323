"""Asyncio calls that do not go well: what is tried again, what is not, and what the caller gets."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from tests.adapters_grpc.aio_kit import by_turns, by_writing, each_way, eventually, on_loop, one, slowly
from tests.adapters_grpc.conftest import in_flight
from tests.adapters_grpc.servers import free_port

import kubelb
from kubelb.adapters.grpc import aio
from kubelb.service import service_of

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
CANCELLED = grpc.StatusCode.CANCELLED
LATE = grpc.StatusCode.DEADLINE_EXCEEDED


def aborts(code: grpc.StatusCode, times: int = 1, metadata: Any = ()) -> Any:
    """A behaviour: the first so many calls end with this status."""
    left, lock = [times], threading.Lock()

    def behave(method: str, context: Any) -> None:
        with lock:
            left[0] -= 1
            fails = left[0] >= 0
        if fails:
            context.set_trailing_metadata(metadata)
            context.abort(code, "as told")

    return behave


@pytest.mark.parametrize("way", each_way)
@on_loop
async def test_dead_endpoints_are_passed_over(server: Any, balance: Any, way: Any) -> None:
    """Two of three are refused connections: no call goes there, and none fails."""
    alive = server()
    lb = balance(alive, f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}")
    async with aio.insecure_channel(lb) as channel:
        for _ in range(30):
            assert await way(channel)
    assert alive.total == 30
    assert sum(state.failures for state in service_of(lb).balancer.states()) == 0


@pytest.mark.parametrize("way", each_way)
@on_loop
async def test_unavailable_is_tried_elsewhere_where_it_may_be(server: Any, balance: Any, way: Any) -> None:
    """A server's own UNAVAILABLE: repeated for an idempotent method, and given to the caller for any other."""
    servers = [server() for _ in range(3)]
    lb = balance(*servers, policy="round_robin", retry=kubelb.Retry(budget=None))
    for each in servers:
        each.behave = aborts(UNAVAILABLE)
    async with aio.insecure_channel(lb, idempotent=["/test.Echo/*"]) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await way(channel)
        assert (caught.value.code(), caught.value.details()) == (UNAVAILABLE, "as told")
        assert len(caught.value.__notes__) == 2
        assert [each.total for each in servers] == [1, 1, 1]
        servers[0].behave = servers[1].behave = aborts(UNAVAILABLE, 2)
        for _ in range(3):
            assert await way(channel)
    async with aio.insecure_channel(lb) as channel:
        for each in servers:
            each.behave, each.delivered = aborts(UNAVAILABLE), type(each.delivered)()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await way(channel)
        assert caught.value.code() is UNAVAILABLE
        assert sum(each.total for each in servers) == 1


@on_loop
async def test_what_a_call_that_failed_answers(server: Any, balance: Any) -> None:
    """The last attempt's status and metadata, by the call as by its error; whoever asks, and however often."""
    servers = [server() for _ in range(2)]
    for each in servers:
        each.behave = aborts(UNAVAILABLE, 9, (("why", "as told"),))
    lb = balance(*servers, retry=kubelb.Retry(attempts=2))
    async with aio.insecure_channel(lb, idempotent=True) as channel:
        for call in (
            channel.unary_unary("/test.Echo/UU")(b"x"),
            channel.stream_unary("/test.Echo/SU")([b"x"]),
            channel.unary_stream("/test.Echo/US")(b"x"),
        ):
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
                    await (call.read() if hasattr(call, "read") else call)
                assert caught.value.trailing_metadata()["why"] == "as told"
            with pytest.raises(grpc.aio.AioRpcError):
                await call.wait_for_connection()
    assert [each.total for each in servers] == [3, 3]


@pytest.mark.parametrize("way", each_way)
@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.NOT_FOUND])
@on_loop
async def test_other_statuses_are_answers(server: Any, balance: Any, way: Any, code: grpc.StatusCode) -> None:
    """Never repeated, also where they might be; the caller gets the client's own error."""
    servers = [server() for _ in range(3)]
    for each in servers:
        each.behave = aborts(code)
    lb = balance(*servers)
    async with aio.insecure_channel(lb, idempotent=True) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await way(channel)
    assert caught.value.code() is code
    assert sum(each.total for each in servers) == 1
    assert sum(state.failures for state in service_of(lb).balancer.states()) == (code is grpc.StatusCode.INTERNAL)


@pytest.mark.parametrize("way", each_way)
@on_loop
async def test_cancelled_by_the_server(server: Any, balance: Any, way: Any) -> None:
    """As one does that stops: tried elsewhere where it may be, nobody blamed; else the caller's, as an error."""
    leaves, stays = server(), server()
    lb = balance(leaves, stays, policy="round_robin", retry=kubelb.Retry(budget=None))
    async with aio.insecure_channel(lb, idempotent=True) as channel:
        leaves.behave = stays.behave = aborts(grpc.StatusCode.CANCELLED)
        assert await way(channel)
        assert leaves.total + stays.total == 2
        leaves.behave = stays.behave = aborts(grpc.StatusCode.CANCELLED)
        with kubelb.hints(idempotent=False), pytest.raises(grpc.aio.AioRpcError) as caught:
            await way(channel)
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.CANCELLED, "as told")
    assert leaves.total + stays.total == 3
    assert sum(state.failures for state in service_of(lb).balancer.states()) == 0


@pytest.mark.parametrize("way", each_way)
@on_loop
async def test_hints_make_a_call_repeatable(server: Any, balance: Any, way: Any) -> None:
    """`kubelb.hints(idempotent=True)` around it; False takes back what the channel says."""
    servers = [server() for _ in range(2)]
    lb = balance(*servers, policy="round_robin")
    for each in servers:
        each.behave = aborts(UNAVAILABLE)
    async with aio.insecure_channel(lb) as channel:
        with kubelb.hints(idempotent=True):
            assert await way(channel)
    assert sum(each.total for each in servers) == 3
    for each in servers:
        each.behave = aborts(UNAVAILABLE)
    async with aio.insecure_channel(lb, idempotent=True) as channel:
        with kubelb.hints(idempotent=False), pytest.raises(grpc.aio.AioRpcError):
            await way(channel)
    assert sum(each.total for each in servers) == 4


@pytest.mark.parametrize("way", each_way)
@pytest.mark.parametrize("pushback", ["30", "-1"])
@on_loop
async def test_pushback_is_honoured(server: Any, balance: Any, way: Any, pushback: str) -> None:
    """A server that asks to be left alone is; one that says when is asked again not sooner."""
    alone = server()
    alone.behave = aborts(UNAVAILABLE, 1, (("grpc-retry-pushback-ms", pushback),))
    lb = balance(alone, retry=kubelb.Retry(wait=kubelb.FullJitter(0, 0)))
    began = time.monotonic()
    async with aio.insecure_channel(lb, idempotent=True) as channel:
        if pushback == "-1":
            with pytest.raises(grpc.aio.AioRpcError):
                await way(channel)
            assert alone.total == 1
        else:
            assert await way(channel)
            assert alone.total == 2
            assert time.monotonic() - began >= 0.03


@pytest.mark.parametrize("way", each_way)
@on_loop
async def test_the_timeout_bounds_all_tries(server: Any, balance: Any, way: Any) -> None:
    """Each is slow and then fails; the call ends in its time, whatever may be left to try."""
    servers = [server() for _ in range(3)]

    def slow(method: str, context: Any) -> None:
        time.sleep(0.2)
        context.abort(UNAVAILABLE, "late")

    for each in servers:
        each.behave = slow
    lb = balance(*servers, retry=kubelb.Retry(attempts=10, wait=kubelb.FullJitter(0, 0), budget=None))
    began = time.monotonic()
    async with aio.insecure_channel(lb, idempotent=True) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await way(channel, timeout=0.5)
        assert caught.value.code() in {LATE, UNAVAILABLE}
    assert 0.3 < time.monotonic() - began < 5
    assert 2 <= sum(each.total for each in servers) <= 3


@pytest.mark.parametrize("way", each_way)
@on_loop
async def test_an_endpoint_that_hangs(server: Any, balance: Any, way: Any) -> None:
    """DEADLINE_EXCEEDED, which is silence and counts; not repeated, nothing in flight."""
    release = threading.Event()
    alone = server()
    alone.behave = lambda method, context: release.wait(20)
    lb = balance(alone)
    async with aio.insecure_channel(lb, idempotent=True) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await way(channel, timeout=0.8)
        assert caught.value.code() is LATE
        assert await eventually(lambda: in_flight(lb) == 0)
        state = service_of(lb).balancer.states()[0]
        assert (state.failures, state.silent, state.others) == (1, 1, 0)  # a machine that is 0.25 s late makes it other
        release.set()


@pytest.mark.parametrize("way", each_way)
@pytest.mark.parametrize("within", [None, 30.0])
@on_loop
async def test_a_deadline_of_the_servers_own(server: Any, balance: Any, way: Any, within: float | None) -> None:
    """DEADLINE_EXCEEDED long before the call's deadline, or without one, is the server's word: no silence, no blame."""
    alone = server()
    alone.behave = aborts(LATE)
    lb = balance(alone)
    async with aio.insecure_channel(lb) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await way(channel, timeout=within)
        assert caught.value.code() is LATE
        assert await eventually(lambda: in_flight(lb) == 0)
        state = service_of(lb).balancer.states()[0]
        assert (state.failures, state.others) == (0, 1)


@on_loop
async def test_a_stream_that_nobody_reads(server: Any, balance: Any) -> None:
    """Its deadline ends without a message because nobody asked for one: no silence of the endpoint."""
    alone = server()
    lb = balance(alone)
    async with aio.insecure_channel(lb) as channel:
        stream = channel.unary_stream("/test.Echo/US")(b"x", timeout=0.2)
        assert await eventually(lambda: in_flight(lb) == 0)
        assert await stream.code() in {LATE, grpc.StatusCode.OK}
        assert service_of(lb).balancer.states()[0].failures == 0


@on_loop
async def test_a_stream_that_ends_after_its_first_message(server: Any, balance: Any) -> None:
    """A deadline that cuts a stream in two is no silence: an answer had begun."""
    release = threading.Event()
    alone = server()
    alone.between = lambda number: number and release.wait(20)
    lb = balance(alone)
    async with aio.insecure_channel(lb) as channel:
        stream = channel.unary_stream("/test.Echo/US")(b"x", timeout=1.0)
        assert await stream.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        assert caught.value.code() is LATE
        assert await eventually(lambda: in_flight(lb) == 0)
        assert service_of(lb).balancer.states()[0].failures == 0
        release.set()


@on_loop
async def test_a_caller_that_gives_up(server: Any, balance: Any) -> None:
    """`asyncio.timeout` around a call: nobody is blamed, and the endpoint is as slow as the caller was patient."""
    release = threading.Event()
    alone = server()
    lb = balance(alone)
    async with aio.insecure_channel(lb) as channel:
        await one(channel)
        alone.behave = lambda method, context: release.wait(20)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.4):
                await one(channel)
        assert await eventually(lambda: in_flight(lb) == 0)
        (view,) = lb.endpoints()
        assert view.failures == 0
        assert view.latency is not None
        assert view.latency > 0.3
        release.set()


@pytest.mark.parametrize("way", each_way)
@on_loop
async def test_nothing_can_be_reached(balance: Any, way: Any) -> None:
    """kubelb's refusal at once, which gRPC's users catch; it counts what was found."""
    lb = balance(f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}")
    async with aio.insecure_channel(lb) as channel:
        began = time.monotonic()
        with pytest.raises(kubelb.Unusable, match="cannot be reached: 2") as caught:
            await way(channel, timeout=20)
        assert time.monotonic() - began < 5
        assert isinstance(caught.value, grpc.aio.AioRpcError)
        assert caught.value.code() is UNAVAILABLE
        assert "cannot be reached" in caught.value.details()


@pytest.mark.parametrize("way", each_way)
@on_loop
async def test_waiting_for_ready(server: Any, balance: Any, way: Any) -> None:
    """`wait_for_ready=True` waits through refused connections until one is made, or the timeout."""
    port = free_port()
    lb = balance(f"127.0.0.1:{port}")
    async with aio.insecure_channel(lb) as channel:
        with pytest.raises(kubelb.DeadlineExceeded, match=r"connect|reached") as caught:
            await way(channel, timeout=0.2, wait_for_ready=True)
        assert caught.value.code() is LATE
        asyncio.get_running_loop().call_later(0.2, lambda: server(port=port))
        assert await way(channel, timeout=30, wait_for_ready=True)


@pytest.mark.parametrize("way", each_way)
@on_loop
async def test_a_deadline_that_is_over(server: Any, balance: Any, way: Any) -> None:
    """A block of hints whose time has passed: refused before anything is sent."""
    alone = server()
    async with aio.insecure_channel(balance(alone)) as channel:
        with kubelb.hints(deadline=1e-9), pytest.raises(kubelb.DeadlineExceeded) as caught:
            await way(channel)
    assert isinstance(caught.value, grpc.aio.AioRpcError)
    assert caught.value.code() is LATE
    assert alone.total == 0


@pytest.mark.parametrize("way", each_way)
@on_loop
async def test_a_deadline_around_it(server: Any, balance: Any, way: Any) -> None:
    """`kubelb.hints(deadline=)` bounds the call like a timeout of its own."""
    release = threading.Event()
    alone = server()
    alone.behave = lambda method, context: release.wait(20)
    async with aio.insecure_channel(balance(alone)) as channel:
        with kubelb.hints(deadline=0.2), pytest.raises(grpc.aio.AioRpcError) as caught:
            await way(channel, timeout=20)
        assert caught.value.code() is LATE
        release.set()


@pytest.mark.parametrize("way", each_way)
@on_loop
async def test_a_retry_of_the_users_own(server: Any, balance: Any, way: Any) -> None:
    """A strategy that judges results sees those of calls with one response, and may have them repeated."""
    from tenacity import retry_if_result

    servers = [server() for _ in range(3)]
    lb = balance(
        *servers,
        policy="round_robin",
        retry=kubelb.Retry(wait=kubelb.FullJitter(0, 0), retry=retry_if_result(lambda value: value == b"x")),
    )
    async with aio.insecure_channel(lb, idempotent=True) as channel:
        assert await way(channel)
    assert sum(each.total for each in servers) == 1


@on_loop
async def test_a_stream_that_a_retry_throws_away(server: Any, balance: Any) -> None:
    """A strategy may refuse its first message: it is cancelled, not left to the server, and ends nothing else."""
    from tenacity import retry_if_result

    ends: list[Any] = []
    release = threading.Event()
    servers = [server(), server()]
    for each in servers:
        each.between = lambda number: release.wait(20) if number else None
    refused = [b"x0"]
    lb = balance(
        *servers,
        retry=kubelb.Retry(
            wait=kubelb.FullJitter(0, 0), retry=retry_if_result(lambda _: bool(refused and refused.pop()))
        ),
    )
    async with aio.insecure_channel(lb, idempotent=True) as channel:
        call = channel.unary_stream("/test.Echo/US")(b"x", timeout=30)
        call.add_done_callback(ends.append)
        assert await call.read() == b"x0"
        assert [each.total for each in servers] == [1, 1]
        assert await eventually(lambda: in_flight(lb) == 1 and servers[0].active + servers[1].active == 1)
        assert ends == []
        release.set()
        assert [await call.read() for _ in range(3)] == [b"x1", b"x2", grpc.aio.EOF]
        assert await call.code() is grpc.StatusCode.OK
    assert ends == [call]


@pytest.mark.parametrize("way", each_way)
@on_loop
async def test_cancelled_while_it_waits(server: Any, balance: Any, way: Any) -> None:
    """The task that awaits it is cancelled: so is the RPC at the server, and nothing is in flight."""
    entered, release = threading.Event(), threading.Event()
    alone = server()

    def hang(method: str, context: Any) -> None:
        entered.set()
        release.wait(20)

    alone.behave = hang
    lb = balance(alone)
    async with aio.insecure_channel(lb) as channel:
        task = asyncio.ensure_future(way(channel))
        assert await eventually(entered.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await eventually(lambda: in_flight(lb) == 0)
        assert await eventually(lambda: alone.active == 0)
        assert service_of(lb).balancer.states()[0].failures == 0
        release.set()


def every_kind(channel: Any, **options: Any) -> Iterator[Any]:
    yield channel.unary_unary("/test.Echo/UU")(b"x", **options)
    yield channel.unary_stream("/test.Echo/US")(b"x", **options)
    yield channel.stream_unary("/test.Echo/SU")([b"x"], **options)
    yield channel.stream_unary("/test.Echo/SU")(**options)
    yield channel.stream_stream("/test.Echo/SS")(slowly([b"x"]), **options)
    yield channel.stream_stream("/test.Echo/SS")(**options)


async def result_of(call: Any) -> Any:
    return await (call.read() if hasattr(call, "read") else call)


@pytest.mark.parametrize("when", ["at once", "soon", "later"])
@on_loop
async def test_cancel(server: Any, balance: Any, when: str) -> None:
    """A call of every kind: CANCELLED, from then on and for everybody."""
    release = threading.Event()
    alone = server()
    alone.behave = lambda method, context: release.wait(20)
    lb = balance(alone)
    async with aio.insecure_channel(lb) as channel:
        await channel.channel_ready()
        for call in every_kind(channel):
            told: list[Any] = []
            call.add_done_callback(told.append)
            if when == "soon":
                await asyncio.sleep(0)
            elif when == "later":
                assert await eventually(lambda: alone.active > 0)
            assert call.cancel()
            assert (call.cancel(), call.cancelled(), call.done()) == (False, True, True)
            for _ in range(2):
                with pytest.raises(asyncio.CancelledError):
                    await result_of(call)
            assert (await call.code(), await call.details()) == (CANCELLED, "Locally cancelled by application!")
            assert told == [call]
            assert in_flight(lb) == 0
            assert await eventually(lambda: alone.active == 0)
        release.set()


@on_loop
async def test_cancel_before_a_try(balance: Any) -> None:
    """Of calls of every kind that wait for a connection."""
    async with aio.insecure_channel(balance(f"127.0.0.1:{free_port()}")) as channel:
        for call in every_kind(channel, wait_for_ready=True):
            told: list[Any] = []
            call.add_done_callback(told.append)
            waiter = asyncio.ensure_future(result_of(call))
            await asyncio.sleep(0.01)
            assert call.cancel()
            assert (call.cancelled(), call.done()) == (True, True)
            with pytest.raises(asyncio.CancelledError):
                await waiter
            assert await call.code() is CANCELLED
            assert await call.details() == "Locally cancelled by application!"
            assert len(await call.trailing_metadata()) == 0
            assert told == [call]


@on_loop
async def test_asking_may_be_cancelled(server: Any, balance: Any) -> None:
    """Who gives up waiting for a status or for metadata leaves the call alone."""
    release = threading.Event()
    alone = server()
    alone.behave = lambda method, context: release.wait(20)
    async with aio.insecure_channel(balance(alone)) as channel:
        for call in every_kind(channel):
            for ask in (call.code, call.initial_metadata, call.trailing_metadata, call.details):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(ask(), 0.01)
            assert not call.done()
            call.cancel()
        call = channel.unary_unary("/test.Echo/UU")(b"x")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call.code(), 0.01)
        release.set()
        assert (await call).startswith(b"x@")


@on_loop
async def test_a_request_that_cannot_be_sent(server: Any, balance: Any) -> None:
    """The caller's own mistake: raised to whoever awaits, nothing in flight, nobody blamed, nobody left waiting."""
    alone = server()
    lb = balance(alone)
    async with aio.insecure_channel(lb) as channel:
        await channel.channel_ready()
        call = channel.unary_unary("/test.Echo/UU")("text")
        with pytest.raises(TypeError, match="bytes"):
            await call
        assert in_flight(lb) == 0
        assert await call.code() is grpc.StatusCode.UNKNOWN
        call = channel.unary_unary("/test.Echo/UU")("text")
        assert await asyncio.wait_for(call.code(), 10) is grpc.StatusCode.UNKNOWN
        with pytest.raises(TypeError, match="bytes"):
            await call
        call = channel.unary_stream("/test.Echo/US")("text")
        with pytest.raises(TypeError, match="bytes"):
            await call.read()
        assert await call.code() is grpc.StatusCode.UNKNOWN
        assert call.done()
        assert in_flight(lb) == 0
        call = channel.stream_unary("/test.Echo/SU")()
        with pytest.raises(TypeError, match="request_serializer"):
            await call.write("text")
        await call.done_writing()
        assert await call == b""
        with pytest.raises(TypeError):
            channel.stream_unary("/test.Echo/SU")(7)
        assert in_flight(lb) == 0
        assert service_of(lb).balancer.states()[0].failures == 0


SECRET = "s3cret"


@pytest.mark.parametrize(
    ("metadata", "because"),
    [
        ((("Authorization", SECRET),), "'Authorization': use lower-case"),
        ((("not a key", SECRET),), "use lower-case"),
        (((":path", SECRET),), "use lower-case"),
        ((("", SECRET),), "use lower-case"),
        ((("name", f"{SECRET}\n"),), "value of 'name': use printable ASCII"),
        ((("name", f"{SECRET}é"),), "use printable ASCII"),
        (((b"name", f"{SECRET}é".encode()),), "use printable ASCII"),
    ],
)
@on_loop
async def test_metadata_that_cannot_be_sent(server: Any, balance: Any, metadata: Any, because: str) -> None:
    """Calls of every kind end at once, whoever waits for what: gRPC's own INTERNAL, which names the key alone."""
    alone = server()
    lb = balance(alone)
    async with aio.insecure_channel(lb) as channel:
        for asked in (result_of, lambda call: call.wait_for_connection()):
            for call in every_kind(channel, metadata=metadata):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await asyncio.wait_for(asked(call), 10)
                assert caught.value.code() is await call.code() is grpc.StatusCode.INTERNAL
                assert because in caught.value.details()
                assert SECRET not in str(caught.value)
                assert call.done()
    assert alone.total == 0
    assert sum(state.picks for state in service_of(lb).balancer.states()) == 0


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        (7, TypeError),
        ([7], ValueError),
        ([("name", SECRET, 1)], ValueError),
        ({"name": SECRET}, ValueError),
        ([(7, SECRET)], TypeError),
        ([("name", 7)], TypeError),
        ([("name-bin", SECRET)], TypeError),
    ],
)
@on_loop
async def test_what_is_no_metadata(balance: Any, metadata: Any, error: type[Exception]) -> None:
    """Is told where the call is made."""
    async with aio.insecure_channel(balance("127.0.0.1:1")) as channel:
        with pytest.raises(error, match="give") as caught:
            channel.unary_unary("/test.Echo/UU")(b"x", metadata=metadata)
    assert SECRET not in str(caught.value)


@on_loop
async def test_metadata_that_can_be_read_once(server: Any, balance: Any) -> None:
    """A generator of pairs: whole for each attempt."""
    servers = [server() for _ in range(2)]
    for each in servers:
        each.behave = aborts(UNAVAILABLE, 1)
    lb = balance(*servers, policy="round_robin")
    async with aio.insecure_channel(lb, idempotent=True) as channel:
        pairs = ((key, value) for key, value in (("tenant", "blue"), ("raw-bin", b"\x00\xff"), ("nothing", None)))
        assert await channel.unary_unary("/test.Echo/UU")(b"x", metadata=pairs)
    found = [metadata for each in servers for metadata in each.metadata]
    assert [(each["tenant"], each["raw-bin"], each["nothing"]) for each in found] == [("blue", b"\x00\xff", "")] * 3


@pytest.mark.parametrize("way", [by_writing, by_turns])
@on_loop
async def test_what_was_written_is_written_again(server: Any, balance: Any, way: Any) -> None:
    """A first attempt fails after it was told something; the next one hears it from the beginning."""
    servers = [server() for _ in range(2)]
    hard: list[bytes] = []

    def after_the_first(method: str, context: Any) -> None:
        time.sleep(0.05)
        context.abort(UNAVAILABLE, "as told")

    servers[0].behave = after_the_first
    lb = balance(*servers, policy="round_robin")
    async with aio.insecure_channel(lb, idempotent=True) as channel:
        hard += [await way(channel, b"word") for _ in range(4)]
    assert servers[0].total >= 1
    assert {answer.partition(b"@")[0] for answer in hard} <= {b"word,word", b"word"}


@on_loop
async def test_a_stream_that_has_begun_is_not_repeated(server: Any, balance: Any) -> None:
    """What breaks it reaches the caller as it is, also where the method is idempotent."""
    servers = [server() for _ in range(2)]
    cut = threading.Event()

    def between(number: int) -> None:
        if number == 2:
            cut.wait(20)
            raise SystemError("of the test")

    for each in servers:
        each.between = between
    lb = balance(*servers)
    async with aio.insecure_channel(lb, idempotent=True) as channel:
        call = channel.unary_stream("/test.Echo/US")(b"x")
        assert [await call.read(), await call.read()] == [b"x0", b"x1"]
        assert in_flight(lb) == 1
        cut.set()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.UNKNOWN
        assert await call.code() is grpc.StatusCode.UNKNOWN
        assert in_flight(lb) == 0
        assert sum(each.total for each in servers) == 1


@on_loop
async def test_metadata_that_was_seen_binds(server: Any, balance: Any) -> None:
    """Whoever has read a server's initial metadata gets the rest from that server, its failure, too."""
    servers = [server() for _ in range(2)]
    cut = threading.Event()

    def behave(method: str, context: Any) -> None:
        context.send_initial_metadata((("first", "1"),))
        cut.wait(20)
        context.abort(UNAVAILABLE, "as told")

    for each in servers:
        each.behave = behave
    lb = balance(*servers)
    async with aio.insecure_channel(lb, idempotent=True) as channel:
        call = channel.unary_stream("/test.Echo/US")(b"x")
        assert (await call.initial_metadata())["first"] == "1"
        cut.set()
        with pytest.raises(grpc.aio.AioRpcError):
            await call.read()
        assert sum(each.total for each in servers) == 1


@on_loop
async def test_messages_too_large(server: Any, balance: Any) -> None:
    """Limits of this channel, so nobody's fault: RESOURCE_EXHAUSTED, as it is."""
    alone = server()
    lb = balance(alone)
    options = [("grpc.max_send_message_length", 1000), ("grpc.max_receive_message_length", 500)]
    async with aio.insecure_channel(lb, options, idempotent=True) as channel:
        for size in (2000, 700):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary("/test.Echo/UU")(b"x" * size)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_stream("/test.Echo/US")(b"x" * size).read()
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert service_of(lb).balancer.states()[0].failures == 0


@on_loop
async def test_a_closed_load_balancer(server: Any, balance: Any) -> None:
    """Refuses, in words of both."""
    lb = balance(server())
    async with aio.insecure_channel(lb) as channel:
        assert await channel.unary_unary("/test.Echo/UU")(b"x")
        lb.close()
        with pytest.raises(kubelb.Closed) as caught:
            await channel.unary_unary("/test.Echo/UU")(b"x")
        assert isinstance(caught.value, grpc.aio.AioRpcError)
