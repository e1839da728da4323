"""Storms of short timeouts, cancellations and a loop that stalls: the bare client's ends, and nothing is left."""

import asyncio
import gc
import random
import ssl
import time
from collections import Counter
from typing import Any

import anyio
import pytest
import trustme
from tests.adapters.cancelling import Side, named, sides, turns
from tests.adapters.conftest import in_flight
from tests.adapters.raw import OK, Peer
from tests.adapters.world import AioWorld
from tests.waiting import until

CREW = 24
TIMEOUTS = (0.005, 0.01, 0.02, 0.05, 0.1)
STALLS = (0.0, 0.0, 0.02, 0.1, 0.3)
"""Seconds for which the loop is blocked in a round; 2 s once in a storm."""
ENDS = {"200", "ConnectTimeout", "PoolTimeout", "ReadTimeout", "WriteTimeout"}


def at_times_slow(peer: Peer) -> None:
    dice = random.Random(peer.server.accepted)
    while True:
        peer.request()
        if dice.random() < 0.2:
            time.sleep(dice.random() * 0.1)
        peer.send(OK)


async def request(side: Side, way: str, seconds: float) -> Any:
    """One GET whose time the client bounds, or asyncio, or anyio."""
    if way == "client":
        return await side.client.get(side.url, timeout=seconds)
    if way == "asyncio":
        async with asyncio.timeout(seconds):
            return await side.client.get(side.url)
    if way == "wait_for":
        return await asyncio.wait_for(side.client.get(side.url), seconds)
    with anyio.fail_after(seconds):
        return await side.client.get(side.url)


async def storm(side: Side, seed: int, rounds: int, cancelling: float) -> dict[str, Counter[str]]:
    """The ends of its requests, by what could end them."""
    dice = random.Random(seed)
    ends: dict[str, Counter[str]] = {way: Counter() for way in ("client", "asyncio", "wait_for", "anyio")}

    async def one(way: str, seconds: float) -> None:
        try:
            ends[way][str((await request(side, way, seconds)).status_code)] += 1
        except (Exception, asyncio.CancelledError) as error:
            ends[way][named(error)] += 1
            if isinstance(error, asyncio.CancelledError) and asyncio.current_task() not in asked:
                ends[way]["cancelled by nobody"] += 1

    asked: set[asyncio.Task[Any] | None] = set()
    stalls = [dice.choice(STALLS) for _ in range(rounds)]
    stalls[rounds // 2] = 2.0
    for stall in stalls:
        tasks = [asyncio.ensure_future(one(dice.choice([*ends]), dice.choice(TIMEOUTS))) for _ in range(CREW)]
        await turns(dice.randrange(14))
        for task in tasks:
            if dice.random() < cancelling:
                asked.add(task)
                for _ in range(dice.choice((1, 1, 2))):
                    asyncio.get_running_loop().call_later(dice.random() * 0.02, task.cancel)
        time.sleep(stall)  # noqa: ASYNC251  # as callers do
        assert await asyncio.wait_for(asyncio.wait(tasks), 20) is not None
        await turns(5)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert side.lost() == []
    return ends


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.mark.slow
@pytest.mark.heavy
@pytest.mark.timeout(180)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sockets that the bare client loses
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("cancelling", [0.0, 0.3], ids=["no cancels", "cancels"])
def test_as_the_bare_client(
    aio_world: AioWorld, raw, balance, authority: trustme.CA, tls: bool, cancelling: float
) -> None:
    """24 at a time. What ends a request is what was asked to: the client's timeout, asyncio's, anyio's, a cancel."""
    serving = trusting = None
    if tls:
        serving, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
        authority.issue_cert("reviews.prod", "127.0.0.1").configure_cert(serving)
        authority.configure_trust(trusting)
    server = raw(at_times_slow, tls=serving)
    lb = balance(server)
    bare, balanced = sides(aio_world, server, lb, trusting)
    gc.disable()  # it would close what is lost
    try:
        ours = aio_world.run(storm(balanced, 11, 10, cancelling))
        assert in_flight(lb) == 0
        aio_world.close(balanced.client)
        assert until(lambda: server.open == 0, 5.0)
    finally:
        gc.enable()
    theirs = aio_world.run(storm(bare._replace(pools=list), 11, 10, cancelling))  # what that loses is its own affair
    aio_world.close(bare.client)
    for way, ends in ours.items():
        asked = {"TimeoutError": way != "client", "CancelledError": cancelling > 0}
        allowed = ENDS | {name for name, may_be in asked.items() if may_be}
        assert set(ends) <= allowed, ours
        assert set(theirs[way]) <= allowed, theirs
        assert sum(ends.values()) == sum(theirs[way].values())
