"""Kind: options that are taken and not honoured. What a service config says of methods holds for the whole channel, or
is refused in words when the channel is made."""

import json
import threading
from typing import Any

import grpc
import grpc.aio
import pytest
from tests.adapters_grpc.aio_kit import each_way, on_loop
from tests.adapters_grpc.conftest import in_flight, until
from tests.adapters_grpc.servers import free_port
from tests.adapters_grpc.test_failures import EACH

from kubelb.adapters import grpc as balanced
from kubelb.adapters._grpc.shared.methods import configured
from kubelb.adapters.grpc import aio

TARGET = "static:///127.0.0.1:9"
DEADLINE = grpc.StatusCode.DEADLINE_EXCEEDED


def config(**says: Any) -> tuple[str, str]:
    return "grpc.service_config", json.dumps({"methodConfig": [{"name": [{}], **says}]})


@pytest.mark.parametrize("room", [balanced, aio])
@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("grpc.service_config", "{not json"), r"service_config', '{not json'\)\]: cannot be read .*give the JSON"),
        (("grpc.service_config", "[]"), "cannot be read"),
        (("grpc.service_config", 5), "cannot be read"),
        (config(timeout="soon"), "timeout 'soon' is none; give seconds such as '1.5s'"),
        (config(timeout=1), "timeout 1 is none"),
        (config(waitForReady="false"), "waitForReady 'false' is neither true nor false; give one of them, unquoted"),
        (config(waitForReady=1), "waitForReady 1 is neither"),
        (config(name="x"), "name 'x' is no list of objects; give .*pkg.Service"),
        (config(name=["x"]), r"name \['x'\] is no list of objects"),
        (config(name=[{"service": 5}]), "service 5 is no name; give a string such as 'pkg.Service'"),
        (config(name=[{"service": "a.B", "method": ["C"]}]), r"method \['C'\] is no name"),
        (("grpc.service_config", '{"methodConfig": {"name": []}}'), "methodConfig {'name': .*is no list of objects"),
        (("grpc.service_config", '{"methodConfig": ["x"]}'), r"methodConfig \['x'\] is no list of objects"),
        (config(retryPolicy={"maxAttempts": 4}), r"retryPolicy would try again on the same pod.*idempotent=\[...\]"),
        (config(hedgingPolicy={"maxAttempts": 4}), "hedgingPolicy would try again on the same pod"),
    ],
)
def test_what_is_refused(room: Any, option: Any, said: str) -> None:
    """By the constructor; core would let every call fail, or try again by itself."""
    with pytest.raises(ValueError, match=said):
        room.insecure_channel(TARGET, options=[option])


def test_the_most_particular_name_counts() -> None:
    """Of a method, of its service, of all; the last config given; what core does by itself is left as it was."""
    text = json.dumps(
        {
            "loadBalancingConfig": [{"round_robin": {}}],
            "methodConfig": [
                {"name": [{}], "timeout": "9s"},
                {"name": [{"service": "a.B"}], "waitForReady": True},
                {"name": [{"service": "a.B", "method": "C"}], "waitForReady": False, "timeout": "0.5s"},
            ],
        }
    )
    given = [("grpc.service_config", "{}"), ("grpc.x", 1), (b"grpc.service_config", text.encode())]
    options, of = configured(given)
    assert of("/a.B/C") == (False, 0.5)
    assert of("/a.B/D") == (True, None)
    assert of("/d.E/F") == (None, 9.0)
    assert options is not None
    (_, (name, left)) = options
    assert name == "grpc.service_config"
    assert json.loads(left)["loadBalancingConfig"] == [{"round_robin": {}}]
    assert "timeout" not in left
    assert "waitForReady" not in left
    plain = [("grpc.service_config", '{"methodConfig": [{"name": [{}], "maxRequestMessageBytes": 4}]}')]
    assert configured(plain)[0] == tuple(plain)
    assert configured(None)[1]("/a.B/C") == (None, None)


@pytest.mark.parametrize("way", EACH)
def test_wait_for_ready(server: Any, balance: Any, way: Any) -> None:
    """A call waits for a pod that comes, without being told so itself; one that is told otherwise does not."""
    port = free_port()
    with balanced.insecure_channel(balance(f"127.0.0.1:{port}"), options=[config(waitForReady=True)]) as channel:
        assert until(lambda: channel.subs.connectivity() is grpc.ChannelConnectivity.TRANSIENT_FAILURE, 20)
        with pytest.raises(grpc.RpcError, match="no connection to"):
            way(channel, timeout=20, wait_for_ready=False)
        later = threading.Timer(0.05, lambda: server(port=port))
        later.start()
        assert way(channel, timeout=20)
        later.join()


@pytest.mark.parametrize("way", each_way)
@on_loop
async def test_and_for_asyncio(server: Any, balance: Any, way: Any) -> None:
    """The same."""
    port = free_port()
    lb = balance(f"127.0.0.1:{port}")
    async with aio.insecure_channel(lb, options=[config(waitForReady=True)]) as channel:
        with pytest.raises(grpc.RpcError, match="no connection to"):
            await way(channel, timeout=20, wait_for_ready=False)
        later = threading.Timer(0.05, lambda: server(port=port))
        later.start()
        assert await way(channel, timeout=20)
        later.join()


@pytest.mark.parametrize("there", [True, False], ids=["a pod that hangs", "no pod"])
@pytest.mark.parametrize("way", EACH)
def test_timeout(server: Any, balance: Any, way: Any, there: bool) -> None:
    """A call takes no longer than that, also while it waits for a connection; a longer one of its own is cut."""
    alone, hold = server(), threading.Event()
    alone.behave = lambda method, context: hold.wait(20)
    lb = balance(alone if there else f"127.0.0.1:{free_port()}")
    with balanced.insecure_channel(lb, options=[config(waitForReady=True, timeout="0.05s")]) as channel:
        for timeout in (None, 20):
            with pytest.raises(grpc.RpcError) as caught:
                way(channel, timeout=timeout)
            assert caught.value.code() is DEADLINE
        hold.set()
        assert until(lambda: in_flight(lb) == 0)


@pytest.mark.parametrize("there", [True, False], ids=["a pod that hangs", "no pod"])
@pytest.mark.parametrize("way", each_way)
@on_loop
async def test_timeout_for_asyncio(server: Any, balance: Any, way: Any, there: bool) -> None:
    """The same."""
    alone, hold = server(), threading.Event()
    alone.behave = lambda method, context: hold.wait(20)
    lb = balance(alone if there else f"127.0.0.1:{free_port()}")
    async with aio.insecure_channel(lb, options=[config(waitForReady=True, timeout="0.05s")]) as channel:
        for timeout in (None, 20):
            with pytest.raises(grpc.RpcError) as caught:
                await way(channel, timeout=timeout)
            assert caught.value.code() is DEADLINE
        hold.set()


def test_methods_named_by_bytes(server: Any, balance: Any) -> None:
    """As grpcio takes them: beside names in `idempotent=` they were a TypeError."""
    with balanced.insecure_channel(balance(server()), idempotent=["/test.Echo/UU"]) as channel:
        assert channel.unary_unary(b"/test.Echo/UU")(b"x", timeout=20)
