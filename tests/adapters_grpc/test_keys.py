"""Where a call's key comes from: the hints around it, then what the policy reads from it; and where it goes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.adapters.keyed import Recording
from tests.adapters_grpc.aio_kit import on_loop, ways
from tests.adapters_grpc.conftest import connected, until
from tests.adapters_grpc.test_calls import until_all_ready

from kubelb import hints
from kubelb.adapters import grpc as balanced
from kubelb.adapters.grpc import aio

USER = (("other", "x"), ("x-user", "u7"))


def calls(channel: Any, **options: Any) -> None:
    """One of each kind."""
    unary = channel.unary_unary("/test.Echo/UU")
    unary(b"a", **options)
    unary.with_call(b"a", **options)
    unary.future(b"a", **options).result(timeout=10)
    list(channel.unary_stream("/test.Echo/US")(b"a", **options))
    several = channel.stream_unary("/test.Echo/SU")
    several(iter([b"a"]), **options)
    several.with_call(iter([b"a"]), **options)
    several.future(iter([b"a"]), **options).result(timeout=10)
    list(channel.stream_stream("/test.Echo/SS")(iter([b"a"]), **options))


@pytest.mark.parametrize(
    ("source", "metadata", "keys"),
    [
        ({}, USER, {None}),
        ({"header": "X-User"}, USER, {"u7"}),
        ({"header": "x-user"}, (*USER, ("x-user", "u8")), {"u7,u8"}),
        ({"header": "x-user-bin"}, (("x-user-bin", b"\xff"),), {b"\xff"}),
        ({"header": "x-user"}, None, {None}),
        ({"header": "x-user"}, (("other", "x"),), {None}),
        ({"cookie": "session"}, (("cookie", "session=s1"),), {"s1"}),
        ({"path": True}, None, {f"/test.Echo/{kind}" for kind in ("UU", "US", "SU", "SS")}),
    ],
)
def test_metadata_and_method(server: Any, balance: Any, source: dict[str, Any], metadata: Any, keys: set[Any]) -> None:
    """Of every kind of call, as the policy wants it; where it wants none, nobody looks."""
    policy = Recording(**source)
    with balanced.insecure_channel(balance(server(), policy=policy)) as channel:
        grpc.channel_ready_future(channel).result(timeout=10)
        calls(channel, metadata=metadata, timeout=10)
    assert set(policy.keys) == keys


def test_metadata_that_can_be_read_once(server: Any, balance: Any) -> None:
    """They reach the server, and are looked through for the key."""
    policy, echo = Recording(header="x-user"), server()
    with balanced.insecure_channel(balance(echo, policy=policy)) as channel:
        assert channel.unary_unary("/test.Echo/UU")(b"a", metadata=iter(USER), timeout=10, wait_for_ready=True)
    assert echo.metadata[0]["x-user"] == "u7"
    assert set(policy.keys) == {"u7"}


def test_what_is_no_metadata_is_refused_by_grpcio(server: Any, balance: Any) -> None:
    """In its own words, whatever the policy looks for."""
    with balanced.insecure_channel(balance(server(), policy=Recording(header="x-user"))) as channel:
        grpc.channel_ready_future(channel).result(timeout=10)
        with pytest.raises(Exception) as raised:
            channel.unary_unary("/test.Echo/UU")(b"a", metadata=[("x-user",)], timeout=10)
    with balanced.insecure_channel(balance(server())) as channel:
        grpc.channel_ready_future(channel).result(timeout=10)
        with pytest.raises(type(raised.value)):
            channel.unary_unary("/test.Echo/UU")(b"a", metadata=[("x-user",)], timeout=10)


@pytest.mark.parametrize("way", ways)
@on_loop
async def test_asyncio(server: Any, balance: Any, way: Any) -> None:
    """The same for every kind and style of call, with grpc.aio's own Metadata or pairs; hints go first."""
    policy = Recording(header="x-user")
    async with aio.insecure_channel(balance(server(), policy=policy)) as channel:
        await channel.channel_ready()
        await way(channel, timeout=10, metadata=grpc.aio.Metadata(*USER))
        await way(channel, timeout=10, metadata=USER)
        with hints(key="hinted"):
            await way(channel, timeout=10, metadata=USER)
        await way(channel, timeout=10)
    assert policy.keys == ["u7", "u7", "hinted", None]


def test_the_callers_word_goes_first(server: Any, balance: Any) -> None:
    """The block's key, then the metadata."""
    policy = Recording(header="x-user")
    with balanced.insecure_channel(balance(server(), policy=policy)) as channel:
        grpc.channel_ready_future(channel).result(timeout=10)
        with hints(key="hinted"):
            calls(channel, metadata=USER, timeout=10)
        assert set(policy.keys) == {"hinted"}
        with hints(idempotent=True):
            calls(channel, metadata=USER, timeout=10)
        assert set(policy.keys) == {"u7"}


def test_a_key_goes_on_while_its_endpoint_cannot_be_reached(server: Any, balance: Any) -> None:
    """To one and the same other, and returns when the endpoint does: no connection, no call; no error either."""
    servers = [server() for _ in range(4)]
    with balanced.insecure_channel(balance(*servers, policy="ring_hash", outliers=None)) as channel:
        grpc.channel_ready_future(channel).result(timeout=10)
        echo = channel.unary_unary("/test.Echo/UU")

        def home() -> bytes:
            with hints(key="user-7"):
                (answer,) = {echo(b"x", timeout=10, wait_for_ready=True) for _ in range(10)}
            return bytes(answer).partition(b"@")[2]

        until_all_ready(channel, 4)
        first = home()
        down = next(each for each in servers if each.name == first)
        down.stop()
        assert until(lambda: connected(channel) == 3)
        second = home()
        assert second != first
        assert home() == second


def test_where_a_key_goes_is_where_grpc_sends_it() -> None:
    """grpcio's own ring (gRFC A42, A76) over the same addresses with as many points each: all of 200 keys agree."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.adapters_grpc.ring_program"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.stdout.strip() == "200", done.stderr
