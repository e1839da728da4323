"""Kind: a call without an RPC. An interceptor of asyncio answers by itself, from a cache or in a test: it has an end
all the same, a status, and is in flight nowhere afterwards."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from tests.adapters_grpc.aio_kit import eventually, on_loop
from tests.adapters_grpc.conftest import in_flight
from tests.adapters_grpc.test_aio_interceptors import each_kind

from kubelb.adapters.grpc import aio
from kubelb.service import service_of

OK, CANCELLED = grpc.StatusCode.OK, grpc.StatusCode.CANCELLED
STREAMS = ["unary_stream", "stream_stream"]


async def messages(*values: Any) -> Any:
    for value in values:
        if isinstance(value, Exception):
            raise value
        yield value


def answering(*values: Any, layers: int = 1) -> list[Any]:
    """Interceptors that answer streams with these; the outer of two reads what the inner one gives."""

    async def inner(continuation: Any, details: Any, request: Any) -> Any:
        return messages(*values)

    async def outer(continuation: Any, details: Any, request: Any) -> Any:
        answer = await continuation(details, request)

        async def passed_on() -> Any:
            async for message in answer:
                yield message

        return passed_on()

    return [each for way in ([outer] * (layers - 1) + [inner]) for each in each_kind(way)]


def begun(channel: Any, kind: str, requests: bool = True, timeout: float = 20) -> Any:
    callable_ = getattr(channel, kind)("/test.Echo/" + ("US" if kind == "unary_stream" else "SS"))
    if kind == "unary_stream":
        return callable_(b"x", timeout=timeout)
    return callable_([b"x"], timeout=timeout) if requests else callable_(timeout=timeout)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", STREAMS)
@on_loop
async def test_it_ends(server: Any, balance: Any, kind: str, layers: int) -> None:
    """With its last message, however it is read: OK, told to callbacks, and nothing reached a server."""
    alone = server()
    lb = balance(alone)
    async with aio.insecure_channel(lb, interceptors=answering(b"a", b"b", layers=layers)) as channel:
        call, told = begun(channel, kind), []
        call.add_done_callback(told.append)
        assert [message async for message in call] == [b"a", b"b"]
        assert await asyncio.wait_for(call.code(), 20) is OK
        assert await eventually(lambda: told == [call])
        assert call.done()
        assert not call.cancelled()
        assert not call.cancel()
        call = begun(channel, kind)
        assert [await call.read() for _ in range(3)] == [b"a", b"b", grpc.aio.EOF]
        assert (len(await call.initial_metadata()), len(await call.trailing_metadata())) == (0, 0)
        assert await call.details() == ""
        assert in_flight(lb) == 0
    assert alone.total == 0


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("read", [0, 1])
@on_loop
async def test_it_is_cancelled(server: Any, balance: Any, kind: str, read: int) -> None:
    """Also where nothing was read of it."""
    lb = balance(server())
    async with aio.insecure_channel(lb, interceptors=answering(b"a", b"b")) as channel:
        call = begun(channel, kind)
        for _ in range(read):
            assert await call.read() == b"a"
        assert call.cancel()
        assert call.cancelled()
        assert await asyncio.wait_for(call.code(), 20) is CANCELLED
        with pytest.raises(asyncio.CancelledError):
            await call.read()
        assert await eventually(lambda: in_flight(lb) == 0)


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("before", [0, 1])
@on_loop
async def test_its_own_exception(server: Any, balance: Any, kind: str, before: int) -> None:
    """What reads gets it; no endpoint is to blame."""
    lb = balance(server())
    values = [b"a"] * before + [KeyError("mine")]
    async with aio.insecure_channel(lb, interceptors=answering(*values), idempotent=True) as channel:
        call = begun(channel, kind)
        assert [await call.read() for _ in range(before)] == [b"a"] * before
        with pytest.raises(KeyError, match="mine"):
            await call.read()
        assert await asyncio.wait_for(call.code(), 20) is grpc.StatusCode.UNKNOWN
        assert in_flight(lb) == 0
    assert service_of(lb).balancer.states()[0].failures == 0


@pytest.mark.parametrize("kind", STREAMS)
@on_loop
async def test_it_is_dropped(server: Any, balance: Any, kind: str) -> None:
    """Half read, or not at all: in flight nowhere, and nothing is said behind anybody's back."""
    lb = balance(server())
    async with aio.insecure_channel(lb, interceptors=answering(b"a", b"b")) as channel:
        for read in (0, 1):
            call = begun(channel, kind)
            for _ in range(read):
                assert await call.read() == b"a"
            await asyncio.sleep(0.01)
            del call
            assert await eventually(lambda: in_flight(lb) == 0)


