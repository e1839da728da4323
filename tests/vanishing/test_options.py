"""Socket options: what a live connection of each adapter was told, and what a user says in their place."""

import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import requests
import trustme
import urllib3
from tests.adapters.raw import RawServer
from tests.adapters_grpc.servers import EchoServer
from tests.faults.http2_pod import Pod
from tests.vanishing.callers import Caller, http, rpc
from tests.vanishing.node import connections

import kubelb
from kubelb import LoadBalancer
from kubelb.adapters import sockets
from kubelb.adapters._grpc.shared.options import sub_options
from kubelb.adapters.httpx import Transport, keep_alive
from kubelb.adapters.requests import Adapter, mount

TCP = socket.IPPROTO_TCP
OPTIONS = {
    "SO_KEEPALIVE": (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    "TCP_KEEPIDLE": (TCP, socket.TCP_KEEPIDLE),
    "TCP_KEEPINTVL": (TCP, socket.TCP_KEEPINTVL),
    "TCP_KEEPCNT": (TCP, socket.TCP_KEEPCNT),
    "TCP_USER_TIMEOUT": (TCP, socket.TCP_USER_TIMEOUT),
    "TCP_NODELAY": (TCP, socket.TCP_NODELAY),
}
DEFAULT = {
    "SO_KEEPALIVE": 1,
    "TCP_KEEPIDLE": 20,
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 45_000,
    "TCP_NODELAY": 1,
}
URL = "http://reviews.prod/"
STATIC = "static:///127.0.0.1:9"


def told(address: str) -> list[dict[str, int]]:
    """The options of this process's connections to an address."""
    with connections(address) as found:
        return [{name: sock.getsockopt(*option) for name, option in OPTIONS.items()} for sock in found]


@pytest.fixture
def server() -> Iterator[Callable[[Caller], Any]]:
    """Makes a server that a caller can be pointed at."""
    made: list[Any] = []

    def make(caller: Caller) -> Any:
        made.append(EchoServer() if caller.rpc else Pod() if caller.http2 else RawServer())
        return made[-1]

    yield make
    for each in made:
        (each.stop if isinstance(each, EchoServer) else each.close)()


@pytest.mark.parametrize("caller", http(), ids=lambda caller: caller.name)
def test_the_defaults_of_a_live_connection(caller: Caller, server: Any) -> None:
    """Whatever library opened it: none of them asks for keep-alive by itself."""
    pod = server(caller)
    with LoadBalancer(f"static:///{pod.address}") as lb:
        caller.open(lb)
        assert caller.ask() == "ok"
        assert told(pod.address) == [DEFAULT]
        caller.close()


@pytest.mark.parametrize("caller", rpc(), ids=lambda caller: caller.name)
def test_grpc_bounds_what_is_not_acknowledged(caller: Caller, server: Any) -> None:
    """The one option that gRPC has: there, too, bytes that vanish end the connection within a minute."""
    pod = server(caller)
    with LoadBalancer(f"static:///{pod.address}") as lb:
        caller.open(lb)
        assert caller.ask() == "ok"
        assert [found["TCP_USER_TIMEOUT"] for found in told(pod.address)] == [45_000]
        caller.close()


@pytest.mark.parametrize("client", ["httpx", "requests"])
def test_connections_with_tls(client: str) -> None:
    """They have pools of their own."""
    context, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority = trustme.CA()
    authority.issue_cert("reviews.prod").configure_cert(context)
    authority.configure_trust(trusting)
    pod = RawServer(tls=context)
    with LoadBalancer(f"static:///{pod.address}") as lb:
        if client == "httpx":
            session: Any = httpx.Client(transport=Transport(lb, verify=trusting))
        else:
            session = requests.Session()
            session.mount("https://", Adapter(lb, verify=trusting))
        with session:
            assert session.get("https://reviews.prod/", timeout=10.0).text == "ok"
            assert told(pod.address) == [DEFAULT]
    pod.close()


GIVEN = (
    [],
    [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)],
    [
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (TCP, socket.TCP_KEEPIDLE, 7),
        (TCP, socket.TCP_KEEPCNT, b"\5\0\0\0"),
    ],
    [(TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_BINDTODEVICE, None, 0)],
)


