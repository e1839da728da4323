"""Asyncio calls that go well: every kind, and everything that can be asked of one."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from tests.adapters_grpc.aio_kit import each_way, eventually, on_loop, slowly

import kubelb
from kubelb.adapters.grpc import aio
from kubelb.service import service_of

OK = grpc.StatusCode.OK


@pytest.fixture
def three(server: Any, balance: Any) -> Callable[..., Any]:
    """Three servers and a channel over them, by turns, whose connections are all ready."""
    servers = [server() for _ in range(3)]
    lb = balance(*servers, policy="round_robin")

    @asynccontextmanager
    async def enter(**options: Any) -> AsyncIterator[Any]:
        async with aio.insecure_channel(lb, **options) as channel:
            await channel.channel_ready()
            assert await eventually(lambda: all_ready(channel, 3))
            yield servers, channel

    return enter


def all_ready(channel: Any, count: int) -> bool:
    ready = grpc.ChannelConnectivity.READY.value[0]
    subs = tuple(channel.subs._subs.values())
    return len(subs) == count and all(sub.check(True) == ready for sub in subs)


@on_loop
async def test_every_call_picks_its_own_endpoint(three: Any) -> None:
    """Thirty calls by turns, ten each."""
    async with three() as (servers, channel):
        echo = channel.unary_unary("/test.Echo/UU")
        assert {await echo(b"x") for _ in range(30)} == {b"x@" + each.name for each in servers}
        assert [each.delivered["UU"] for each in servers] == [10, 10, 10]


@pytest.mark.parametrize("way", each_way)
@on_loop
async def test_every_way(three: Any, way: Any) -> None:
    """Each kind of call, iterated, read, pulled and written."""
    async with three() as (servers, channel):
        for _ in range(3):
            answer = await way(channel, b"hello", timeout=20)
            assert b"hello" in answer
        assert [each.total for each in servers] == [1, 1, 1]


@on_loop
async def test_what_a_unary_call_answers(three: Any) -> None:
    """Everything of `grpc.aio.UnaryUnaryCall`, before the end and after it."""
    async with three() as (_, channel):
        told: list[Any] = []
        call = channel.unary_unary("/test.Echo/UU")(b"a", timeout=10)
        assert isinstance(call, grpc.aio.UnaryUnaryCall)
        assert not call.done()
        assert not call.cancelled()
        assert 0 < call.time_remaining() <= 10
        call.add_done_callback(told.append)
        assert (await call).startswith(b"a@")
        assert told == [call]
        call.add_done_callback(told.append)
        assert told == [call, call]
        assert (await call).startswith(b"a@")  # again, as a future
        assert (await call.code(), await call.details(), await call.debug_error_string()) == (OK, "", "")
        assert (call.done(), call.cancelled(), call.cancel()) == (True, False, False)
        assert await call.wait_for_connection() is None
        assert channel.unary_unary("/test.Echo/UU")(b"b").time_remaining() is None


@on_loop
async def test_asked_before_it_is_awaited(three: Any) -> None:
    """The status, metadata and the connection are waited for; the response is still there then."""
    async with three() as (_, channel):
        for ask in ("code", "details", "trailing_metadata", "initial_metadata", "wait_for_connection"):
            call = channel.unary_unary("/test.Echo/UU")(b"a")
            await getattr(call, ask)()
            assert (await call).startswith(b"a@")


@on_loop
async def test_nobody_need_await_a_call(three: Any) -> None:
    """It goes on to its end, releases its endpoint and calls back."""
    async with three() as (servers, channel):
        told = asyncio.Event()
        channel.unary_unary("/test.Echo/UU")(b"a").add_done_callback(lambda call: told.set())
        await asyncio.wait_for(told.wait(), 10)
        assert sum(each.total for each in servers) == 1
        assert [state.in_flight for state in channel.lb.balancer.states()] == [0, 0, 0]


@on_loop
async def test_a_callback_that_raises(three: Any) -> None:
    """Is the loop's to report, and takes nothing else with it."""
    async with three() as (_, channel):
        complaints: list[Any] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context["exception"]))
        told: list[Any] = []
        for make in (
            lambda: channel.unary_unary("/test.Echo/UU")(b"a"),
            lambda: channel.stream_unary("/test.Echo/SU")([b"a"]),
        ):
            call = make()
            call.add_done_callback(lambda _: 1 / 0)
            call.add_done_callback(told.append)
            assert await call
        assert [type(each) for each in complaints] == [ZeroDivisionError] * 2
        assert len(told) == 2


