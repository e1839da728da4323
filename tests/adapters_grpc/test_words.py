"""A verdict is never read from words that a peer can write: what grpcio says of this process, a server may say, too.

A pod that hands on what a call of its own has met writes such words in good faith, and would get no blame for them.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme
from tests.adapters_grpc.aio_kit import on_loop
from tests.adapters_grpc.conftest import in_flight, until
from tests.adapters_grpc.servers import EchoServer

from kubelb import EndpointView, LoadBalancer
from kubelb.adapters import grpc as balanced
from kubelb.adapters._grpc.shared.codes import outcome_of
from kubelb.adapters.grpc import aio
from kubelb.model import Sent, Verdict
from kubelb.service import service_of

CANCELLED, INTERNAL, UNKNOWN, UNAVAILABLE = (
    getattr(grpc.StatusCode, name) for name in ("CANCELLED", "INTERNAL", "UNKNOWN", "UNAVAILABLE")
)
LOCALLY = "Locally cancelled by application!"
BLAMED = [
    (INTERNAL, "Exception serializing request!"),
    (INTERNAL, "Exception deserializing response!"),
    (INTERNAL, "Invalid metadata"),
    (UNKNOWN, "Exception iterating requests!"),
    (UNKNOWN, "kubelb: an interceptor raised"),
    (UNAVAILABLE, "Getting metadata from plugin failed with error: no token"),
    (UNAVAILABLE, "Illegal metadata"),
]
FAILS = 5


def says(code: grpc.StatusCode, details: str) -> Callable[[str, Any], None]:
    return lambda method, context: context.abort(code, details)


def view(lb: LoadBalancer, server: EchoServer) -> EndpointView:
    return next(each for each in lb.endpoints() if each.address == server.address)


@pytest.mark.parametrize(("code", "details"), BLAMED)
def test_a_pod_that_says_so_is_ejected(code: grpc.StatusCode, details: str, server: Any, balance: Any) -> None:
    """Words of grpcio's for the caller's own fault, written by one pod of three: its failures are its own."""
    servers: list[EchoServer] = [server() for _ in range(3)]
    servers[0].behave = says(code, details)
    lb = balance(*servers, policy="round_robin", retry=None)
    with balanced.insecure_channel(lb) as channel:
        assert until(lambda: channel.subs.connectivity() is grpc.ChannelConnectivity.READY)
        echo = channel.unary_unary("/test.Echo/UU")

        def ejected() -> bool:
            try:
                echo(b"x", timeout=20)
            except grpc.RpcError as error:
                assert (error.code(), error.details()) == (code, details)  # type: ignore[attr-defined]
            return view(lb, servers[0]).state == "ejected"

        assert until(ejected)
    assert view(lb, servers[0]).failures == FAILS
    assert servers[0].total == FAILS or code is UNAVAILABLE, "which a lost connection could be, for some milliseconds"


@on_loop
async def test_a_pod_that_says_so_is_ejected_in_asyncio(server: Any, balance: Any) -> None:
    """The same, for each of these words in turn."""
    for code, details in BLAMED:
        servers: list[EchoServer] = [server() for _ in range(3)]
        servers[0].behave = says(code, details)
        lb = balance(*servers, policy="round_robin", retry=None)
        async with aio.insecure_channel(lb) as channel:
            await channel.channel_ready()
            end = time.monotonic() + 10
            while view(lb, servers[0]).state != "ejected" and time.monotonic() < end:
                try:
                    await channel.unary_unary("/test.Echo/UU")(b"x", timeout=20)
                except grpc.aio.AioRpcError as error:
                    assert (error.code(), error.details()) == (code, details)
        assert (view(lb, servers[0]).state, view(lb, servers[0]).failures) == ("ejected", FAILS), details
        assert servers[0].total == FAILS or code is UNAVAILABLE, details


@pytest.mark.parametrize("details", [LOCALLY, "Channel closed!", "Call cancelled in fork child"])
def test_a_pod_that_says_we_have_cancelled(details: str, server: Any, balance: Any) -> None:
    """It has ended the call itself, as one that stops does: another pod answers."""
    servers = [server(), server()]
    servers[0].behave = says(CANCELLED, details)
    lb = balance(*servers, policy="round_robin")
    with balanced.insecure_channel(lb, idempotent=True) as channel:
        for _ in range(4):
            assert channel.unary_unary("/test.Echo/UU")(b"x", timeout=20) == b"x@" + servers[1].name
            assert channel.unary_unary("/test.Echo/UU").future(b"x", timeout=20).result() == b"x@" + servers[1].name


@on_loop
async def test_a_task_is_cancelled_by_no_servers_words(server: Any, balance: Any) -> None:
    """Nothing was cancelled here, so what is raised is the status and no CancelledError."""
    alone = server()
    alone.behave = says(CANCELLED, LOCALLY)
    async with aio.insecure_channel(balance(alone, retry=None)) as channel:
        for call in (
            channel.unary_unary("/test.Echo/UU")(b"x", timeout=20),
            channel.stream_unary("/test.Echo/SU")(iter([b"x"]), timeout=20),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is CANCELLED
        for stream in (
            channel.unary_stream("/test.Echo/US")(b"x", timeout=20),
            channel.stream_stream("/test.Echo/SS")(iter([b"x"]), timeout=20),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for _ in stream:
                    pass
            assert caught.value.code() is CANCELLED


def fails(_: bytes) -> Any:
    raise ValueError("the caller's own")


def broken() -> Iterator[bytes]:
    yield b"1"
    raise ValueError("the caller's own")


OWN: dict[str, Callable[[grpc.Channel], Any]] = {
    "serializing": lambda channel: channel.unary_unary("/test.Echo/UU", fails)(b"x"),
    "serializing a stream": lambda channel: channel.stream_unary("/test.Echo/SU", fails)(iter([b"x"])),
    "deserializing": lambda channel: channel.unary_unary("/test.Echo/UU", None, fails)(b"x"),
    "deserializing a stream": lambda channel: list(channel.unary_stream("/test.Echo/US", None, fails)(b"x")),
    "iterating": lambda channel: channel.stream_unary("/test.Echo/SU")(broken()),
    "iterating both ways": lambda channel: list(channel.stream_stream("/test.Echo/SS")(broken())),
}


@pytest.mark.parametrize("what", OWN)
def test_what_the_callers_own_code_has_done(what: str, server: Any, balance: Any) -> None:
    """grpcio's own words, as grpcio has them: no endpoint is to blame, and none would do better."""
    lb = balance(server())
    with balanced.insecure_channel(lb, idempotent=True) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            OWN[what](channel)
        outcome = outcome_of(caught.value)
        assert (outcome.verdict, outcome.retryable) == (Verdict.NEUTRAL, False)
        assert outcome.sent is not Sent.NEVER
        assert until(lambda: in_flight(lb) == 0)
    assert service_of(lb).balancer.states()[0].failures == 0


