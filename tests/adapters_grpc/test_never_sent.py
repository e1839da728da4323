"""Kind: a call that is not idempotent, delivered again because a server's words were believed.

Whatever a status says, and however it came, what was delivered is delivered once. No exception.
"""

import random
from typing import Any

import grpc
import grpc.aio
import pytest
from tests.adapters_grpc.aio_kit import on_loop, ways
from tests.adapters_grpc.conftest import until
from tests.adapters_grpc.phrases import CODES, PHRASES, lies
from tests.adapters_grpc.test_failures import WAYS

import kubelb
from kubelb.adapters import grpc as balanced
from kubelb.adapters._grpc.shared.codes import outcome_of
from kubelb.adapters.grpc import aio as balanced_aio
from kubelb.model import Sent
from kubelb.service import service_of

OPTIONS = [("grpc.enable_retries", 0)]
"""So that what is delivered twice is delivered so by kubelb."""


def delivered(servers: list[Any]) -> int:
    return sum(server.total for server in servers)


def set_all(servers: list[Any], code: grpc.StatusCode, words: str, *, headers: bool) -> int:
    for each in servers:
        each.behave = lies(code, words, headers=headers)
    return delivered(servers)


@pytest.mark.parametrize("headers", [False, True], ids=["trailers-only", "headers"])
@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
@pytest.mark.parametrize("way", WAYS)
def test_a_servers_words_send_nothing_twice(
    server: Any, balance: Any, way: Any, code: grpc.StatusCode, headers: bool
) -> None:
    """Every kind of sync call."""
    servers = [server() for _ in range(3)]
    lb = balance(*servers, outliers=None, policy="round_robin")
    with balanced.insecure_channel(lb, options=OPTIONS) as channel:
        grpc.channel_ready_future(channel).result(20)
        for words in PHRASES:
            before = set_all(servers, code, words, headers=headers)
            with pytest.raises(grpc.RpcError) as caught:
                way(channel, timeout=20)
            assert delivered(servers) - before == 1, words
            assert (caught.value.code(), caught.value.details()) == (code, words)


@pytest.mark.parametrize("headers", [False, True], ids=["trailers-only", "headers"])
@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
@pytest.mark.parametrize("way", ways)
@on_loop
async def test_nor_for_asyncio(server: Any, balance: Any, way: Any, code: grpc.StatusCode, headers: bool) -> None:
    """Every kind of call of asyncio."""
    servers = [server() for _ in range(3)]
    lb = balance(*servers, outliers=None, policy="round_robin")
    async with balanced_aio.insecure_channel(lb, options=OPTIONS) as channel:
        await channel.channel_ready()
        for words in PHRASES:
            before = set_all(servers, code, words, headers=headers)
            with pytest.raises(grpc.RpcError) as caught:
                await way(channel, timeout=20)
            assert delivered(servers) - before == 1, words
            assert (caught.value.code(), caught.value.details()) == (code, words)


class Ended(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        self._said = code, details

    def code(self) -> grpc.StatusCode:
        return self._said[0]

    def details(self) -> str:
        return self._said[1]

    def trailing_metadata(self) -> Any:
        return ()


@pytest.mark.parametrize("code", list(grpc.StatusCode), ids=lambda code: code.name)
def test_no_status_means_never_sent(code: grpc.StatusCode) -> None:
    """In whatever words, and with words from a seed."""
    rng = random.Random(3)
    words = [*PHRASES, *("".join(rng.choices([*PHRASES, " ", "x", "0"], k=3)) for _ in range(200))]
    assert all(outcome_of(Ended(code, said)).sent is not Sent.NEVER for said in words)


def test_a_pass_through_server_charges_once(server: Any, balance: Any) -> None:
    """The case itself: a handler that has done its work hands on the status of an upstream that is down."""
    servers = [server() for _ in range(3)]
    with grpc.insecure_channel("ipv4:127.0.0.1:1") as down:
        upstream = down.unary_unary("/audit.Audit/Write")

        def behave(method: str, context: Any) -> None:
            try:
                upstream(b"charged", timeout=5)
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())

        for each in servers:
            each.behave = behave
        with balanced.insecure_channel(balance(*servers)) as channel:
            grpc.channel_ready_future(channel).result(20)
            with pytest.raises(grpc.RpcError, match="failed to connect to all addresses"):
                channel.unary_unary("/test.Echo/UU")(b"100 EUR", timeout=20)
    assert delivered(servers) == 1


def test_no_connection_is_still_never_sent(server: Any, balance: Any) -> None:
    """What this process knows by itself: an endpoint without a connection is not picked, so nothing is lost there."""
    alive, dead = server(), server()
    dead.stop()
    lb = balance(alive, dead, policy="round_robin")
    with balanced.insecure_channel(lb) as channel:
        for _ in range(50):
            channel.unary_unary("/test.Echo/UU")(b"x", timeout=20)
        assert alive.total == 50
        alive.stop()
        assert until(lambda: channel.subs.connectivity() is grpc.ChannelConnectivity.TRANSIENT_FAILURE, 20)
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/test.Echo/UU")(b"x", timeout=20)
        assert isinstance(caught.value, kubelb.LoadBalancerError)


class Meddling(grpc.UnaryUnaryClientInterceptor):
    """An instrumentation's, below kubelb: does something of its own when the response is here, and that fails."""

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        continuation(details, request).result()
        raise ValueError("Cannot invoke RPC on closed channel!")


@pytest.mark.parametrize("meddling", [False, True])
def test_a_sub_channel_that_was_closed_in_time(server: Any, balance: Any, monkeypatch: Any, meddling: bool) -> None:
    """Kind: "never sent" by the type of an exception. grpcio refuses a call on a closed channel, which sends nothing;
    an interceptor's own exception of the same type and words comes when the call was made."""
    if meddling:
        make = grpc.insecure_channel
        wrapped = lambda *said, **named: grpc.intercept_channel(make(*said, **named), Meddling())  # noqa: E731
        monkeypatch.setattr(grpc, "insecure_channel", wrapped)
    servers = [server() for _ in range(2)]
    lb = balance(*servers, policy="round_robin")
    with balanced.insecure_channel(lb) as channel:
        grpc.channel_ready_future(channel).result(20)
        assert until(lambda: all(sub.check(False) == 2 for sub in channel.subs._subs.values()), 20)
        call = channel.unary_unary("/test.Echo/UU")
        states = service_of(lb).balancer.states()
        for state in states:
            call.at(state)
        gone = states[0]
        gone.removed = True
        if not meddling:
            channel.subs._subs[gone].channel.close()
            monkeypatch.setattr(channel.subs, "_usable", lambda state: True)
            assert all(call(b"x", timeout=20) for _ in range(4))
            assert (servers[0].total, servers[1].total) == (0, 4)
        else:
            for _ in range(2):
                with pytest.raises(ValueError, match="closed channel"):
                    call(b"x", timeout=20)
            assert delivered(servers) == 2
        gone.removed = False