@pytest.mark.parametrize("given", GIVEN, ids=["none", "one", "several", "of-four-parts"])
def test_given_options_are_those_of_the_bare_client(given: Any, server: Any) -> None:
    """These and no others, as `httpx.HTTPTransport(socket_options=)` and urllib3 have it; none is used up."""
    bare = RawServer()
    with httpx.Client(transport=httpx.HTTPTransport(socket_options=given)) as client:
        client.get(f"http://{bare.address}/")
        expected = told(bare.address)
    bare.close()
    bare = RawServer()
    with urllib3.PoolManager(socket_options=[(TCP, socket.TCP_NODELAY, 1), *given]) as manager:
        manager.request("GET", f"http://{bare.address}/")
        assert told(bare.address) == expected
    bare.close()
    for caller in http():
        pod = server(caller)
        with LoadBalancer(f"static:///{pod.address}") as lb:
            caller.open(lb, (option for option in given))
            assert caller.ask() == "ok"
            assert told(pod.address) == expected, caller.name
            pod.links[0].cut() if caller.http2 else [peer.shutdown(2) for peer in pod._peers]
            assert caller.ask() == "ok"
            assert expected[0] in told(pod.address), caller.name
            caller.close()


@pytest.mark.parametrize("client", ["httpx", "requests"])
def test_what_goes_past_kubelb_has_them_too(client: str, kubelb_disabled: Any) -> None:
    """They are the transport's, whichever way its requests go."""
    pod = RawServer()
    with LoadBalancer(STATIC) as lb:
        if client == "httpx":
            session: Any = httpx.Client(transport=Transport(lb))
        else:
            session = requests.Session()
            session.mount("http://", Adapter(lb))
        with session:
            assert session.get(f"http://{pod.address}/", timeout=10.0).text == "ok"
            assert told(pod.address) == [DEFAULT]
    pod.close()


@pytest.mark.parametrize("make", [Transport, Adapter, lambda lb, **options: mount(requests.Session(), lb, **options)])
@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        (5, TypeError, r"socket_options=5: give tuples as socket.setsockopt takes them"),
        ("x", TypeError, r"socket_options='x': give tuples"),
        ([5], TypeError, r"socket_options=\[5\]: give tuples"),
        ([(1, 2)], TypeError, r"socket_options=\[\(1, 2\)\]: give tuples"),
        ([(1, 2, 0.5)], TypeError, r"socket_options=\[\(1, 2, 0.5\)\]: .*give tuples"),
        ([(TCP, 9999, 1)], ValueError, r"socket_options=\[\(6, 9999, 1\)\]: this system refuses it: Protocol not"),
        ([(TCP, socket.TCP_KEEPIDLE, -1)], ValueError, r"socket_options=\[\(6, 4, -1\)\]: this system refuses it"),
    ],
)
def test_options_that_are_none(make: Any, given: Any, kind: type[Exception], said: str) -> None:
    """The constructor's error: at a connection it would look like a pod that cannot be reached, each of them."""
    with pytest.raises(kind, match=said):
        make(STATIC, socket_options=given)


def test_an_option_of_one_family_is_taken() -> None:
    """Pods may all be of that one."""
    hops = (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 8)
    assert sockets.check_options([hops]) == (hops,)


def test_keep_alive_in_numbers() -> None:
    """A user's own numbers, each where it belongs, and without what was given up."""
    assert keep_alive(idle=5, interval=6, probes=7, unacknowledged=1.5) == (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (TCP, socket.TCP_KEEPIDLE, 5),
        (TCP, socket.TCP_KEEPINTVL, 6),
        (TCP, socket.TCP_KEEPCNT, 7),
        (TCP, socket.TCP_USER_TIMEOUT, 1500),
    )
    assert len(keep_alive(unacknowledged=None)) == 4
    for name, value in (("idle", 0), ("interval", 1.5), ("probes", "3"), ("unacknowledged", 0), ("idle", 1 << 15)):
        with pytest.raises(ValueError, match=rf"keep_alive\({name}=.*\): give "):
            keep_alive(**{name: value})  # type: ignore[arg-type]


def test_the_defaults_find_a_vanished_node_within_a_minute() -> None:
    """By Linux's rule, too: the first probe that is due after the bound for what is unacknowledged ends it."""
    value = {name: DEFAULT[name] for name in DEFAULT}
    due = [value["TCP_KEEPIDLE"] + number * value["TCP_KEEPINTVL"] for number in range(10)]
    unacknowledged = value["TCP_USER_TIMEOUT"] / 1000
    assert value["TCP_KEEPIDLE"] + value["TCP_KEEPINTVL"] * value["TCP_KEEPCNT"] < 60
    assert next(seconds for seconds in due[1:] if seconds >= unacknowledged + 1) < 60
    assert unacknowledged < 60
    assert set(sockets.check_options(None)) == set(keep_alive())


