"""Cleaning up is not cut short by a native cancellation, which httpcore's own shield does not know."""

import asyncio
import contextlib

import pytest
from tests.adapters.world import AioWorld

from kubelb.adapters._httpx.shield import shielded


class Closing:
    """Closes in several turns of the event loop, as sockets do."""

    def __init__(self) -> None:
        self.closed = False

    async def aclose(self) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        self.closed = True


def test_what_only_yields_its_turn_is_finished(aio_world: AioWorld) -> None:
    """The cancellation is raised all the same, afterwards."""
    thing = Closing()

    async def cancelled() -> None:
        task = asyncio.ensure_future(shielded_close(thing))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    aio_world.run(cancelled())
    assert thing.closed


def test_what_waits_is_not_waited_for(aio_world: AioWorld) -> None:
    """A cancellation ends a clean-up that waits for somebody else."""

    async def cancelled() -> None:
        never = asyncio.get_running_loop().create_future()

        async def waiting() -> None:
            await never

        task = asyncio.ensure_future(shielded_wait(waiting()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 2.0)

    aio_world.run(cancelled())


def test_a_clean_up_that_fails_swallows_no_cancellation(aio_world: AioWorld) -> None:
    """Its error is nobody's affair, and those who suppress it must not go on as if nobody had cancelled them."""
    went_on: list[bool] = []

    async def breaking() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        raise OSError("broken")

    async def cleaning() -> None:
        with contextlib.suppress(OSError):
            await shielded(breaking())
        went_on.append(True)

    async def cancelled() -> None:
        task = asyncio.ensure_future(cleaning())
        await asyncio.sleep(0)
        task.cancel("for a reason")
        with pytest.raises(asyncio.CancelledError, match="for a reason"):
            await task
        with pytest.raises(OSError, match="broken"):
            await shielded(breaking())

    aio_world.run(cancelled())
    assert went_on == []


def test_a_pool_closes_all_that_it_has_taken_out(aio_world: AioWorld) -> None:
    """Expired connections are closed by the next request; it may be cancelled after the first of them."""
    pool = aio_world.adapter.AsyncTransport.kit.AsyncPool()
    connections = [Closing() for _ in range(3)]

    async def cancelled() -> None:
        task = asyncio.ensure_future(pool._close_connections(connections))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    aio_world.run(cancelled())
    assert all(connection.closed for connection in connections)


async def shielded_close(thing: Closing) -> None:
    await shielded(thing.aclose())


async def shielded_wait(coroutine: object) -> None:
    await shielded(coroutine)  # type: ignore[arg-type]
