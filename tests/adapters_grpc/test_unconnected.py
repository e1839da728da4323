"""Where no connection can be made, no request fails: health, views and refusals tell of it all the same."""

import asyncio
import socket
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme
from tests.adapters_grpc.aio_kit import eventually, on_loop
from tests.adapters_grpc.conftest import until
from tests.adapters_grpc.servers import free_port

import kubelb
from kubelb.adapters import grpc as balanced
from kubelb.adapters._grpc.shared.lastwords import asked, cure
from kubelb.adapters.grpc import aio
from kubelb.service import service_of

HASTY = [("grpc.min_reconnect_backoff_ms", 300), ("grpc.max_reconnect_backoff_ms", 300)]
REFUSED = "Connection refused"


def certificate(*names: str) -> tuple[Any, Any]:
    """Credentials of a server with these names, and of a client that trusts it."""
    authority = trustme.CA()
    issued = authority.issue_cert(*names)
    served = grpc.ssl_server_credentials([(issued.private_key_pem.bytes(), issued.cert_chain_pems[0].bytes())])
    return served, grpc.ssl_channel_credentials(authority.cert_pem.bytes())


def call(channel: grpc.Channel) -> Any:
    return channel.unary_unary("/test.Echo/UU")(b"x", timeout=20)


@pytest.mark.parametrize(
    ("words", "looks_at"),
    [
        ("Failed to connect to remote host: Connection refused", "nothing listens there"),
        ("connect failed: addr: ipv4:10.8.8.1:8080 error: Network is unreachable", "NetworkPolicies"),
        ("Failed to connect to remote host: No route to host", "NetworkPolicies"),
        ("tcp handshaker shutdown", "NetworkPolicies"),
        ("Failed to connect to remote host: Connection timed out", "NetworkPolicies"),
        ("Socket closed", "without TLS?"),
        ("connection attempt timed out before receiving SETTINGS frame", "without TLS?"),
        ("Handshake timed out", "without TLS?"),
    ],
)
def test_what_core_says_has_its_cure(words: str, looks_at: str) -> None:
    """The kind: one cure for all that cannot be connected to. The words are core's, of the oldest and newest grpcio."""
    assert looks_at in cure(words, "do the pods listen there, and without TLS?")


def test_refused(server: Any, balance: Any) -> None:
    """Nothing listens: the first refusal, health and each view say so, with a cure; a connection ends it."""
    ports = free_port(), free_port()
    lb = balance(*(f"127.0.0.1:{port}" for port in ports), retry=None)
    assert lb.health().error == ""
    with balanced.insecure_channel(lb, options=HASTY) as channel:
        with pytest.raises(kubelb.Unusable) as caught:
            call(channel)
        with pytest.raises(kubelb.Unusable):  # by now both have been asked
            call(channel)
        assert "no connection to any of 2 endpoints: " in caught.value.reason
        assert REFUSED in caught.value.reason
        assert "nothing listens there" in caught.value.reason
        health = lb.health()
        assert "no connection to any of 2 endpoints in use: " in health.error
        assert REFUSED in health.error
        assert "nothing listens there" in health.cure
        assert health.counts == {"ready": 2}
        for view in lb.endpoints():
            assert (view.failures, view.picks) == (0, 0)
            assert any(reason.startswith("no connection: ") and REFUSED in reason for reason in view.reasons)
        one = server(port=ports[0])
        assert until(lambda: channel.subs.connectivity() is grpc.ChannelConnectivity.READY)
        assert (lb.health().error, lb.health().cure) == ("", "")
        told = {view.address: view.reasons for view in lb.endpoints()}
        assert told[one.address] == ()
        assert any(REFUSED in reason for reason in told[f"127.0.0.1:{ports[1]}"])
        assert call(channel) == b"x@" + one.name
    assert one.total == 1
    assert [view.reasons for view in lb.endpoints()] == [(), ()]


@on_loop
async def test_refused_in_asyncio(server: Any, balance: Any) -> None:
    """The same on a loop, whichever thread looks."""
    ports = free_port(), free_port()
    lb = balance(*(f"127.0.0.1:{port}" for port in ports), retry=None)
    async with aio.insecure_channel(lb, options=HASTY) as channel:
        echo = channel.unary_unary("/test.Echo/UU")
        with pytest.raises(kubelb.Unusable) as caught:
            await echo(b"x", timeout=20)
        assert await eventually(lambda: all(channel.subs.unreached.failing().values()))
        assert "no connection to any of 2 endpoints: " in caught.value.reason
        assert REFUSED in caught.value.reason
        for health in (lb.health(), await asyncio.to_thread(lb.health)):
            assert "no connection to any of 2 endpoints in use: " in health.error
            assert REFUSED in health.error
            assert "nothing listens there" in health.cure
        for view in await asyncio.to_thread(lb.endpoints):
            assert any(REFUSED in reason for reason in view.reasons)
        one = server(port=ports[0])
        assert await eventually(lambda: channel.get_state(True) is grpc.ChannelConnectivity.READY)
        assert lb.health().error == ""
        assert await echo(b"x", timeout=20) == b"x@" + one.name
    assert one.total == 1


