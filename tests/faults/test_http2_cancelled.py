"""A cancellation of one stream ends that stream: with the bare client's exception, and without harm to a neighbour.

The kind: a stream that is counted although its request has ended, a connection that no other request can use, a
neighbour on the same connection that is ended as well. Asked at each turn of the event loop, over a connection that is
being made and over a kept one.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from tests.adapters.cancelling import UNASKED, WAYS, Side, alive, sides, turns
from tests.adapters.conftest import aio_world, balance, in_flight
from tests.adapters.world import AioWorld
from tests.faults.http2_pod import Pod, Told
from tests.waiting import until

__all__ = ["aio_world", "balance"]

TURNS = 24


def answering(told: Told) -> None:
    """/whole is answered, /half in part, all else never."""
    if told.path == "/whole":
        told.answer()
    elif told.path == "/half":
        told.headers(200)  # of a length that is not known, so that the headers are handed over
        told.data(b"half")


@pytest.fixture
def pod() -> Iterator[Pod]:
    made = Pod(answering)
    yield made
    made.close()


def shells(side: Side) -> list[Any]:
    connections = [each._connection for pool in side.pools() for each in pool.connections]
    return [each for each in connections if each is not None]


def left(side: Side) -> list[str]:
    """What is lost in the pool, and connections that count a stream, or have it, although there is no request."""
    busy = [each for each in shells(side) if each._machine.streams or each._machine.newcomers or each._machine.running]
    return side.lost() + [each.info() for each in busy]


async def quiet(side: Side) -> bool:
    """Whether all is written soon (RST_STREAM is, in turns of its own), and nothing runs but what reads."""
    for _ in range(4000):
        if {*alive()} == {each._reader for each in shells(side)}:
            return True
        await asyncio.sleep(0.005)
    return False


async def over_a_kept_one(side: Side, way: Any, path: str, ours: bool) -> list[str]:
    found = []
    for turn in range(TURNS):
        assert (await side.client.get(f"{side.url}/whole")).text == "ok"
        found.append(await way(lambda: side.client.get(side.url + path), turn))
        if ours:
            assert left(side) == [], f"{way.__name__}, turn {turn}"
            assert await quiet(side)
    return found


@pytest.mark.parametrize("path", ["/never", "/half"])
@pytest.mark.parametrize("way", WAYS)
def test_at_each_turn_as_with_the_bare_client(aio_world: AioWorld, balance, pod: Pod, way: Any, path: str) -> None:
    """Before the headers and in the body, over the same connection to the last."""
    lb = balance(pod)
    bare, balanced = sides(aio_world, pod, lb, http2=True, timeout=30.0)
    ours = aio_world.run(over_a_kept_one(balanced, way, path, True))
    assert pod.accepted == 1
    assert in_flight(lb) == 0
    assert until(lambda: all(told.reset == 8 for told in pod.all_told() if told.path == path))  # CANCEL
    theirs = aio_world.run(over_a_kept_one(bare, way, path, False))
    for side in (bare, balanced):
        aio_world.close(side.client)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == other or UNASKED in {mine, other}


@pytest.mark.parametrize("way", WAYS)
def test_while_connecting(aio_world: AioWorld, balance, pod: Pod, way: Any) -> None:
    """Others wait for the same connection: they get it, or make another one."""
    lb = balance(pod)

    async def one(side: Side, turn: int, neighbours: int) -> str:
        cancelled = asyncio.ensure_future(way(lambda: side.client.get(f"{side.url}/never"), turn))
        others = [asyncio.ensure_future(side.client.get(f"{side.url}/whole")) for _ in range(neighbours)]
        end = await cancelled
        for other in others:
            assert (await asyncio.wait_for(other, 20)).text == "ok"
        return end

    async def each_turn(ours: bool) -> list[str]:
        found = []
        for turn in range(TURNS):
            side = sides(aio_world, pod, lb, http2=True, timeout=30.0)[ours]
            found.append(await one(side, turn, 3 * ours))
            if ours:
                assert left(side) == [], turn
                assert await quiet(side)
                assert in_flight(lb) == 0
            await side.client.aclose()
            assert not ours or alive() == []
        return found

    ours = aio_world.run(each_turn(True))
    assert until(lambda: not pod.links, 10.0)
    theirs = aio_world.run(each_turn(False))
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == other or UNASKED in {mine, other}


@pytest.mark.parametrize("way", WAYS)
def test_a_neighbour_goes_on(aio_world: AioWorld, balance, pod: Pod, way: Any) -> None:
    """In the middle of its body all the time, on the same connection; and it gets its body whole."""
    lb = balance(pod)
    _, side = sides(aio_world, pod, lb, http2=True, timeout=30.0)

    async def both() -> bytes:
        assert (await side.client.get(f"{side.url}/whole")).text == "ok"
        neighbour = await side.client.send(side.client.build_request("GET", f"{side.url}/half"), stream=True)
        told = next(told for told in pod.all_told() if told.path == "/half")
        reading = asyncio.ensure_future(neighbour.aread())
        for path in ("/never", "/half"):
            for turn in range(TURNS):
                end = await way(lambda path=path: side.client.get(side.url + path), turn)
                assert not end.startswith("late"), f"{path}, turn {turn}"
        assert not reading.done()
        assert in_flight(lb) == 1
        told.data(b"+whole", end=True)
        whole: bytes = await asyncio.wait_for(reading, 20)
        assert left(side) == []
        assert await quiet(side)
        return whole

    assert aio_world.run(both()) == b"half+whole"
    assert pod.accepted == 1
    aio_world.close(side.client)


class Full:
    """A socket that takes nothing, because its peer reads nothing; closing it ends what is being written there."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._closed = asyncio.Event()

    async def read(self, *options: Any) -> Any:
        return await self._socket.read(*options)

    async def write(self, *_: Any) -> None:
        await self._closed.wait()
        raise OSError("it was closed")

    async def aclose(self) -> None:
        self._closed.set()
        await self._socket.aclose()


@pytest.mark.parametrize("turn", range(1, 5))
def test_a_close_that_is_cancelled_while_its_peer_reads_nothing(
    aio_world: AioWorld, balance, pod: Pod, turn: int
) -> None:
    """It waits a moment for its last words to be written; cancelled there, it closes the socket all the same."""
    lb = balance(pod)
    _, side = sides(aio_world, pod, lb, http2=True, timeout=30.0)

    async def closed() -> None:
        assert (await side.client.get(f"{side.url}/whole")).text == "ok"
        ((connection,),) = (pool.connections for pool in side.pools())
        connection._connection._network = Full(connection._connection._network)
        task = asyncio.ensure_future(connection.aclose())
        await turns(turn)
        assert task.cancel()
        await asyncio.wait([task], timeout=5)
        assert task.cancelled()
        await turns(20)
        assert alive() == []

    aio_world.run(closed())
    assert until(lambda: not pod.links, 10.0)
    aio_world.close(side.client)
