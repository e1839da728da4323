"""Ctrl-C and cancellation in mid-request: nothing in flight, no connection used again, no socket left."""

import asyncio
import gc
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.adapters.conftest import in_flight, state
from tests.adapters.raw import Peer, blackhole, half, serve
from tests.adapters.world import AioWorld, World
from tests.waiting import until

URL = "http://reviews.prod/"
PHASES = ["connect", "headers", "body"]
LEFT = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""The standard library's `socket.create_connection` leaves an interrupted socket to the collector."""


def hang(peer: Peer) -> None:
    peer.request()
    peer.hang()


@pytest.fixture
def hole() -> Iterator[str]:
    with blackhole() as address:
        yield address


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals to threads on this system")
@pytest.mark.parametrize("phase", [pytest.param("connect", marks=LEFT), "headers", "body"])
def test_ctrl_c(sync_world: World, raw, balance, hole: str, phase: str) -> None:
    """KeyboardInterrupt reaches the caller at once, blames nobody, and the next request has a new connection."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread only")
    server = raw(half if phase == "body" else hang, serve)
    place = hole if phase == "connect" else server
    lb = balance(place)
    client = sync_world.client(lb, timeout=20.0)
    ended = threading.Event()

    def press() -> None:
        """In mid-request; the connect ends by itself after a second."""
        if until(lambda: in_flight(lb) and (phase == "connect" or server.delivered), 20.0):
            time.sleep(0.2)
        if not ended.is_set():
            signal.pthread_kill(main, signal.SIGINT)

    main = threading.main_thread().ident or 0
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    presser = threading.Thread(target=press)
    try:
        presser.start()
        with pytest.raises(KeyboardInterrupt):
            client.get(URL)
        ended.set()
    finally:
        presser.join(30)
        signal.signal(signal.SIGINT, before)
    assert in_flight(lb) == 0
    assert state(lb, place).failures == 0
    if phase != "connect":
        assert until(lambda: server.open == 0)
        assert client.get(URL).status_code == 200
        assert server.accepted == 2


@pytest.mark.parametrize("phase", PHASES)
def test_a_cancelled_task(aio_world: AioWorld, raw, balance, hole: str, phase: str) -> None:
    """Nothing in flight, nobody is blamed, the connection is closed, and the next request has a new one."""
    server = raw(half if phase == "body" else hang, serve)
    place = hole if phase == "connect" else server
    lb = balance(place)
    client = aio_world.client(lb, timeout=20.0)

    async def cancelled() -> Any:
        task = asyncio.ensure_future(client.get(URL))
        begun = await asyncio.to_thread(until, lambda: in_flight(lb) and (phase == "connect" or server.delivered), 20.0)
        assert begun
        await asyncio.sleep(0.1)
        task.cancel()
        return (await asyncio.gather(task, return_exceptions=True))[0]

    assert isinstance(aio_world.run(cancelled()), asyncio.CancelledError)
    gc.collect()  # a socket that is left would warn, and warnings are errors
    assert in_flight(lb) == 0
    assert state(lb, place).failures == 0
    if phase != "connect":
        assert until(lambda: server.open == 0)
        assert aio_world.get(client, URL).status_code == 200
        assert server.accepted == 2


def test_a_task_whose_time_is_over(aio_world: AioWorld, raw, balance) -> None:
    """`asyncio.timeout` around a request is a cancellation: the caller's TimeoutError, and no second try."""
    servers = [raw(hang), raw(hang)]
    lb = balance(*servers)
    client = aio_world.client(lb, timeout=20.0)

    async def late() -> None:
        async with asyncio.timeout(0.3):
            await client.get(URL)

    with pytest.raises(TimeoutError):
        aio_world.run(late())
    assert in_flight(lb) == 0
    assert sum(server.delivered for server in servers) <= 1
    assert until(lambda: sum(server.open for server in servers) == 0)