SERVED, TRUSTED = certificate("127.0.0.1")
OTHERS = certificate("127.0.0.1")[1]
TLS: dict[str, tuple[Any, Any, str, str]] = {
    "not trusted": (SERVED, OTHERS, "CERTIFICATE_VERIFY_FAILED", "certificate"),
    "plain at the other end": (None, TRUSTED, "andshake", "with TLS"),
    "plain at this end": (SERVED, None, "", "without TLS"),
}


@pytest.mark.parametrize("what", ["not trusted", "plain at the other end", "plain at this end"])
def test_what_is_spoken(what: str, server: Any, balance: Any) -> None:
    """Pods that answer, and no connection comes of it: the reason as far as grpcio tells, and the cure for that."""
    served, trusted, words, advice = TLS[what]
    alone = server(credentials=served)
    lb = balance(alone, retry=None)
    channel = balanced.secure_channel(lb, trusted, HASTY) if trusted else balanced.insecure_channel(lb, HASTY)
    with channel:
        with pytest.raises(kubelb.Unusable) as caught:
            call(channel)
        health = lb.health()
        for said, cure in ((caught.value.reason, caught.value.reason), (health.error, health.cure)):
            assert "no connection to the one endpoint" in said
            assert words in said
            assert advice in cure
            assert "NetworkPolicies" not in cure


@on_loop
async def test_what_is_spoken_in_asyncio(server: Any, balance: Any) -> None:
    """The same on a loop."""
    served, trusted, words, advice = TLS["not trusted"]
    lb = balance(server(credentials=served), retry=None)
    async with aio.secure_channel(lb, trusted, HASTY) as channel:
        with pytest.raises(kubelb.Unusable, match=words):
            await channel.unary_unary("/test.Echo/UU")(b"x", timeout=20)
        assert words in lb.health().error
        assert advice in lb.health().cure


def test_a_pod_that_says_nothing(balance: Any) -> None:
    """It takes the connection and is silent: a timeout, when that is over."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        lb = balance(f"127.0.0.1:{silent.getsockname()[1]}", retry=None)
        with balanced.insecure_channel(lb, HASTY) as channel:
            with pytest.raises(kubelb.Unusable, match="timed out"):
                call(channel)
            assert "timed out" in lb.health().error


def test_discovery_is_told(server: Any, balance: Any) -> None:
    """Hints and rungs whose endpoints all refuse give way for requests over HTTP; for those that connect first, too."""
    port = free_port()
    lb = balance(f"127.0.0.1:{port}", retry=None)
    standing = service_of(lb)._standing
    with balanced.insecure_channel(lb, HASTY) as channel:
        assert standing.reached() is None
        with pytest.raises(kubelb.Unusable):
            call(channel)
        assert standing.reached() is standing.reached([("127.0.0.1", port)]) is False
        assert standing.reached([("127.0.0.9", port)]) is None
        server(port=port)
        assert until(lambda: channel.subs.connectivity() is grpc.ChannelConnectivity.READY)
        assert standing.reached() is None
        call(channel)
        assert standing.reached() is True


class Seen(grpc.UnaryUnaryClientInterceptor, grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc,type-arg]
    """Notes the methods that are called through it."""

    def __init__(self) -> None:
        self.methods: list[Any] = []

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        self.methods.append(client_call_details.method)
        return continuation(client_call_details, request)


def test_the_question_passes_no_interceptor() -> None:
    """No caller has asked for it, so no instrumentation has a span of it."""
    seen = Seen()
    channel = grpc.insecure_channel(f"127.0.0.1:{free_port()}")
    with grpc.intercept_channel(channel, seen) as around:
        assert until(lambda: REFUSED in asked(around))
    assert asked(channel) == ""  # closed
    assert seen.methods == []


@on_loop
async def test_the_question_passes_no_interceptor_in_asyncio(balance: Any) -> None:
    """Only the call does, which is never made."""
    seen = Seen()
    lb = balance(f"127.0.0.1:{free_port()}", retry=None)
    async with aio.insecure_channel(lb, HASTY, interceptors=[seen]) as channel:
        with pytest.raises(kubelb.Unusable, match=REFUSED):
            await channel.unary_unary("/test.Echo/UU")(b"x", timeout=20)
    assert seen.methods == []


def test_many_refusals_ask_now_and_then(balance: Any, monkeypatch: Any) -> None:
    """However many endpoints and calls: three channels a second."""
    lb = balance(*(f"127.0.0.1:{free_port()}" for _ in range(12)), retry=None)
    with balanced.insecure_channel(lb) as channel:
        with pytest.raises(kubelb.Unusable):
            call(channel)
        questions: list[Any] = []
        clock = channel.subs._balancer.clock
        channel.subs.unreached.ask = questions.append
        now = clock()
        monkeypatch.setattr(channel.subs.unreached, "_asked", now)
        monkeypatch.setattr(channel.subs.unreached, "_questions", 0)
        monkeypatch.setattr(channel.subs._balancer, "clock", lambda: now + 0.9)
        for _ in range(20):
            with pytest.raises(kubelb.Unusable):
                call(channel)
        assert questions == []
        monkeypatch.setattr(channel.subs._balancer, "clock", lambda: now + 1.1)
        for _ in range(20):
            with pytest.raises(kubelb.Unusable):
                call(channel)
        assert len(questions) == 3
