"""A connection that a request has left is idle, closed or gone, whatever cut the request's end.

The kind: what httpcore does in several turns of the event loop was begun, and never ended, because a cancellation came
in between. Such a connection counts as busy for ever, and takes a place of `max_connections` with it.
"""

import asyncio
import gc
import time
from typing import Any

import pytest
from tests.adapters.cancelling import Side, alive, answering, sides, turns
from tests.adapters.conftest import in_flight
from tests.adapters.world import AioWorld
from tests.waiting import until


async def opened(side: Side, path: str) -> Any:
    return await side.client.send(side.client.build_request("GET", side.url + path), stream=True)


def lock_of(side: Side) -> Any:
    """What httpcore takes for each change of the one connection."""
    ((connection,),) = (pool.connections for pool in side.pools())
    return connection._connection._state_lock


@pytest.mark.parametrize("path", ["/whole", "/half"])
@pytest.mark.parametrize("end", ["close", "read", "discard", "dropped"])
@pytest.mark.parametrize("cancels", [1, 2])
def test_a_close_that_waits_for_the_connection_is_cancelled(
    aio_world: AioWorld, raw, balance, path: str, end: str, cancels: int
) -> None:
    """httpcore gives an idle connection to several requests at once; that which comes second has its lock for a turn.

    Where the response of the first is closed just then, the close waits for that lock: a real wait, which is cancelled.
    """
    server = raw(answering)
    lb = balance(server)
    limits = aio_world.httpx.Limits(max_connections=1)
    _, side = sides(aio_world, server, lb, limits=limits, timeout=10.0)

    async def cut() -> None:
        response = await opened(side, path)
        body = response.stream._stream
        ends = {"close": response.aclose, "read": response.aread, "discard": lambda: body.discard(response.headers)}
        if end == "dropped":
            del response, body, ends
            gc.collect()
            task = asyncio.ensure_future(side.client._transport._close_lost())
        else:
            task = asyncio.ensure_future(ends[end]())
        lock = lock_of(side)
        await lock.__aenter__()
        await asyncio.sleep(0.05)  # a body that was answered is here, and is being closed
        for _ in range(cancels):
            task.cancel()
            await turns(2)
        await lock.__aexit__()
        await asyncio.wait([task], timeout=5)
        assert task.cancelled()
        assert side.lost() == []
        assert in_flight(lb) == 0
        assert (await side.client.get(f"{side.url}/whole")).text == "ok"
        await turns(3)
        assert alive() == []

    aio_world.run(cut())
    aio_world.close(side.client)
    assert until(lambda: server.open == 0)


def test_a_wait_for_the_pool_that_is_over_in_the_turn_of_its_end(aio_world: AioWorld, raw, balance) -> None:
    """It was given a new connection all the same, which is nobody's: an exception, not a cancellation, and lost too."""
    server = raw(answering)
    lb = balance(server)
    httpx = aio_world.httpx
    _, side = sides(aio_world, server, lb, limits=httpx.Limits(max_connections=1), timeout=10.0)

    async def wait() -> None:
        for turn in range(16):
            held = await opened(side, "/half")
            waiting = asyncio.ensure_future(
                side.client.get(f"{side.url}/whole", timeout=httpx.Timeout(10.0, pool=0.02))
            )
            await turns(20)
            closing = asyncio.ensure_future(held.aclose())
            await turns(turn)
            time.sleep(0.03)  # noqa: ASYNC251  # as callers do
            done = (await asyncio.gather(waiting, closing, return_exceptions=True))[0]
            assert getattr(done, "status_code", 0) == 200 or isinstance(done, httpx.PoolTimeout), repr(done)
            assert side.lost() == [], turn

    aio_world.run(wait())
    aio_world.close(side.client)
