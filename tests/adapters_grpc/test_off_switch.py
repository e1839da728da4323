"""Switched off, calls of a channel go through one connection of grpcio's to the Service's name: nothing is discovered,
picked, tried again or blamed, and all that the channel was made with is kept. Kind: a rollback that some calls miss."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from tests.adapters_grpc.conftest import until
from tests.adapters_grpc.off_kit import NAME, Ways, ways_to  # noqa: F401
from tests.adapters_grpc.servers import free_port
from tests.adapters_grpc.test_tls import served

import kubelb
from kubelb.adapters import grpc as balanced
from kubelb.service import service_of

SECONDS = 20.0


def echo(channel: Any, **said: Any) -> Any:
    return channel.unary_unary("/test.Echo/UU")(b"x", timeout=SECONDS, **said)


def requests() -> Any:
    return iter([b"x", b"x"])


KINDS: dict[str, Callable[[Any], Any]] = {
    "unary_unary": echo,
    "unary_unary.with_call": lambda c: c.unary_unary("/test.Echo/UU").with_call(b"x", timeout=SECONDS)[0],
    "unary_unary.future": lambda c: c.unary_unary("/test.Echo/UU").future(b"x", timeout=SECONDS).result(SECONDS),
    "unary_stream": lambda c: b"".join(c.unary_stream("/test.Echo/US")(b"x", timeout=SECONDS)),
    "stream_unary": lambda c: c.stream_unary("/test.Echo/SU")(requests(), timeout=SECONDS),
    "stream_unary.with_call": lambda c: c.stream_unary("/test.Echo/SU").with_call(requests(), timeout=SECONDS)[0],
    "stream_unary.future": lambda c: c.stream_unary("/test.Echo/SU").future(requests(), timeout=SECONDS).result(),
    "stream_stream": lambda c: b"".join(c.stream_stream("/test.Echo/SS")(requests(), timeout=SECONDS)),
}


@pytest.mark.parametrize("how", ["environment", "block"])
def test_each_kind_of_call(ways_to: Ways, monkeypatch: Any, how: str) -> None:  # noqa: F811
    """All go to the name, over one connection; after the block calls go to pods again."""
    peers = set()
    ways_to.front.behave = lambda method, context: peers.add(context.peer())
    if how == "environment":
        monkeypatch.setenv("KUBELB_DISABLE", "1")
    with ways_to.balancer() as lb, balanced.insecure_channel(lb) as channel:
        monkeypatch.delenv("KUBELB_DISABLE", raising=False)  # it was read when the channel was made
        for name, call in KINDS.items():
            if how == "block":
                with kubelb.disabled():
                    assert b"x" in call(channel), name
            else:
                assert b"x" in call(channel), name
        assert ways_to.front.total == len(KINDS)
        assert ways_to.pod.total == 0
        assert len(peers) == 1
        assert service_of(lb).opening.now is None
        assert len(channel.subs) == 0
        if how == "block":
            for name, call in KINDS.items():
                assert b"x" in call(channel), name
            assert (ways_to.front.total, ways_to.pod.total) == (len(KINDS), len(KINDS))


def test_a_multicallable_that_was_made_before(ways_to: Ways) -> None:  # noqa: F811
    """It is the call that is switched off, and in the thread of the block alone."""
    with ways_to.balancer() as lb, balanced.insecure_channel(lb) as channel:
        stub = channel.unary_unary("/test.Echo/UU")
        pod, front = b"x@" + ways_to.pod.name, b"x@" + ways_to.front.name
        found = [stub(b"x", timeout=SECONDS)]
        with kubelb.disabled():
            found.append(stub(b"x", timeout=SECONDS))
            other = threading.Thread(target=lambda: found.append(stub(b"x", timeout=SECONDS)))
            other.start()
            other.join()
        found.append(stub(b"x", timeout=SECONDS))
        assert found == [pod, front, pod, pod]


def test_nothing_is_tried_again_or_blamed(ways_to: Ways) -> None:  # noqa: F811
    """The status comes as it is, of one try, although the method may be repeated."""
    ways_to.front.behave = lambda method, context: context.abort(grpc.StatusCode.UNAVAILABLE, "mine")
    with (
        ways_to.balancer(outliers=kubelb.OutlierDetection(consecutive_failures=1)) as lb,
        balanced.insecure_channel(lb, idempotent=True) as channel,
    ):
        for number in range(1, 4):
            with kubelb.disabled(), kubelb.hints(idempotent=True, deadline=0), pytest.raises(grpc.RpcError) as raised:
                echo(channel)
            assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.UNAVAILABLE, "mine")
            assert not hasattr(raised.value, "__notes__")
            assert ways_to.front.total == number
        assert [view.state for view in lb.endpoints()] == ["ready"]


def test_what_the_channel_was_made_with(ways_to: Ways) -> None:  # noqa: F811
    """Options, service config, compression and interceptors around it hold."""
    slow = '{"methodConfig": [{"name": [{"service": "test.Echo", "method": "US"}], "timeout": "0.2s"}]}'
    options = [("grpc.primary_user_agent", "mine"), ("grpc.service_config", slow)]
    ways_to.front.between = lambda number: time.sleep(0.5)

    class Adding(grpc.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
        def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            return continuation(details, request + b"!")

    with (
        ways_to.balancer() as lb,
        balanced.insecure_channel(lb, options, grpc.Compression.Gzip) as channel,
        kubelb.disabled(),
    ):
        intercepted = grpc.intercept_channel(channel, Adding())
        assert echo(intercepted, metadata=[("a", "b")]) == b"x!@" + ways_to.front.name
        seen = ways_to.front.metadata[0]
        assert seen["user-agent"].startswith("mine ")
        assert seen["a"] == "b"
        with pytest.raises(grpc.RpcError) as raised:
            list(channel.unary_stream("/test.Echo/US")(b"x"))
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_the_certificate_is_that_of_the_name(server: Any, tmp_path: Path) -> None:
    """The channel's own credentials; files that change count where the connection is made again."""
    authority, other = trustme.CA(), trustme.CA()
    ways = Ways(server, credentials=served(authority, NAME))
    ca = tmp_path / "ca.pem"
    other.cert_pem.write_to_path(str(ca))
    with (
        ways.balancer() as lb,
        balanced.secure_channel(lb, balanced.TlsFiles(ca=ca)) as channel,
        kubelb.disabled(),
    ):
        with pytest.raises(grpc.RpcError) as raised:
            echo(channel)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        waits = channel.unary_unary("/test.Echo/UU").future(b"x", wait_for_ready=True)
        authority.cert_pem.write_to_path(str(ca))
        assert echo(channel) == b"x@" + ways.front.name
        assert not waits.done()
    assert until(waits.done)  # on the connection from before, which closing the channel ends, too
    assert waits.code() is grpc.StatusCode.CANCELLED


