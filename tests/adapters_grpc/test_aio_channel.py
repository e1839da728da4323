"""The asyncio channel as a whole: pods that come and go, two event loops, forks."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.adapters_grpc.aio_kit import each_way, eventually, on_loop, one
from tests.adapters_grpc.conftest import in_flight
from tests.adapters_grpc.test_aio_calls import all_ready

import kubelb
from kubelb.adapters.grpc import aio
from kubelb.testing import LocalCluster

ECHO = "/kubelb.testing.Echo/Unary"
STREAM = "/kubelb.testing.Echo/ServerStream"


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as cluster:
        yield cluster


@pytest.fixture
def pods(cluster: LocalCluster) -> Iterator[Any]:
    """A service of three gRPC pods."""
    service = cluster.service("reviews.prod:grpc", replicas=3, grpc=True)
    yield service
    cluster.delete_service(service)


@asynccontextmanager
async def channel_to(cluster: LocalCluster, **options: Any) -> AsyncIterator[Any]:
    """A channel over them, by way of EndpointSlices; in the end nothing is in flight."""
    lb = kubelb.LoadBalancer(
        "reviews.prod:grpc",
        discovery=kubelb.DiscoveryOptions(kubeconfig=cluster.kubeconfig),
        policy="round_robin",
        ready_timeout=20,
    )
    async with lb, aio.insecure_channel(lb, **options) as channel:
        yield channel
        assert await eventually(lambda: in_flight(lb) == 0)


@pytest.mark.slow
@on_loop
async def test_the_first_call_finds_the_pods(cluster: LocalCluster, pods: Any) -> None:
    """Discovery, connecting and the call itself; then every pod gets its share."""
    async with channel_to(cluster) as channel:
        echo = channel.unary_unary(ECHO)
        assert await echo(b"x", timeout=20) == b"x"
        assert await eventually(lambda: all_ready(channel, 3))
        for pod in pods:
            pod.clear()
        for _ in range(30):
            assert await echo(b"x") == b"x"
        assert [pod.requests for pod in pods] == [10, 10, 10]
        assert [pod.connections for pod in pods] == [1, 1, 1]


@pytest.mark.slow
@on_loop
async def test_pods_that_come_and_go(cluster: LocalCluster, pods: Any) -> None:
    """New ones are connected before they are picked; one that leaves finishes its streams and is let go then."""
    async with channel_to(cluster) as channel:
        await channel.unary_unary(ECHO)(b"x", timeout=20)
        await asyncio.to_thread(pods.scale, 4)
        assert await eventually(lambda: all_ready(channel, 4))
        leaving = pods[0]
        asked = (("x-messages", "3"), ("x-delay", "0.1"))
        streams = [channel.unary_stream(STREAM)(b"x", metadata=asked, timeout=30) for _ in range(8)]
        firsts = [await stream.read() for stream in streams]
        assert leaving.in_flight
        drained = asyncio.ensure_future(asyncio.to_thread(leaving.drain, grace=1.0))
        assert await eventually(lambda: leaving.state == "terminating")
        rests = [[message async for message in reading(stream)] for stream in streams]
        assert firsts == [b"x"] * 8
        assert rests == [[b"x", b"x"]] * 8
        await drained
        assert await eventually(lambda: len(channel.subs) == 3)
        assert not channel.subs.leaving
        assert all(len(calling.bound) <= 3 for calling in channel._kept.values())
        await asyncio.to_thread(pods.scale, 3)
        for _ in range(6):
            assert await channel.unary_unary(ECHO)(b"x", timeout=20) == b"x"


async def reading(call: Any) -> AsyncIterator[bytes]:
    while (message := await call.read()) is not grpc.aio.EOF:
        yield message


async def under_load(channel: Any, trouble: Any) -> int:
    """Have calls made by four tasks while something happens in a thread; returns how many, all of which went well."""
    echo = channel.unary_unary(ECHO)
    await echo(b"x", timeout=20)
    happening = asyncio.ensure_future(asyncio.to_thread(trouble))
    count = 0

    async def load() -> None:
        nonlocal count
        while not happening.done():
            assert await echo(b"x", timeout=20) == b"x"
            count += 1
            await asyncio.sleep(0.001)

    await asyncio.gather(*(load() for _ in range(4)))
    await happening
    return count


@pytest.mark.slow
@on_loop
async def test_rolling_restarts_are_invisible(cluster: LocalCluster, pods: Any) -> None:
    """Every pod replaced under load, with calls that must not be repeated: no error."""
    async with channel_to(cluster) as channel:
        assert await under_load(channel, lambda: pods.rolling_restart(grace=0.3)) > 50


@pytest.mark.slow
@on_loop
async def test_kills_are_invisible_to_what_may_be_repeated(cluster: LocalCluster, pods: Any) -> None:
    """Pods die in mid-call, one after another, and come back."""

    def kill() -> None:
        for pod in pods:
            count = pod.requests
            pod.slow(0.01)
            while pod.requests < count + 3:
                threading.Event().wait(0.005)
            pod.kill()
            threading.Event().wait(0.2)
            pod.heal()
            while not pod.connections:
                threading.Event().wait(0.005)

    async with channel_to(cluster, idempotent=True) as channel:
        assert await under_load(channel, kill) > 20


@pytest.mark.parametrize("way", each_way)
def test_two_event_loops(server: Any, balance: Any, way: Any) -> None:
    """Both running: the second is refused, in words that say what to do, and the first does not notice."""
    lb = balance(server())
    channel = aio.insecure_channel(lb)
    begun, over = threading.Event(), threading.Event()
    found: list[Any] = []

    async def first() -> None:
        assert await way(channel, timeout=20)
        begun.set()
        while not over.is_set():
            found.append(await one(channel, timeout=20))
            await asyncio.sleep(0.001)
        await channel.close()

    async def second() -> None:
        for use in (lambda: way(channel), channel.channel_ready):
            with pytest.raises(RuntimeError, match=r"another event loop.*may share the LoadBalancer"):
                await use()
        async with aio.insecure_channel(lb) as mine:
            assert await way(mine, timeout=20)

    thread = threading.Thread(target=lambda: asyncio.run(first()))
    thread.start()
    try:
        assert begun.wait(20)
        asyncio.run(second())
    finally:
        over.set()
        thread.join(20)
    assert found
    gc.collect()  # grpcio's poller goes by whoever is left


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child(server: Any) -> None:
    """grpc.aio survives no fork: the child is told so, where it would hang or crash; the parent's calls go on."""
    program = Path(__file__).with_name("aio_fork_program.py")
    done = subprocess.run(
        [sys.executable, str(program), server().address], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the parent is well, the child was told\n"