@on_loop
async def test_what_a_stream_answers(three: Any) -> None:
    """Everything of `grpc.aio.UnaryStreamCall`."""
    async with three() as (_, channel):
        told: list[Any] = []
        call = channel.unary_stream("/test.Echo/US")(b"r", timeout=10)
        assert isinstance(call, grpc.aio.UnaryStreamCall)
        call.add_done_callback(told.append)
        assert not call.done()
        assert [message async for message in call] == [b"r0", b"r1", b"r2"]
        assert [message async for message in call] == []
        assert (await call.code(), await call.details(), call.done(), call.cancelled()) == (OK, "", True, False)
        assert told == [call]
        assert await call.wait_for_connection() is None
        with pytest.raises(grpc.aio.UsageError, match="may not be mixed"):
            await call.read()
        call = channel.unary_stream("/test.Echo/US")(b"r")
        assert [await call.read() for _ in range(5)] == [b"r0", b"r1", b"r2", grpc.aio.EOF, grpc.aio.EOF]
        with pytest.raises(grpc.aio.UsageError, match="may not be mixed"):
            aiter(call)


@on_loop
async def test_streams_of_requests(three: Any) -> None:
    """From iterables of both sorts, an empty one, and written; responses that do not wait for the last request."""
    async with three() as (_, channel):
        join = channel.stream_unary("/test.Echo/SU")
        call = join([b"1", b"2"])
        assert isinstance(call, grpc.aio.StreamUnaryCall)
        assert await call == b"1,2"
        assert await join(slowly([b"1", b"2"])) == b"1,2"
        assert await join([]) == b""
        call = join()
        await call.wait_for_connection()
        for word in (b"3", b"4", b"5"):
            await call.write(word)
        await call.done_writing()
        await call.done_writing()
        assert await call == b"3,4,5"
        with pytest.raises(asyncio.InvalidStateError, match="already finished"):
            await call.write(b"6")
        call = join()
        await call.done_writing()
        with pytest.raises(asyncio.InvalidStateError, match="half closed"):
            await call.write(b"6")
        assert await call == b""
        call = join([b"7"])
        with pytest.raises(grpc.aio.UsageError, match="may not be mixed"):
            await call.write(b"8")
        with pytest.raises(grpc.aio.UsageError, match="may not be mixed"):
            await call.done_writing()
        assert await call == b"7"


@on_loop
async def test_a_conversation(three: Any) -> None:
    """What is sent next depends on what came; by writing, and by an iterator that listens."""
    async with three() as (_, channel):
        chat = channel.stream_stream("/test.Echo/SS")
        call = chat()
        assert isinstance(call, grpc.aio.StreamStreamCall)
        for word in (b"one", b"two", b"three"):
            await call.write(word)
            assert (await call.read()).startswith(word)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        heard: asyncio.Queue[bytes] = asyncio.Queue()

        async def speak() -> AsyncIterator[bytes]:
            yield b"a"
            while len(last := await heard.get()) < 10:
                yield last + b"!"

        async for answer in chat(speak()):
            heard.put_nowait(answer.partition(b"@")[0] + answer[-1:])


@on_loop
async def test_many_messages(three: Any) -> None:
    """Many more than are kept for another attempt, in order, from one endpoint."""
    async with three() as (_, channel):
        numbers = [b"%d" % number for number in range(1200)]
        found = [message.partition(b"@") async for message in channel.stream_stream("/test.Echo/SS")(numbers)]
        assert [number for number, _, _ in found] == numbers
        assert len({name for _, _, name in found}) == 1
        assert await channel.stream_unary("/test.Echo/SU")(slow_now_and_then(numbers)) == b",".join(numbers)