def test_closing_ends_it(ways_to: Ways) -> None:  # noqa: F811
    """Calls that run, and those to come, as grpcio does; closing what was never used opens nothing."""
    arrived = threading.Event()

    def hang(method: str, context: Any) -> None:
        arrived.set()
        until(lambda: not context.is_active())

    with ways_to.balancer() as lb:
        unused = balanced.insecure_channel(lb)
        unused.close()
        assert unused.plain.made() == []
        channel = balanced.insecure_channel(lb)
        with kubelb.disabled():
            ways_to.front.behave = hang
            future = channel.unary_unary("/test.Echo/UU").future(b"x", timeout=SECONDS)
            assert arrived.wait(SECONDS)
            channel.close()
            channel.close()
            assert future.code() is grpc.StatusCode.CANCELLED
            for closed in (channel, unused):
                with pytest.raises(ValueError, match="closed channel"):
                    echo(closed)


def test_the_state_is_that_of_the_plain_channel(ways_to: Ways, monkeypatch: Any) -> None:  # noqa: F811
    """What waits for a channel to be ready waits for the one that is used, and hears of its end."""
    monkeypatch.setenv("KUBELB_DISABLE", "1")
    states: list[Any] = []
    with ways_to.balancer(seed=None) as lb, balanced.insecure_channel(lb) as channel:
        assert channel._channel.check_connectivity_state(False) == 0
        grpc.channel_ready_future(channel).result(timeout=SECONDS)
        assert channel._channel.check_connectivity_state(False) == 2
        channel.subscribe(states.append)
        assert until(lambda: states == [grpc.ChannelConnectivity.READY])
        channel.unsubscribe(states.append)
        assert service_of(lb).opening.now is None
        lb.wait_ready(0.0)
    assert channel._channel.check_connectivity_state(False) == 4


