"""grpc.aio: whose cancellation is it? The call's own is an answer; the task's own ends the task."""

import asyncio
import contextlib
from typing import Any

import pytest
from tests.adapters_grpc.aio_kit import eventually, on_loop
from tests.adapters_grpc.conftest import in_flight

from kubelb.adapters.grpc import aio
from kubelb.service import Service


@on_loop
async def test_a_write_to_a_cancelled_call(server: Any, balance: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that the call has ended; but a cancellation of the writing task is not taken for the call's."""
    alone = server()
    lb = balance(alone)
    async with aio.insecure_channel(lb) as channel:
        call = channel.stream_unary("/test.Echo/SU")()
        await call.write(b"x")
        call.cancel()
        with pytest.raises(asyncio.InvalidStateError, match="already finished"):
            await call.write(b"y")

        async def waits() -> None:
            await asyncio.sleep(60)

        monkeypatch.setattr(call, "_raise", waits)
        task = asyncio.ensure_future(call.write(b"y"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await eventually(lambda: in_flight(lb) == 0)


@on_loop
async def test_a_close_that_is_cancelled(server: Any) -> None:
    """The load balancer that was made from a target is closed all the same, at whatever turn."""
    alone = server()
    for turns in range(1, 8):
        channel = aio.insecure_channel(f"static:///{alone.address}")
        await channel.unary_unary("/test.Echo/UU")(b"x")
        task = asyncio.ensure_future(channel.close())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

        def closed(service: Service = channel.lb) -> bool:
            return service.opening.closed

        assert await eventually(closed), f"turn {turns}"
