"""Cleaning up is not cut short by a native cancellation, which httpcore's own shield does not know.

The kind: a cancellation that is put off although it was meant for this very moment. It belongs to the one that asked
for it: what anyio delivers for a scope of its own is never held up, and what is put off comes at the next real wait.
"""

import asyncio
import contextlib

import anyio
import anyio.lowlevel
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


def test_what_was_put_off_comes_at_the_next_wait(aio_world: AioWorld) -> None:
    """It is delivered to what is waited for, as by `task.cancel()` at this moment: a task that runs is cancelled."""
    seen: list[str] = []

    async def inner() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            seen.append(f"inner {error}")
            raise

    async def yielding() -> None:
        task = asyncio.ensure_future(inner())
        for _ in range(3):
            await asyncio.sleep(0)
        seen.append("waits")
        await task

    async def cancelled() -> None:
        task = asyncio.ensure_future(shielded_wait(yielding()))
        await asyncio.sleep(0)
        task.cancel("asked for")
        with pytest.raises(asyncio.CancelledError, match="asked for"):
            await asyncio.wait_for(task, 5)
        assert task.cancelled()

    aio_world.run(cancelled())
    assert seen == ["waits", "inner asked for"]


def test_a_wait_that_is_over_already_is_no_wait(aio_world: AioWorld) -> None:
    """The put-off cancellation is not lost there, and the clean-up gets what it waited for."""
    seen: list[str] = []

    async def waiting() -> None:
        ready = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0, ready.set_result, "there")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        ready.done() or seen.append("too soon")
        seen.append(await ready)

    async def cancelled() -> None:
        task = asyncio.ensure_future(shielded_wait(waiting()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 5)

    aio_world.run(cancelled())
    assert seen == ["there"]


@pytest.mark.parametrize("outer", [True, False], ids=["the caller's scope", "a scope inside"])
def test_what_belongs_to_a_scope_of_anyios_is_let_through(aio_world: AioWorld, outer: bool) -> None:
    """anyio cancels at each turn until the scope has ended, and code in it waits for just that: held up, it spins."""
    seen: list[str] = []

    async def spinning() -> None:
        await asyncio.sleep(0)
        for _ in range(1000):
            await anyio.lowlevel.checkpoint_if_cancelled()
            await asyncio.sleep(0)
        seen.append("went on")

    async def inside() -> None:
        with anyio.move_on_after(0):
            await spinning()
        seen.append("left")

    async def scoped() -> None:
        with anyio.CancelScope() as scope:
            asyncio.get_running_loop().call_soon(scope.cancel)
            await shielded(spinning() if outer else inside())
        seen.append("left")

    async def main() -> None:
        await asyncio.wait_for(scoped() if outer else shielded_wait(inside()), 10)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    aio_world.run(main())
    assert seen == ["left"]


def test_a_native_one_in_a_shield_of_anyios_is_put_off(aio_world: AioWorld) -> None:
    """Around the shield a scope is cancelled, too: the one is put off to the shield's end, the other anyio's affair."""
    things = [Closing(), Closing()]

    async def shielding() -> None:
        with anyio.CancelScope(shield=True):
            await things[0].aclose()
        await things[1].aclose()

    async def cancelled() -> None:
        scope = anyio.CancelScope()

        async def scoped() -> None:
            with scope:
                await shielded(shielding())

        task = asyncio.ensure_future(scoped())
        await asyncio.sleep(0)
        scope.cancel()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 5)

    aio_world.run(cancelled())
    assert [thing.closed for thing in things] == [True, False]


def test_how_anyio_says_that_it_cancels_here() -> None:
    """What the shield relies on, of anyio's public interface; should another version differ, this says so first."""
    said: list[float] = []

    async def main() -> None:
        said.append(anyio.current_effective_deadline())
        with anyio.CancelScope() as scope:  # noqa: ASYNC100
            scope.cancel()
            said.append(anyio.current_effective_deadline())
            with anyio.CancelScope(shield=True) as shield:  # noqa: ASYNC100
                said.append(anyio.current_effective_deadline())
                shield.cancel()
                said.append(anyio.current_effective_deadline())

    asyncio.run(main())
    assert said == [float("inf"), float("-inf"), float("inf"), float("-inf")]


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