@pytest.mark.parametrize("ask", [*KINDS, "subscribe"])
def test_without_a_port_it_is_refused(ask: str) -> None:
    """Only the API server knows the number: the error says what to give, and is one of gRPC's."""
    asked = KINDS.get(ask, lambda channel: channel.subscribe(print))
    with kubelb.LoadBalancer("reviews.prod:grpc") as lb, balanced.insecure_channel(lb) as channel, kubelb.disabled():
        said = "fallback_port=.* KUBELB_TARGETS='reviews.prod:grpc=reviews.prod.svc.cluster.local:PORT'"
        with pytest.raises(kubelb.NoEndpoints, match=said) as raised:
            asked(channel)
        assert isinstance(raised.value, grpc.RpcError)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


def test_the_cure_is_an_entry_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for a target of SRV records, whose scheme KUBELB_TARGETS does not take."""
    target = "dns+srv:///_grpc._tcp.reviews.prod.svc.cluster.local"
    with kubelb.LoadBalancer(target) as lb, kubelb.disabled(), pytest.raises(kubelb.NoEndpoints) as raised:
        lb.call(lambda attempt: None)
    entry = re.search("KUBELB_TARGETS='(.*)'", raised.value.reason)
    assert entry is not None
    monkeypatch.setenv("KUBELB_TARGETS", entry[1].replace("PORT", "8080"))
    with kubelb.LoadBalancer(target) as lb, kubelb.disabled():
        assert lb.call(lambda attempt: attempt.endpoint.port) == 8080


@pytest.mark.parametrize("entry", ["127.0.0.1:{port}+127.0.0.1:{free}", "localhost:{port}"])
def test_the_address_that_the_environment_gives(server: Any, monkeypatch: Any, entry: str) -> None:
    """`KUBELB_TARGETS` counts, too: it is how a port that is known by its name gets its number without a release."""
    front = server()
    monkeypatch.setenv("KUBELB_TARGETS", "reviews.prod:grpc=" + entry.format(port=front.port, free=free_port()))
    monkeypatch.setenv("KUBELB_DISABLE", "1")
    with balanced.insecure_channel("reviews.prod:grpc") as channel:
        for _ in range(4):
            assert echo(channel) == b"x@" + front.name


def test_many_threads_begin_at_once(ways_to: Ways) -> None:  # noqa: F811
    """They share one channel."""
    peers = set()
    ways_to.front.behave = lambda method, context: peers.add(context.peer())
    barrier = threading.Barrier(16)
    with ways_to.balancer() as lb, balanced.insecure_channel(lb) as channel:

        def call() -> None:
            with kubelb.disabled():
                barrier.wait()
                echo(channel)

        threads = [threading.Thread(target=call) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (ways_to.front.total, len(peers)) == (16, 1)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child(server: Any) -> None:
    """It connects anew; the parent's connection goes on."""
    program = Path(__file__).with_name("fork_program.py")
    environment = {**os.environ, "KUBELB_DISABLE": "1"}
    arguments = [sys.executable, str(program), server().address]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=50, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "both are well\n"
