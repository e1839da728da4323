"""Cleaning up is not cut short by a native cancellation, which httpcore's own shield does not know."""

import asyncio
import contextlib

import pytest
from tests.adapters.conftest import in_flight
from tests.adapters.raw import OK, Peer
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


@pytest.mark.parametrize("turns", range(12))
def test_a_request_that_is_cancelled_twice_gives_its_connection_back(
    aio_world: AioWorld, raw, balance, turns: int
) -> None:
    """The second cancellation comes while httpcore cleans up after the first, before the headers or in the body."""

    def headers(peer: Peer) -> None:
        while True:
            head = peer.request()
            peer.send(OK if b"/whole" in head else b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n")

    lb = balance(raw(headers))
    limits = aio_world.httpx.Limits(max_connections=1)
    client = aio_world.client(lb, tls={"limits": limits}, timeout=aio_world.httpx.Timeout(5, pool=0.1))

    async def cancelled_twice(begun: int) -> None:
        task = asyncio.ensure_future(client.get("http://reviews.prod/headers"))
        for _ in range(begun):
            await asyncio.sleep(0)
        if begun == 12:
            await asyncio.sleep(0.01)  # in the body by now
        task.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    for begun in range(13):
        aio_world.get(client, "http://reviews.prod/whole")
        aio_world.run(cancelled_twice(begun))
    assert aio_world.get(client, "http://reviews.prod/whole").text == "ok"
    assert in_flight(lb) == 0


async def shielded_close(thing: Closing) -> None:
    await shielded(thing.aclose())


async def shielded_wait(coroutine: object) -> None:
    await shielded(coroutine)  # type: ignore[arg-type]
