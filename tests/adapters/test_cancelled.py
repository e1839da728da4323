"""A cancellation belongs to the one that asked for it: nobody else is given it, and it ends what it was meant for.

The kind: httpcore's timeouts are cancel scopes of anyio's, which cancel the task they are in; taken for the caller's
they made requests that no cancel could end, cancellations that nobody had asked for, and cancels that waited for the
server. So each case here is asked of the bare client, too, in the same test, and kubelb's end is the same.
"""

import asyncio
import gc
import ssl
import time
from typing import Any

import pytest
import trustme
from tests.adapters.cancelling import SOON, UNASKED, WAYS, alive, answering, sides, turns
from tests.adapters.conftest import in_flight
from tests.adapters.raw import Peer, serve
from tests.adapters.world import AioWorld
from tests.waiting import until

TURNS = 30
"""More than a request has before it waits for the server."""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def contexts(authority: trustme.CA) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    serving, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("reviews.prod", "127.0.0.1").configure_cert(serving)
    authority.configure_trust(trusting)
    return serving, trusting


@pytest.mark.parametrize("path", ["/never", "/half"])
@pytest.mark.parametrize("way", WAYS)
def test_at_each_turn_as_with_the_bare_client(aio_world: AioWorld, raw, balance, way: Any, path: str) -> None:
    """Before the headers and in the body, over a new connection and over a kept one."""
    compare(aio_world, way, path, raw(answering), raw(answering), balance)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # what the bare client loses
@pytest.mark.parametrize("way", WAYS)
def test_at_each_turn_with_tls(aio_world: AioWorld, raw, balance, authority: trustme.CA, way: Any) -> None:
    """The handshake has turns of its own."""
    serving, trusting = contexts(authority)
    compare(aio_world, way, "/never", raw(answering, tls=serving), raw(answering, tls=serving), balance, trusting)


def compare(
    world: AioWorld, way: Any, path: str, of_bare: Any, of_ours: Any, balance: Any, tls: ssl.SSLContext | None = None
) -> None:
    lb = balance(of_ours)
    bare, _ = sides(world, of_bare, lb, tls, timeout=30.0)
    _, balanced = sides(world, of_ours, lb, tls, timeout=30.0)

    async def ends(side: Any) -> list[str]:
        found = []
        for kept in (False, True):
            for turn in range(TURNS):
                if kept:
                    assert (await side.client.get(f"{side.url}/whole")).text == "ok"
                found.append(await way(lambda: side.client.get(side.url + path), turn))
                if side is balanced:
                    assert side.lost() == [], f"{way.__name__}, turn {turn}, kept {kept}"
                    assert in_flight(lb) == 0
                    assert alive() == []
        return found

    gc.disable()  # it would close what is lost
    try:
        ours = world.run(ends(balanced))
        world.close(balanced.client)
        assert until(lambda: of_ours.open == 0)
    finally:
        gc.enable()
    for mine, theirs in zip(ours, world.run(ends(bare)), strict=True):
        assert mine == theirs or UNASKED in {mine, theirs}
    world.close(bare.client)


@pytest.mark.parametrize("phase", ["write", "read", "pool"])
def test_a_timeout_that_is_over_when_it_begins(aio_world: AioWorld, raw, balance, phase: str) -> None:
    """It ends the request with the bare client's exception, however soon, and a cancel would, too."""
    server = raw(answering)
    lb = balance(server)
    timeout = aio_world.httpx.Timeout(5, **{phase: 1e-9})

    async def end(side: Any) -> str:
        try:
            return str((await asyncio.wait_for(side.client.get(f"{side.url}/never"), 10)).status_code)
        except Exception as error:
            return type(error).__name__

    limits = aio_world.httpx.Limits(max_connections=1)
    bare, balanced = sides(aio_world, server, lb, limits=limits, timeout=timeout)

    async def behind_another(side: Any) -> str:
        """Where the pool is full, waiting for it is all that there is to do."""
        held = await side.client.send(side.client.build_request("GET", f"{side.url}/half"), stream=True)
        try:
            return await end(side)
        finally:
            await held.aclose()

    ask = behind_another if phase == "pool" else end
    assert aio_world.run(ask(balanced)) == aio_world.run(ask(bare)) == f"{phase.title()}Timeout"
    assert balanced.lost() == []
    for side in (bare, balanced):
        aio_world.close(side.client)


