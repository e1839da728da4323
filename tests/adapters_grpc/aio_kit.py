"""Tests that are coroutines: each on a loop of its own, which must be as it was when they end."""

import asyncio
import functools
import gc
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import grpc
import grpc.aio
import pytest

__all__ = [
    "by_both",
    "by_read",
    "by_requests",
    "by_stream",
    "by_writing",
    "each_way",
    "eventually",
    "on_loop",
    "one",
    "ways",
]


def on_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run the test to its end; then no task may be left, and nothing may have been said behind its back."""

    @functools.wraps(test)
    def run(*args: Any, **options: Any) -> None:
        complaints: list[Any] = []

        def complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            if not of_an_earlier_loop(context):
                complaints.append(context)

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(complain)
            await test(*args, **options)
            gc.collect()
            assert await eventually(lambda: others() == []), others()

        asyncio.run(main())
        gc.collect()
        assert complaints == [], complaints

    return run


def of_an_earlier_loop(context: dict[str, Any]) -> bool:
    """Whether grpcio's poller, one for the process, has brought the end of an operation whose loop is closed.

    A cancelled RPC of a closed channel is over for Python before it is for the core, so bare grpcio says the same.
    """
    error = context.get("exception")
    return (
        isinstance(error, RuntimeError)
        and str(error) == "Event loop is closed"
        and "PollerCompletionQueue._handle_events" in context["message"]
    )


def others() -> list[Any]:
    return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def eventually(condition: Callable[[], Any], within: float = 10.0) -> bool:
    """Whether it became true in time, while the loop goes on."""
    loop = asyncio.get_running_loop()
    end = loop.time() + within
    while not condition():
        if loop.time() > end:
            return False
        await asyncio.sleep(0.005)
    return True


# One way for each kind of call, and each style of it


async def one(channel: Any, request: bytes = b"x", **options: Any) -> Any:
    return await channel.unary_unary("/test.Echo/UU")(request, **options)


async def by_stream(channel: Any, request: bytes = b"x", **options: Any) -> Any:
    return b"".join([message async for message in channel.unary_stream("/test.Echo/US")(request, **options)])


async def by_read(channel: Any, request: bytes = b"x", **options: Any) -> Any:
    call, messages = channel.unary_stream("/test.Echo/US")(request, **options), []
    while (message := await call.read()) is not grpc.aio.EOF:
        messages.append(message)
    return b"".join(messages)


async def by_requests(channel: Any, request: bytes = b"x", **options: Any) -> Any:
    return await channel.stream_unary("/test.Echo/SU")(iter([request, request]), **options)


async def by_async_requests(channel: Any, request: bytes = b"x", **options: Any) -> Any:
    return await channel.stream_unary("/test.Echo/SU")(slowly([request, request]), **options)


async def by_writing(channel: Any, request: bytes = b"x", **options: Any) -> Any:
    call = channel.stream_unary("/test.Echo/SU")(**options)
    for _ in range(2):
        await call.write(request)
    await call.done_writing()
    return await call


async def by_both(channel: Any, request: bytes = b"x", **options: Any) -> Any:
    call = channel.stream_stream("/test.Echo/SS")(slowly([request, request]), **options)
    return b"".join([message async for message in call])


async def by_turns(channel: Any, request: bytes = b"x", **options: Any) -> Any:
    call = channel.stream_stream("/test.Echo/SS")(**options)
    await call.write(request)
    first = await call.read()
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    return first


async def slowly(requests: Iterable[bytes]) -> Any:
    for request in requests:
        await asyncio.sleep(0.001)
        yield request


ways = [one, by_stream, by_read, by_requests, by_async_requests, by_writing, by_both, by_turns]
each_way = [way if way in {one, by_turns} else pytest.param(way, marks=pytest.mark.slow) for way in ways]
"""For a test with each; the quick loop goes without those that differ from another one in style alone."""
