"""Thousands of random ends, in threads and tasks: nothing in flight, nothing running, nothing open."""

import asyncio
import gc
import os
import random
import threading
import time

import pytest
from tests.adapters.conftest import in_flight
from tests.adapters.world import AioWorld, World
from tests.waiting import until

from kubelb.testing import LocalCluster

STREAM = "http://reviews.prod/stream?chunks=3&delay=0.001"
URL = "http://reviews.prod/"


def trouble(backends) -> None:
    backends[0].slow(0.003)
    backends[1].fail(503, times=300)
    backends[2].truncate(times=300)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_threads(sync_world: World, service, balance) -> None:
    """2000 calls from 8 threads that end well, badly, early, late or never."""
    backends = service(4)
    trouble(backends)
    lb = balance(*backends)
    client = sync_world.client(lb)

    def work(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(250):
            try:
                way = dice.random()
                if way < 0.3:
                    client.get(URL, timeout=dice.choice([0.002, 1.0]))
                elif way < 0.5:
                    client.post(URL, json={"x": 1})
                elif way < 0.7:
                    with client.stream("GET", STREAM) as response:
                        for _part in response.iter_raw():
                            if dice.random() < 0.5:
                                break
                elif way < 0.85:
                    with client.stream("GET", STREAM):
                        raise KeyError("the caller's own")
                else:
                    client.send(client.build_request("GET", STREAM), stream=True)
            except (sync_world.httpx.TransportError, KeyError):
                pass

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert in_flight(lb) == 0


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_tasks(aio_world: AioWorld, service, balance) -> None:
    """3000 tasks, a third of them cancelled at any moment; no task is left, and no connection after the client."""
    backends = service(4)
    trouble(backends)
    lb = balance(*backends)
    client = aio_world.client(lb)

    async def one(dice: random.Random) -> None:
        way = dice.random()
        if way < 0.4:
            await client.get(URL, timeout=dice.choice([0.002, 1.0]))
        elif way < 0.7:
            async with client.stream("GET", STREAM) as response:
                async for _part in response.aiter_raw():
                    if dice.random() < 0.3:
                        break
        elif way < 0.8:
            await client.send(client.build_request("GET", STREAM), stream=True)
        else:
            await client.post(URL, json={"x": 1})

    async def storm() -> int:
        dice = random.Random(5)
        cancelled = 0
        for _ in range(60):
            tasks = [asyncio.ensure_future(one(dice)) for _ in range(50)]
            for task in tasks:
                if dice.random() < 0.35:
                    asyncio.get_running_loop().call_later(dice.random() * 0.05, task.cancel)
            for end in await asyncio.gather(*tasks, return_exceptions=True):
                cancelled += isinstance(end, asyncio.CancelledError)
                assert end is None or isinstance(end, asyncio.CancelledError | aio_world.httpx.TransportError), end
        return cancelled

    assert aio_world.run(storm()) > 200
    gc.collect()
    aio_world.breathe(0.05)
    assert in_flight(lb) == 0
    aio_world.close(client)
    assert until(lambda: sum(backend.connections for backend in backends) == 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_fork_after_use(sync_world: World, balance) -> None:
    """A child opens connections of its own; the parent's, which it inherited, are as they were."""
    with LocalCluster() as cluster:
        backends = cluster.service("forked.prod", replicas=2)
        lb = balance(*backends)
        client = sync_world.client(lb)
        with client.stream("GET", STREAM.replace("0.001", "0.1")) as response:
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    fresh = in_flight(lb) == 0
                    code = 0 if fresh and all(client.get(URL).status_code == 200 for _ in range(20)) else 2
                finally:
                    os._exit(code)
            assert os.waitpid(child, 0)[1] == 0
            assert len(b"".join(response.iter_raw())) > 0
        assert all(client.get(URL).status_code == 200 for _ in range(20))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_idle_connections_stay_the_parents(sync_world: World, raw, balance) -> None:
    """A child that comes after requests uses none of the connections that they left; the parent goes on with them."""
    servers = raw(), raw()
    client = sync_world.client(balance(*servers, policy="round_robin"))
    assert [sync_world.get(client, URL).status_code for _ in range(2)] == [200, 200]
    assert [server.accepted for server in servers] == [1, 1]
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if all(sync_world.get(client, URL).status_code == 200 for _ in range(4)) else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert [server.accepted for server in servers] == [2, 2]
    assert [sync_world.get(client, URL).status_code for _ in range(2)] == [200, 200]
    assert [server.accepted for server in servers] == [2, 2]


@pytest.mark.slow
def test_one_dead_pod_of_three(world: World, service, balance) -> None:
    """1000 calls see no error, and fewer than ten tries are wasted on the dead one."""
    backends = service(3)
    lb = balance(*backends)
    client = world.client(lb)
    backends[0].kill()
    began = time.monotonic()
    assert {world.get(client, URL).status_code for _ in range(1000)} == {200}
    dead = next(view for view in lb.endpoints() if view.address == backends[0].address)
    assert dead.failures < 10
    assert time.monotonic() - began < 30


@pytest.mark.slow
def test_a_pod_that_fails_fast_gets_no_more_than_its_share(world: World, service, balance) -> None:
    """503 in a millisecond looks quick; failures are charged, so it is not preferred."""
    backends = service(5)
    backends[2].fail(503)
    lb = balance(*backends, outliers=None)
    client = world.client(lb)
    assert {world.get(client, URL).status_code for _ in range(300)} == {200}
    failing = next(view for view in lb.endpoints() if view.address == backends[2].address)
    assert failing.picks < 60