class Adds(grpc.aio.UnaryUnaryClientInterceptor):
    """Adds metadata that cannot be sent."""

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(client_call_details._replace(metadata=grpc.aio.Metadata(("UPPER", "1"))), request)


@on_loop
async def test_what_cannot_be_sent_in_asyncio(server: Any, balance: Any) -> None:
    """Metadata with a key that is none: refused here, and no endpoint is to blame."""
    lb = balance(server())
    async with aio.insecure_channel(lb, interceptors=[Adds()]) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="Invalid metadata key 'UPPER'"):
            await channel.unary_unary("/test.Echo/UU")(b"x")
    async with aio.insecure_channel(lb, idempotent=True) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="Invalid metadata key 'UPPER'") as caught:
            await channel.unary_unary("/test.Echo/UU")(b"x", metadata=(("UPPER", "1"),))
    assert outcome_of(caught.value).verdict is Verdict.NEUTRAL
    assert service_of(lb).balancer.states()[0].failures == 0


def test_a_channel_that_was_closed_under_a_call(server: Any, balance: Any) -> None:
    """Core writes grpcio's words for it into the status, as a server could; that it was closed is known here."""
    alone = server()
    entered = asyncio.Event()
    alone.behave = lambda method, context: (entered.set(), until(lambda: not context.is_active()))
    lb = balance(alone)
    channel = balanced.insecure_channel(lb, idempotent=True)
    future = channel.unary_unary("/test.Echo/UU").future(b"x", timeout=30)
    assert until(entered.is_set)
    channel.close()
    assert future.code() is CANCELLED
    assert until(lambda: in_flight(lb) == 0)
    assert outcome_of(future, left=True).verdict is Verdict.CANCELLED
    assert alone.total == 1


class NoToken(grpc.AuthMetadataPlugin):
    def __call__(self, context: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        raise ValueError("no token")


def test_credentials_without_a_token(server: Any, balance: Any) -> None:
    """Core's words for it are like a server's. So it is UNAVAILABLE; all fail alike, and none stays ejected."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    served = grpc.ssl_server_credentials(
        [(certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes())]
    )
    trusted = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    servers = [server(credentials=served) for _ in range(2)]
    lb = balance(*servers, policy="round_robin", retry=None)
    with balanced.secure_channel(lb, trusted) as channel:
        assert until(lambda: channel.subs.connectivity() is grpc.ChannelConnectivity.READY)
        token = grpc.metadata_call_credentials(NoToken())
        for _ in range(40):
            with pytest.raises(grpc.RpcError, match="Getting metadata from plugin failed"):
                channel.unary_unary("/test.Echo/UU")(b"x", timeout=20, credentials=token)
    assert [view.state for view in lb.endpoints()] == ["ready", "ready"]
    assert sum(each.total for each in servers) == 0