@on_loop
async def test_what_is_written_to_it(server: Any, balance: Any) -> None:
    """Requests that are read by none are written all the same, or refused; nothing waits for what does not come."""
    lb = balance(server())
    async with aio.insecure_channel(lb, interceptors=answering(b"a")) as channel:
        call = begun(channel, "stream_stream", requests=False)
        writing = asyncio.ensure_future(call.write(b"x"))
        assert await call.read() == b"a"
        assert await call.read() is grpc.aio.EOF
        await asyncio.wait([writing], timeout=20)
        assert writing.done()
        assert writing.exception() is None or isinstance(writing.exception(), asyncio.InvalidStateError)
        assert in_flight(lb) == 0


class Slow:
    """Answers streams with one message, and then with what does not come; tells of its end."""

    def __init__(self) -> None:
        self.waits, self.closed = asyncio.Event(), asyncio.Event()

    def interceptors(self) -> list[Any]:
        async def way(continuation: Any, details: Any, request: Any) -> Any:
            return self.messages()

        return each_kind(way)

    async def messages(self) -> Any:
        try:
            yield b"a"
            self.waits.set()
            await asyncio.Event().wait()
        finally:
            self.closed.set()


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("end", ["cancel", "close", "timeout"])
@on_loop
async def test_what_waits_is_woken(server: Any, balance: Any, kind: str, end: str) -> None:
    """A task that waits for a message hears of the end at once; the generator is closed, and no pod is to blame."""
    lb, slow = balance(server()), Slow()
    async with aio.insecure_channel(lb, interceptors=slow.interceptors()) as channel:
        call = begun(channel, kind, timeout=0.2 if end == "timeout" else 20)
        assert await call.read() == b"a"
        reading = asyncio.ensure_future(call.read())
        await asyncio.wait_for(slow.waits.wait(), 20)
        if end == "cancel":
            assert call.cancel()
        elif end == "close":
            await channel.close()
        assert (await asyncio.wait([reading], timeout=5))[0]
        if end == "timeout":
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                reading.result()
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert await call.details() == "Deadline Exceeded"
        else:
            assert reading.cancelled()
        assert await call.code() is (grpc.StatusCode.DEADLINE_EXCEEDED if end == "timeout" else CANCELLED)
        assert call.cancelled() is (end != "timeout")
        await asyncio.wait_for(slow.closed.wait(), 20)
        assert in_flight(lb) == 0
    assert service_of(lb).balancer.states()[0].failures == 0


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("end", ["cancel", "timeout"])
@on_loop
async def test_what_is_not_read_any_more_is_closed(server: Any, balance: Any, kind: str, end: str) -> None:
    """The generator holds something, and no read comes that would end it."""
    lb, slow = balance(server()), Slow()
    async with aio.insecure_channel(lb, interceptors=slow.interceptors()) as channel:
        call = begun(channel, kind, timeout=0.2 if end == "timeout" else 20)
        assert await call.read() == b"a"
        if end == "cancel":
            assert call.cancel()
        await asyncio.wait_for(slow.closed.wait(), 20)
        assert in_flight(lb) == 0


@on_loop
async def test_the_reader_stays_usable(server: Any, balance: Any) -> None:
    """What was woken by an error of the call's is a task as any other; one that is cancelled itself stays cancelled."""
    lb, slow = balance(server()), Slow()

    async def reads(call: Any) -> int:
        with pytest.raises(grpc.aio.AioRpcError):
            async for _ in call:
                pass
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    async with aio.insecure_channel(lb, interceptors=slow.interceptors()) as channel:
        assert await asyncio.ensure_future(reads(begun(channel, "unary_stream", timeout=0.1))) == 0
        slow.waits.clear()
        task = asyncio.ensure_future(reads(begun(channel, "unary_stream")))
        await asyncio.wait_for(slow.waits.wait(), 20)
        task.cancel()
        assert (await asyncio.wait([task], timeout=5))[0]
        assert task.cancelled()
