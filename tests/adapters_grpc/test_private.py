"""Kind: what companions read of a grpcio channel that is no method of it, as it was found in public code."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from tests.adapters_grpc.aio_kit import eventually, on_loop, one
from tests.adapters_grpc.conftest import until
from tests.adapters_grpc.servers import free_port

from kubelb.adapters import grpc as balanced
from kubelb.adapters.grpc import aio

READY, SHUTDOWN = 2, 4


def test_the_channel_below(server: Any, balance: Any) -> None:
    """Is it ready, where does it go: of the whole. Asking to connect connects."""
    lb = balance(server())
    with balanced.insecure_channel(lb) as channel:
        assert channel._channel.check_connectivity_state(False) == 0
        assert until(lambda: channel._channel.check_connectivity_state(True) == READY, 20)
        assert channel._channel.target() == str(lb.target).encode()
        assert channel._target == str(lb.target)
        assert not channel._channel.closed()
    assert channel._channel.check_connectivity_state(True) == SHUTDOWN
    assert channel._channel.closed()


@on_loop
async def test_and_for_asyncio(server: Any, balance: Any) -> None:
    """The same, and the loop that it belongs to: before its first use the one that it may be used in."""
    lb = balance(server())
    running = asyncio.get_running_loop()
    async with aio.insecure_channel(lb) as channel:
        assert channel._loop is running
        assert channel._channel.check_connectivity_state(False) == 0
        assert await eventually(lambda: channel._channel.check_connectivity_state(True) == READY, 20)
        assert channel._channel.target() == str(lb.target).encode()
        assert channel._loop is channel.loop is running
        assert not channel._channel.closed()
    assert channel._channel.check_connectivity_state(True) == SHUTDOWN
    assert channel._channel.closed()


def test_a_loop_that_there_is_not(balance: Any) -> None:
    """Outside of any there is none, and nothing is raised."""
    assert aio.insecure_channel(balance("127.0.0.1:9"))._loop is None


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_the_targets_of_sub_channels(server: Any, balance: Any, monkeypatch: Any, host: str, shown: str) -> None:
    """Kind: targets that are parsed. Elastic's agent takes them apart at the colon, Datadog's as a URL, New Relic's
    reads core's own: all find host and port, with IPv6 as far as they can read that."""
    alone = server(host=host)
    given: list[str] = []
    make, aio_make = grpc.insecure_channel, grpc.aio.insecure_channel
    monkeypatch.setattr(grpc, "insecure_channel", lambda *said, **named: given.append(said[0]) or make(*said, **named))
    monkeypatch.setattr(
        grpc.aio, "insecure_channel", lambda *said, **named: given.append(said[0]) or aio_make(*said, **named)
    )
    lb = balance(alone)
    with balanced.insecure_channel(lb) as channel:
        assert channel.unary_unary("/test.Echo/UU")(b"x", timeout=20)
        (sub,) = channel.subs._subs.values()
        assert sub.channel._channel.target() == f"dns:///{shown}:{alone.port}".encode()

    async def main() -> None:
        async with aio.insecure_channel(lb) as channel:
            assert await one(channel, timeout=20)

    asyncio.run(main())
    assert given == [f"{shown}:{alone.port}"] * 2


def test_no_name_is_looked_up_for_an_address(balance: Any) -> None:
    """A target without a scheme is a name's as well: an address that does not answer fails by the connect."""
    with balanced.insecure_channel(balance(f"127.0.0.1:{free_port()}")) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/test.Echo/UU")(b"x", timeout=20)
        assert "Connection refused" in caught.value.details()
