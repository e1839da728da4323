"""Faults of one endpoint: what the caller gets, and how many requests each server was delivered."""

import time
from typing import Any

import pytest
from tests.adapters.conftest import in_flight, state
from tests.adapters.raw import OK, Peer, blackhole, serve
from tests.adapters.world import World
from tests.waiting import until

URL = "http://reviews.prod/"
BROKEN = {"ReadError", "RemoteProtocolError"}


def ends(world: World, client: Any, method: str, count: int, **options: Any) -> list[int | str]:
    """The statuses, or the names of the client's own exceptions, of so many requests."""
    found: list[int | str] = []
    for _ in range(count):
        try:
            found.append(world.request(client, method, URL, **options).status_code)
        except world.httpx.TransportError as error:
            found.append(type(error).__name__)
    return found


def reset(peer: Peer) -> None:
    peer.request()
    peer.reset()


def hang_up(peer: Peer) -> None:
    peer.request()


def half_a_head(peer: Peer) -> None:
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Le")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_black_hole_beside_a_good_endpoint(world: World, raw, balance, method: str) -> None:
    """It costs a second, and even a POST goes elsewhere: it was never sent."""
    good = raw()
    with blackhole() as hole:
        lb = balance(hole, good, policy="round_robin")
        client = world.client(lb, timeout=20.0)
        began = time.monotonic()
        assert ends(world, client, method, 2) == [200, 200]
        assert time.monotonic() - began < 10.0
        assert good.delivered == 2
        assert state(lb, hole).failures >= 1  # a retry takes a turn, too
        assert in_flight(lb) == 0


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.slow
def test_nothing_but_black_holes(world: World, balance, method: str) -> None:
    """The client's own ConnectTimeout, with a note on every try before the last."""
    with blackhole() as one, blackhole() as other:
        lb = balance(one, other)
        client = world.client(lb, timeout=world.httpx.Timeout(20.0, connect=0.2))
        began = time.monotonic()
        with pytest.raises(world.httpx.ConnectTimeout) as caught:
            world.request(client, method, URL)
        assert time.monotonic() - began < 10.0
        assert [note.rpartition(" ended with ")[2] for note in caught.value.__notes__] == ["connect timeout"] * 2
        assert in_flight(lb) == 0


@pytest.mark.parametrize("script", [reset, hang_up, half_a_head])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_new_connection_that_breaks_before_the_headers(world: World, raw, balance, script, method: str) -> None:
    """A GET is tried elsewhere; a POST ends with the client's own error; the endpoint has failed."""
    bad, good = raw(script), raw()
    lb = balance(bad, good, policy="round_robin")
    found = ends(world, world.client(lb), method, 2)
    if method == "GET":
        assert found == [200, 200]
        assert bad.delivered in {1, 2}  # a retry takes a turn, too
        assert good.delivered == 2
    else:
        assert found.count(200) == 1
        assert set(found) & BROKEN
        assert (bad.delivered, good.delivered) == (1, 1)
    assert state(lb, bad).failures == bad.delivered
    assert in_flight(lb) == 0


@pytest.mark.parametrize("way", ["reset", "close"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_reused_connection_that_breaks_before_the_headers(world: World, raw, balance, way: str, method: str) -> None:
    """The same for the caller, but nobody is blamed: any server may close an idle connection."""

    def second(peer: Peer) -> None:
        peer.request()
        peer.send(OK)
        peer.request()
        if way == "reset":
            peer.reset()

    bad, good = raw(second, serve), raw()
    lb = balance(bad, good, policy="round_robin")
    client = world.client(lb)
    found: list[int | str] = []
    while bad.delivered < 2 and len(found) < 10:
        found += ends(world, client, method, 1)
    assert bad.delivered == 2
    assert bad.accepted == 1
    failed = [end for end in found if end != 200]
    assert len(failed) == (method == "POST")
    assert set(failed) <= BROKEN
    assert good.delivered == len(found) - (1 if method == "GET" else 2)
    assert state(lb, bad).failures == 0
    assert in_flight(lb) == 0


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("way", ["reset", "close"])
def test_a_body_that_breaks_off(world: World, raw, balance, way: str, chunked: bool) -> None:
    """After the headers nothing is repeated: the client's own error, one failure, and a new connection next time."""

    def break_off(peer: Peer) -> None:
        peer.request()
        head = b"HTTP/1.1 200 OK\r\n"
        peer.send(head + (b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Content-Length: 10\r\n\r\n"))
        peer.send(b"4\r\nhalf\r\n" if chunked else b"half")
        if way == "reset":
            time.sleep(0.1)  # a reset may overtake what was sent before it
            peer.reset()

    server = raw(break_off, serve)
    lb = balance(server)
    client = world.client(lb)
    response = world.open(client, "GET", URL)
    assert response.status_code == 200
    with pytest.raises((world.httpx.ReadError, world.httpx.RemoteProtocolError)):
        world.read(response)
    assert in_flight(lb) == 0
    assert (server.delivered, state(lb, server).failures) == (1, 1)
    assert world.get(client, URL).status_code == 200
    assert (server.delivered, server.accepted) == (2, 2)
    assert until(lambda: server.open == 1)


@pytest.mark.parametrize("drains", [True, False])
def test_an_early_413(world: World, raw, balance, drains: bool) -> None:
    """A server that answers before it has read 5 MB: the answer where bare httpx gets one; a POST goes out once."""

    def too_large(peer: Peer) -> None:
        peer.head()
        peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        if drains:
            peer.hang()

    servers = [raw(too_large), raw(too_large)]
    lb = balance(*servers)
    found = ends(world, world.client(lb), "POST", 1, content=b"x" * 5_000_000)
    if drains:
        assert found == [413]
    else:  # its reset may overtake the answer, with the bare client too
        assert set(found) <= {413, "ReadError", "WriteError", "RemoteProtocolError"}
    assert sum(server.delivered for server in servers) == 1
    assert in_flight(lb) == 0
    assert not drains or sum(state(lb, server).failures for server in servers) == 0
