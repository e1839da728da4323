"""Bodies: a request is in flight until its response's body has ended, however; what may be sent twice, and what not."""

import contextlib
import gc
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.adapters.conftest import in_flight, state
from tests.adapters.raw import OK, RawServer
from tests.adapters.world import AioWorld, World
from tests.waiting import until

from kubelb import Retry

URL = "http://reviews.prod/"
STREAM = "http://reviews.prod/stream?chunks=5&delay=0.005"


def test_in_flight_until_the_body_was_read(world: World, service, balance) -> None:
    """Open at the headers, released with the last piece; the body is whole."""
    lb = balance(*service(2))
    client = world.client(lb)
    response = world.open(client, "GET", STREAM)
    assert in_flight(lb) == 1
    assert len(b"".join(world.chunks(response))) > 0
    assert in_flight(lb) == 0
    world.close(response)


@pytest.mark.parametrize("way", ["close", "break", "drop"])
def test_a_body_that_is_not_read(world: World, service, balance, way: str) -> None:
    """Closed, abandoned or lost: not in flight any more, no failure, and the connection does not stay open."""
    backends = service(1)
    lb = balance(*backends)
    client = world.client(lb)
    response = world.open(client, "GET", STREAM)
    assert in_flight(lb) == 1
    if way == "break":
        world.chunks(response, 1)
    if way != "drop":
        world.close(response)
    del response
    gc.collect()
    assert in_flight(lb) == 0
    assert state(lb, backends[0]).failures == 0
    assert world.get(client, URL).status_code == 200  # which also sees to what was lost
    assert until(lambda: backends[0].connections <= 1)


@pytest.mark.parametrize(("method", "path"), [("HEAD", "/"), ("GET", "/")])
def test_short_answers(world: World, service, balance, method: str, path: str) -> None:
    """An answer without a body, or with one that is there already, is over when it is closed or read."""
    lb = balance(*service(1))
    client = world.client(lb)
    for _ in range(3):
        assert world.request(client, method, URL + path.strip("/")).status_code == 200
    assert in_flight(lb) == 0


def test_a_broken_body_is_the_endpoints_fault(world: World, raw, balance) -> None:
    """The caller gets the client's own error, no retry, and the endpoint a failure."""

    def truncate(peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        peer.reset()

    server, other = raw(truncate), raw()
    lb = balance(server, other, policy="round_robin")
    client = world.client(lb)
    ends = []
    for _ in range(2):
        try:
            ends.append(world.get(client, URL).status_code)
        except world.httpx.TransportError as error:
            ends.append(type(error).__name__)
    assert len([end for end in ends if end != 200]) == 1
    assert state(lb, server).failures == 1
    assert server.delivered == 1
    assert in_flight(lb) == 0


def test_a_generator_is_sent_once(world: World, raw, balance) -> None:
    """Refused before anything was taken from it, it goes elsewhere; broken afterwards, it does not."""

    def half(peer) -> None:
        peer.head()
        peer.reset()

    dead, good = raw(), raw()
    dead.close()
    lb = balance(dead, good, policy="round_robin")
    client = world.client(lb)
    for _ in range(4):
        assert world.request(client, "PUT", URL, content=world.body([b"one", b"two"])).status_code == 200
    assert good.delivered == 4

    broken = raw(half)
    lb = balance(broken, good, policy="round_robin")
    client = world.client(lb)
    ends = []
    for _ in range(2):
        try:
            ends.append(world.request(client, "PUT", URL, content=world.body([b"x" * 10] * 3)).status_code)
        except world.httpx.TransportError:
            ends.append(0)
    assert sorted(ends) == [0, 200]
    assert broken.delivered == 1


@pytest.mark.parametrize("kind", [OSError, TimeoutError, KeyError])
def test_a_body_that_cannot_be_produced(world: World, service, balance, kind: type[Exception]) -> None:
    """Its own exception comes out as it is, once: a file that cannot be read is no pod's fault."""

    def parts():
        yield b"one"
        raise kind("mine")

    lb = balance(*service(2))
    client = world.client(lb)
    for _ in range(6):
        with pytest.raises(kind, match="mine"):
            world.request(client, "PUT", URL, content=world.body(parts()))
    assert [(view.state, view.failures, view.in_flight) for view in lb.endpoints()] == [("ready", 0, 0)] * 2
    assert sum(view.picks for view in lb.endpoints()) == 6
    assert world.request(client, "PUT", URL, content=world.body([b"one"])).status_code == 200


@pytest.mark.parametrize(("file", "again"), [(b"bytes", True), (io.BytesIO(b"seeks"), True), (None, False)])
def test_multipart(world: World, raw, balance, file, again: bool) -> None:
    """Files that are bytes or that seek can be sent again; others cannot."""

    def once(peer) -> None:
        peer.request()
        peer.reset()

    class Stream(io.RawIOBase):
        def __init__(self) -> None:
            self._left = [b"", b"abc"]

        def read(self, size: int = -1) -> bytes:
            return self._left.pop() if self._left else b""

        def seekable(self) -> bool:
            return False

    bad, good = raw(once), raw()
    lb = balance(bad, good, policy="round_robin")
    client = world.client(lb)
    ends = []
    for _ in range(2):
        try:
            answer = world.request(client, "PUT", URL, files={"f": ("name", file if again else Stream())})
            ends.append(answer.status_code)
        except (world.httpx.TransportError, RuntimeError):
            ends.append(0)
    assert ends == [200, 200] if again else sorted(ends) == [0, 200]


WAYS = ["ok", "reset", "reset after reading", "hang up", "503", "half an answer"]


@settings(max_examples=40)
@given(
    ways=st.lists(st.sampled_from(WAYS), min_size=3, max_size=3),
    method=st.sampled_from(["POST", "PATCH", "GET", "PUT"]),
    key=st.booleans(),
    aio=st.booleans(),
)
@pytest.mark.slow
def test_nothing_is_delivered_twice_unless_it_may_be(ways: list[str], method: str, key: bool, aio: bool) -> None:
    """Counted at the servers, under any combination of faults: at most once, but for what is idempotent."""

    def script(way: str):
        def act(peer) -> None:
            if way == "reset":
                peer.reset()
                return
            peer.request()
            if way == "ok":
                peer.send(OK)
            elif way == "503":
                peer.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
            elif way == "half an answer":
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Le")
            if way == "reset after reading":
                peer.reset()
            else:
                peer.sock.close()

        return act

    from kubelb import LoadBalancer

    world = AioWorld("httpx") if aio else World("httpx")
    servers = [RawServer(script(way)) for way in ways]
    lb = LoadBalancer(f"static:///{','.join(server.address for server in servers)}", retry=Retry(wait=lambda _: 0.0))
    try:
        client = world.client(lb)
        headers = {"Idempotency-Key": "7"} if key else {}
        with contextlib.suppress(world.httpx.TransportError):
            world.request(client, method, URL, content=b"pay", headers=headers)
        delivered = sum(server.delivered for server in servers)
        assert delivered <= (3 if key or method in {"GET", "PUT"} else 1)
        assert in_flight(lb) == 0
    finally:
        world.end()
        lb.close()
        for server in servers:
            server.close()