async def slow_now_and_then(messages: list[bytes]) -> AsyncIterator[bytes]:
    for number, message in enumerate(messages):
        if number % 500 == 0:
            await asyncio.sleep(0.001)
        yield message


@on_loop
async def test_metadata_both_ways(three: Any) -> None:
    """The caller's goes out, the server's comes back: initial, trailing, binary."""

    def behave(method: str, context: Any) -> None:
        context.send_initial_metadata((("first", "1"),))
        context.set_trailing_metadata((("last-bin", b"\x00\x01"),))

    async with three() as (servers, channel):
        for each in servers:
            each.behave = behave
        given = grpc.aio.Metadata(("tenant", "blue"), ("raw-bin", b"\x07"))
        for call in (
            channel.unary_unary("/test.Echo/UU")(b"x", metadata=given),
            channel.unary_stream("/test.Echo/US")(b"x", metadata=tuple(given)),
            channel.stream_unary("/test.Echo/SU")([b"x"], metadata=tuple(given)),
            channel.stream_stream("/test.Echo/SS")([b"x"], metadata=given),
        ):
            assert (await call.initial_metadata())["first"] == "1"
            if inspect.isawaitable(call):
                assert await call
            else:
                assert [message async for message in call]
            assert (await call.trailing_metadata())["last-bin"] == b"\x00\x01"
            assert (await call.initial_metadata())["first"] == "1"
        assert [(each["tenant"], each["raw-bin"]) for server in servers for each in server.metadata] == [
            ("blue", b"\x07")
        ] * 4


@on_loop
async def test_compression(server: Any, balance: Any) -> None:
    """The channel's and the call's own reach the server."""
    one = server()
    async with aio.insecure_channel(balance(one), compression=grpc.Compression.Gzip) as channel:
        echo = channel.unary_unary("/test.Echo/UU")
        assert (await echo(b"x" * 1000)).startswith(b"x" * 1000)
        assert (await echo(b"y" * 1000, compression=grpc.Compression.Deflate)).startswith(b"y" * 1000)
    assert one.total == 2


@on_loop
async def test_multicallables_are_made_once(three: Any) -> None:
    """For each method and serializers; each keeps one for each endpoint."""
    async with three() as (_, channel):
        echo = channel.unary_unary("/test.Echo/UU", bytes, bytes)
        assert channel.unary_unary("/test.Echo/UU", bytes, bytes) is echo
        assert channel.unary_unary("/test.Echo/UU") is not echo
        assert isinstance(echo, grpc.aio.UnaryUnaryMultiCallable)
        for _ in range(10):
            assert await echo(b"x")
        assert len(echo.bound) == 3


