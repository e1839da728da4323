"""Kind: a channel that is closed from elsewhere than it was used. A module's channel is used in one `asyncio.run` and
closed in another; a thread of its own closes what the loop of the server uses."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from tests.adapters_grpc.aio_kit import one
from tests.adapters_grpc.conftest import until

from kubelb.adapters._grpc.aio import closing as aio_closing
from kubelb.adapters.grpc import aio

CLOSED = grpc.ChannelConnectivity.SHUTDOWN


def is_closed(channel: Any, subs: list[Any]) -> None:
    """All of it, for good; closing again is no error."""
    assert subs
    assert all(sub.channel.get_state() is CLOSED for sub in subs)
    assert channel.get_state() is CLOSED
    asyncio.run(channel.close())
    with pytest.raises(grpc.aio.UsageError, match="Channel is closed"):
        asyncio.run(one(channel))


@pytest.mark.parametrize("grace", [None, 1.0])
@pytest.mark.parametrize("by", ["a load balancer", "a target"])
def test_on_a_later_loop(server: Any, balance: Any, by: str, grace: float | None) -> None:
    """The loop that it was used on is closed."""
    alone = server()
    channel = aio.insecure_channel(balance(alone) if by == "a load balancer" else f"static:///{alone.address}")
    asyncio.run(one(channel))
    subs = list(channel.subs._subs.values())
    asyncio.run(channel.close(grace))
    is_closed(channel, subs)


def test_while_its_own_does_not_run(server: Any, balance: Any) -> None:
    """It is open and stands still, as between two `run_until_complete`."""
    channel = aio.insecure_channel(balance(server()))
    loop = asyncio.new_event_loop()
    loop.run_until_complete(one(channel))
    subs = list(channel.subs._subs.values())
    asyncio.run(channel.close())
    is_closed(channel, subs)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


@pytest.fixture
def beside() -> Iterator[Any]:
    """A loop that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(20)
    loop.close()


def test_beside_its_own(server: Any, balance: Any, beside: Any) -> None:
    """Its own runs in another thread: that is where it is closed, with the grace that calls there are given."""
    alone, hold = server(), threading.Event()
    channel = aio.insecure_channel(balance(alone))
    asyncio.run_coroutine_threadsafe(one(channel), beside).result(20)
    subs = list(channel.subs._subs.values())
    alone.behave = lambda method, context: hold.wait(20)
    call = asyncio.run_coroutine_threadsafe(one(channel), beside)
    assert until(lambda: alone.active == 1)
    threading.Timer(0.1, hold.set).start()
    asyncio.run(channel.close(20))
    assert call.result(20).startswith(b"x@")
    is_closed(channel, subs)


def test_beside_one_that_waits_for_it(server: Any, balance: Any, beside: Any, monkeypatch: Any) -> None:
    """A loop that is blocked cannot close anything: said in words, where it would be waited for without end."""
    monkeypatch.setattr(aio_closing, "PATIENCE", 0.05)
    channel = aio.insecure_channel(balance(server()))
    asyncio.run_coroutine_threadsafe(one(channel), beside).result(20)
    go_on, blocked = threading.Event(), threading.Event()
    beside.call_soon_threadsafe(lambda: (blocked.set(), go_on.wait(20)))
    assert blocked.wait(20)
    with pytest.raises(RuntimeError, match="does not come to close it; close it there"):
        asyncio.run(channel.close())
    go_on.set()
    asyncio.run(channel.close())
    assert channel.subs.closed
