"""Kind: a wait for what is there already. The core may pass over what is connected (it rests, it is ejected), and what
else there is has no connection yet: picks are repeated at a pace, and at once when a connection is made."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import pytest
from tests.adapters_grpc.aio_kit import by_stream as aio_stream
from tests.adapters_grpc.aio_kit import on_loop
from tests.adapters_grpc.aio_kit import one as aio_one
from tests.adapters_grpc.conftest import until
from tests.adapters_grpc.test_failures import by_future, by_stream, one

import kubelb
from kubelb.adapters import grpc as balanced
from kubelb.adapters._grpc.aio.waiting import AioWaiting
from kubelb.adapters._grpc.shared.subchannel import CONNECTING, FAILING, READY
from kubelb.adapters._grpc.shared.subchannels import POLL, SubChannels
from kubelb.adapters._grpc.sync.waiting import Waiting
from kubelb.adapters.grpc import aio
from kubelb.core import Balancer
from kubelb.core.refusal import Unconnected
from kubelb.model import Endpoint, Snapshot
from kubelb.service import service_of

WAIT = 0.3
MOST = 2 * WAIT / POLL[1] + 9
"""Picks in that time: one for each row of looks. A stream picks as it looks, with shorter ones at first."""


class World:
    """A is connected; B, which `b` tells of, is not. The clock stands still."""

    def __init__(self, kind: Any = Waiting, patient: bool = False) -> None:
        self.now = 0.0
        self.b = CONNECTING
        balancer = Balancer("round_robin", clock=lambda: self.now)
        balancer.update(Snapshot(1, (Endpoint("10.0.0.1", 80), Endpoint("10.0.0.2", 80))))
        subs = SubChannels(balancer, self.make, lambda channel: None, lambda: 0, RuntimeError)
        subs.connect()
        lb: Any = SimpleNamespace(balancer=balancer, feed=lambda: None)
        self.waiting = kind(lb, subs, patient=patient)
        self.balancer = balancer

    def make(self, state: Any) -> Any:
        return object(), lambda connect: READY if state.endpoint.ip == "10.0.0.1" else self.b


@pytest.mark.parametrize("patient", [False, True])
@pytest.mark.parametrize("b", [CONNECTING, FAILING])
def test_what_was_ready_is_no_news(patient: bool, b: Any) -> None:
    """Another pick is worth it when one more is connected, or when some looks were in vain."""
    world = World(patient=patient)
    world.b = b
    over = world.waiting.question(world.balancer.version)
    assert not over()
    world.now += POLL[1] / 4
    assert not over()
    world.b = READY
    assert over()
    world.b = b
    assert not over()
    world.now += POLL[1]
    assert over()
    over = world.waiting.question(world.balancer.version)
    assert not over()
    world.balancer.update(Snapshot(2, (Endpoint("10.0.0.1", 80),)))
    assert over()


def test_a_thread_paces_its_picks() -> None:
    """A wait of this clock's never ends by itself: it blocks until a connection is made, and then at once."""
    world = World()
    waited = threading.Event()

    def wait() -> None:
        world.waiting.wait(world.balancer.version, 20.0)
        waited.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert not waited.wait(0.05)
    world.b = READY
    assert waited.wait(20)
    thread.join()


@on_loop
async def test_so_does_a_task() -> None:
    """The same."""
    world = World(AioWaiting)
    waiting = asyncio.ensure_future(world.waiting.wait(world.balancer.version, 20.0))
    assert not (await asyncio.wait([waiting], timeout=0.05))[0]
    world.b = READY
    assert (await asyncio.wait([waiting], timeout=20))[0]


def choosy(lb: Any, monkeypatch: Any) -> list[int]:
    """From now on no pick finds anything; returns what counts them."""
    picks = [0]

    def pick(*_: Any) -> Any:
        picks[0] += 1
        raise Unconnected("it", "rests")

    monkeypatch.setattr(service_of(lb).balancer, "pick", pick)
    return picks


@pytest.mark.parametrize("patient", [False, True])
@pytest.mark.parametrize("way", [one, by_future, by_stream])
def test_calls_pace_their_picks(server: Any, balance: Any, monkeypatch: Any, way: Any, patient: bool) -> None:
    """A whole call beside a connection that is ready: some picks, then the refusal."""
    lb = balance(server(), ready_timeout=WAIT)
    with balanced.insecure_channel(lb) as channel:
        assert until(lambda: channel.subs.connectivity() is grpc.ChannelConnectivity.READY)
        picks = choosy(lb, monkeypatch)
        with pytest.raises((kubelb.NotReady, kubelb.DeadlineExceeded)):
            way(channel, timeout=WAIT if patient else 20, wait_for_ready=patient)
        assert picks[0] <= MOST


@pytest.mark.parametrize("patient", [False, True])
@pytest.mark.parametrize("way", [aio_one, aio_stream])
@on_loop
async def test_calls_of_asyncio_too(server: Any, balance: Any, monkeypatch: Any, way: Any, patient: bool) -> None:
    """The same."""
    lb = balance(server(), ready_timeout=WAIT)
    async with aio.insecure_channel(lb) as channel:
        await channel.channel_ready()
        picks = choosy(lb, monkeypatch)
        with pytest.raises((kubelb.NotReady, kubelb.DeadlineExceeded)):
            await way(channel, timeout=WAIT if patient else 20, wait_for_ready=patient)
        assert picks[0] <= MOST