@on_loop
async def test_generated_stubs(three: Any, reviews: Any) -> None:
    """Code from grpcio-tools: an asyncio servicer on one side, a stub on the other, all four kinds."""
    pb2, pb2_grpc = reviews.pb2, reviews.pb2_grpc

    class Reviews(pb2_grpc.ReviewsServicer):
        async def Get(self, request: Any, context: Any) -> Any:
            return pb2.Review(book=request.book, stars=5)

        async def List(self, request: Any, context: Any) -> Any:
            for stars in range(3):
                yield pb2.Review(book=request.book, stars=stars)

        async def Add(self, requests: Any, context: Any) -> Any:
            return pb2.Summary(count=len([review async for review in requests]))

        async def Chat(self, requests: Any, context: Any) -> Any:
            async for query in requests:
                yield pb2.Review(book=query.book)

    server = grpc.aio.server()
    pb2_grpc.add_ReviewsServicer_to_server(Reviews(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"static:///127.0.0.1:{port}") as channel:
        stub = pb2_grpc.ReviewsStub(channel)
        assert (await stub.Get(pb2.Query(book="b"))).stars == 5
        assert [review.stars async for review in stub.List(pb2.Query(book="b"))] == [0, 1, 2]
        assert (await stub.Add(iter([pb2.Review()] * 4))).count == 4
        call = stub.Add()
        await call.write(pb2.Review(text="good"))
        await call.done_writing()
        assert (await call).count == 1
        assert [r.book async for r in stub.Chat(iter([pb2.Query(book=c) for c in "abc"]))] == ["a", "b", "c"]
    await server.stop(0)


@on_loop
async def test_interceptors_see_every_attempt(three: Any) -> None:
    """They are the sub-channels' own: an idempotent call that is tried twice passes through them twice."""
    seen: list[str] = []

    class Noting(grpc.aio.UnaryUnaryClientInterceptor):
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            seen.append(details.method.decode())
            return await continuation(details, request)

    class Streams(grpc.aio.UnaryStreamClientInterceptor):
        async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
            seen.append(details.method.decode())
            return await continuation(details, request)

    class Writes(grpc.aio.StreamStreamClientInterceptor):
        async def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
            seen.append(details.method.decode())
            return await continuation(details, requests)

    async with three(interceptors=[Noting(), Streams(), Writes()], idempotent=True) as (servers, channel):
        told: list[Any] = []
        call = channel.unary_unary("/test.Echo/UU")(b"x", timeout=10)
        call.add_done_callback(told.append)
        assert (await call).startswith(b"x@")
        assert (await call.code(), told) == (OK, [call])
        assert [m async for m in channel.unary_stream("/test.Echo/US")(b"s")] == [b"s0", b"s1", b"s2"]
        assert len([m async for m in channel.stream_stream("/test.Echo/SS")([b"s"])]) == 1
        assert seen == ["/test.Echo/UU", "/test.Echo/US", "/test.Echo/SS"]
        for each in servers[1:]:
            each.behave = lambda method, context: context.abort(grpc.StatusCode.UNAVAILABLE, "as told")
        seen.clear()
        assert (await channel.unary_unary("/test.Echo/UU")(b"x", timeout=10)) == b"x@" + servers[0].name
        answers = [m async for m in channel.unary_stream("/test.Echo/US")(b"s", timeout=10)]
        assert answers == [b"s0", b"s1", b"s2"]
        assert len(seen) > 2


@on_loop
async def test_the_timeout_reaches_the_server(server: Any, balance: Any) -> None:
    """As the time that is left of it; without one the server sees none, and with hints that of the block."""
    alone, left = server(), []
    alone.behave = lambda method, context: left.append(context.time_remaining())
    async with aio.insecure_channel(balance(alone)) as channel:
        echo = channel.unary_unary("/test.Echo/UU")
        await echo(b"x", timeout=30)
        await echo(b"x")
        with kubelb.hints(deadline=20):
            await echo(b"x")
            await echo(b"x", timeout=10)
            assert echo(b"x").time_remaining() <= 20
            assert [m async for m in channel.unary_stream("/test.Echo/US")(b"x")]
    assert 20 < left[0] < 31
    assert left[1] is None or left[1] > 1e6
    assert [5 < each < 21 for each in left[2:]] == [True] * (len(left) - 2)
    assert left[3] < 11


@on_loop
async def test_dialled_over_ipv6(server: Any, balance: Any) -> None:
    """An address in brackets."""
    one = server(host="::1")
    async with aio.insecure_channel(balance(one)) as channel:
        assert await channel.unary_unary("/test.Echo/UU")(b"x") == b"x@" + one.name


@pytest.mark.slow
@on_loop
async def test_a_burst_is_spread(server: Any, balance: Any) -> None:
    """1000 calls made in one turn of the loop: each counts those before it."""
    servers = [server() for _ in range(10)]
    for policy in ("least_request", "peak_ewma"):
        lb = balance(*servers, policy=policy)
        async with aio.insecure_channel(lb) as channel:
            await channel.channel_ready()
            assert await eventually(lambda channel=channel: all_ready(channel, 10))
            for each in servers:
                each.delivered.clear()
            echo = channel.unary_unary("/test.Echo/UU")
            calls = [echo(b"x", timeout=50) for _ in range(1000)]
            flying = [state.in_flight for state in service_of(lb).balancer.states()]
            assert sum(flying) == 1000
            assert all(80 <= count <= 120 for count in flying), flying
            await asyncio.gather(*calls)
            assert sum(each.total for each in servers) == 1000