def test_on_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    """TCP_KEEPALIVE is its word for TCP_KEEPIDLE, and it has no TCP_USER_TIMEOUT."""
    monkeypatch.delattr(socket, "TCP_KEEPIDLE")
    monkeypatch.delattr(socket, "TCP_USER_TIMEOUT")
    monkeypatch.setattr(socket, "TCP_KEEPALIVE", 0x10, raising=False)
    assert keep_alive()[1:] == ((TCP, 0x10, 20), (TCP, socket.TCP_KEEPINTVL, 10), (TCP, socket.TCP_KEEPCNT, 3))


def test_on_a_system_that_has_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or refuses them, in a sandbox: nobody asked for them, so nothing breaks."""
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT"):
        monkeypatch.delattr(socket, name)
    alone = ((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),)
    assert keep_alive() == alone
    monkeypatch.setattr(socket, "TCP_KEEPIDLE", 9999, raising=False)
    sockets._defaults.cache_clear()
    assert sockets.check_options(None) == alone
    sockets._defaults.cache_clear()


def test_without_a_descriptor_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no socket to try them on."""

    def full(*args: Any) -> Any:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socket", full)
    assert sockets.check_options([(TCP, 9999, 1)]) == ((TCP, 9999, 1),)


def test_the_end_of_a_timer_is_no_vanished_node() -> None:
    """Both are a TimeoutError; only the kernel's has a number."""
    assert not sockets.gone(None)
    assert not sockets.gone(TimeoutError("timed out"))
    assert not sockets.gone(ConnectionResetError(104, "Connection reset by peer"))
    lost = TimeoutError(110, "Connection timed out")
    assert sockets.gone(lost)
    assert sockets.gone(ValueError(lost))
    assert not isinstance(sockets.aborted(lost), TimeoutError)
    assert sockets.gone(sockets.aborted(lost))


def test_keep_alive_of_grpc_is_no_ping_too_many() -> None:
    """Servers count pings that come sooner than 300 s after the last one, and any without a call."""
    options = dict(sub_options("reviews.prod", None))
    assert 300_000 < options["grpc.keepalive_time_ms"] < 2**31 - 1
    assert "grpc.keepalive_permit_without_calls" not in options
    assert options["grpc.keepalive_timeout_ms"] == 45_000


def test_keep_alive_that_is_given_to_grpc() -> None:
    """A time of the user's goes with gRPC's own timeout, as without kubelb."""
    assert "grpc.keepalive_timeout_ms" not in dict(sub_options(None, [("grpc.keepalive_time_ms", 30_000)]))
    both = [("grpc.keepalive_time_ms", 30_000), ("grpc.keepalive_timeout_ms", 5_000)]
    assert sub_options(None, both)[-2:] == tuple(both)
    only = dict(sub_options(None, [("grpc.keepalive_timeout_ms", 5_000)]))
    assert (only["grpc.keepalive_time_ms"], only["grpc.keepalive_timeout_ms"]) == (310_000, 5_000)


def test_options_as_lists() -> None:
    """urllib3 makes keys of them: what was accepted is not to fail at the first request that goes past kubelb."""
    alive = [socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1]
    raw = [socket.SOL_SOCKET, socket.SO_KEEPALIVE, bytearray(b"\x01\0\0\0")]
    assert len({sockets.check_options([alive, raw])}) == 1


def test_numbers_that_are_none() -> None:
    """Named, with what to give in their place."""
    with pytest.raises(ValueError, match=r"keep_alive\(unacknowledged='5'\): give seconds"):
        keep_alive(unacknowledged="5")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="give tuples as socket"):
        sockets.check_options([(2**70, 1, 1)])


def test_names_are_where_the_adapters_are() -> None:
    """Importing kubelb alone loads no socket options, and no client."""
    assert kubelb.adapters.httpx.keep_alive is kubelb.adapters.requests.keep_alive is sockets.keep_alive
    assert "keep_alive" in sys.modules["kubelb.adapters.httpx2"].__all__