@pytest.mark.slow
def test_a_loop_that_stalls_cancels_nobody(aio_world: AioWorld, raw, balance) -> None:
    """Nobody cancels, but the caller blocks the loop for longer than it takes to connect, at any turn of a request."""
    server = raw(serve)
    lb = balance(server)
    timeout = aio_world.httpx.Timeout(5, connect=0.1)

    async def end(side: Any, turn: int) -> str:
        task = asyncio.ensure_future(side.client.get(side.url))
        await turns(turn)
        time.sleep(0.15)  # noqa: ASYNC251  # as callers do
        try:
            return str((await task).status_code)
        except (Exception, asyncio.CancelledError) as error:
            return type(error).__name__

    for turn in range(14):
        bare, balanced = sides(aio_world, server, lb, timeout=timeout)
        assert aio_world.run(end(balanced, turn)) in {"200", aio_world.run(end(bare, turn))}
        assert balanced.lost() == []
        for side in (bare, balanced):
            aio_world.close(side.client)


@pytest.mark.parametrize("turn", range(0, 24, 3))
def test_in_the_attempt_flow(aio_world: AioWorld, raw, balance, turn: int) -> None:
    """Between and in the attempts of one call: the first pod says 503, the others say nothing."""

    def refusing(peer: Peer) -> None:
        while True:
            peer.request()
            peer.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy")

    servers = [raw(refusing), raw(answering)]
    lb = balance(*servers, policy="round_robin")
    _, balanced = sides(aio_world, servers[0], lb, timeout=30.0)

    async def ends() -> None:
        for way in WAYS:
            for extra in (0, 40):  # the first attempt alone has so many turns
                end = await way(lambda: balanced.client.get(f"{balanced.url}/never"), turn + extra)
                assert not end.startswith("late"), f"{way.__name__}, turn {turn + extra}"
                assert balanced.lost() == []
                assert in_flight(lb) == 0
                assert alive() == []

    aio_world.run(ends())
    aio_world.close(balanced.client)


@pytest.mark.parametrize("turn", range(1, 12))
def test_a_close_that_is_cancelled_closes_all_the_same(aio_world: AioWorld, raw, balance, turn: int) -> None:
    """Idle connections, busy ones and dropped ones, of several pods; and it says that it was cancelled."""
    servers = [raw(answering) for _ in range(3)]
    lb = balance(*servers, policy="round_robin")
    _, balanced = sides(aio_world, servers[0], lb)
    transport = balanced.client._transport

    async def closed() -> tuple[bool, bool]:
        for path in ("/whole",) * 3 + ("/half",) * 6:
            request = balanced.client.build_request("GET", balanced.url + path)
            response = await balanced.client.send(request, stream=path == "/half")
        del response
        gc.collect()
        task = asyncio.ensure_future(transport.aclose())
        await turns(turn)
        asked = task.cancel()
        await turns(2)
        task.cancel()
        await asyncio.wait([task], timeout=5)
        return asked, task.cancelled()

    asked, cancelled = aio_world.run(closed())
    assert cancelled == asked
    aio_world.breathe()
    assert until(lambda: sum(server.open for server in servers) == 0)
    aio_world.close(balanced.client)


def test_what_queues_for_a_lost_connection_gets_its_place(aio_world: AioWorld, raw, balance) -> None:
    """A caller's scope that ends between connecting and the first use loses that connection, in httpcore itself."""
    server = raw(answering)
    lb = balance(server)
    limits = aio_world.httpx.Limits(max_connections=1)
    _, balanced = sides(aio_world, server, lb, limits=limits, timeout=20.0)

    async def ends() -> None:
        for way in WAYS:
            for turn in range(24):
                first = asyncio.ensure_future(way(lambda: balanced.client.get(f"{balanced.url}/never"), turn))
                second = asyncio.ensure_future(balanced.client.get(f"{balanced.url}/whole"))
                assert not (await first).startswith("late")
                assert (await second).text == "ok"
                assert balanced.lost() == []

    aio_world.run(ends())
    aio_world.close(balanced.client)
    assert SOON > TURNS
