"""Lists that never end, and lists that cannot be read.

Kind: what an API server, or something in between, answers is believed for as long as it goes on; and what cannot be
understood is taken for "nothing there".
"""

import random

import pytest

from kubelb.discovery.kube import body, pages, transport
from kubelb.discovery.kube.access import Access, Given
from kubelb.discovery.kube.lifeline import Lifeline
from kubelb.discovery.kube.lines import LONGEST as LONGEST_LINE
from kubelb.discovery.kube.reducer import HOLD, Reducer
from kubelb.discovery.kube.steps import Failure, Get, Reply
from kubelb.discovery.kube.transport import Transport

from .build import piece, row, wire
from .server import Server, event, slice_list, status
from .world import World, line, ok

A, B, C = (piece(name, [row(f"10.0.0.{number}")], version=90) for number, name in enumerate("abc", 1))


def test_the_same_page_for_ever():
    """A continue token that comes back: the second page is the last; then it waits, as after any failure."""
    world = World(lambda asked: ok(slice_list(A, more="again")))
    world.run(requests=6)
    assert "replace 1" not in world.told
    assert world.told.count("failed malformed") >= 2
    assert "does not come to an end: 2 pages" in world.trouble.reason
    assert len(world.sleeps) >= 2


@pytest.mark.parametrize(("name", "bound"), [("PAGES", 10), ("BYTES", 3000), ("SECONDS", 20.0)])
def test_new_pages_for_ever(name, bound, monkeypatch):
    """So many pages, bytes, seconds; then it waits. Nothing known is lost by it."""
    monkeypatch.setattr(pages, name, bound)
    numbers = iter(range(10_000))

    def server(asked):
        if asked.watch:
            return ok(slice_list())
        world.now += 1.0
        number = next(numbers)
        return ok(slice_list(A, more="" if number == 0 else f"page-{number}"))

    world = World(server)
    world.run(requests=60)
    assert "replace 1" in world.told
    assert world.told.count("replace 0") == 0
    assert "failed malformed" in world.told
    assert "does not come to an end" in world.trouble.reason
    assert world.store == {"a": "90"}


def odd(**fields):
    """An item that has a name and makes no sense."""
    return {**piece("a", [row("10.0.0.1")], version=95), **fields}


@pytest.mark.parametrize(
    "item",
    [
        odd(ports=[{"name": "http", "port": "8080"}]),
        odd(endpoints=[{"addresses": ["10.0.0.1"], "conditions": {"ready": "true"}}]),
        odd(endpoints="none"),
        odd(addressType=4),
    ],
)
def test_an_item_that_cannot_be_read_keeps_what_is_known(item):
    """Its slice stays as it was, by its name; a slice that is not in the list at all is gone."""
    lists = [slice_list(A, B, version=100), slice_list(item, C, version=200)]

    def server(asked):
        if asked.watch:  # history is gone: list again
            return [line(event("ERROR", status(410, "Expired")))]
        return ok(lists.pop(0) if len(lists) > 1 else lists[0])

    world = World(server)
    told = []
    reducer = Reducer("reviews", "prod", "http")
    world.replace = lambda slices, unread=frozenset(), version="": (
        told.append(unread),
        reducer.replace(slices, world.now, unread),
    )
    world.run(requests=6)
    assert told[0] == frozenset()
    assert told[-1] == {"a"}
    snapshot = reducer.snapshot(world.now + HOLD)
    snapshot = reducer.snapshot(world.now + 2 * HOLD) or snapshot
    assert {endpoint.ip for endpoint in snapshot.endpoints} == {"10.0.0.1", "10.0.0.3"}


def test_a_list_of_which_nothing_makes_sense_is_none():
    """A failure like any other: before the first list that can be read nothing is known, and no Service is missing."""
    world = World(lambda asked: ok(slice_list(odd(addressType=4), {"metadata": 5})))
    world.run(requests=3)
    assert "failed malformed" in world.told
    assert not any(each.startswith("replace") for each in world.told)
    assert "2 slices, none of which makes sense" in world.trouble.reason


def test_an_item_without_a_name_keeps_everything():
    """It may be any of those that are known."""
    reducer = Reducer("reviews", "prod", "http")
    reducer.replace([wire(A), wire(B)], 0.0)
    reducer.replace([], 10.0, frozenset({pages.UNKNOWN}))
    assert len(reducer.snapshot(20.0).endpoints) == 2
    reducer.replace([wire(A)], 30.0)
    reducer.snapshot(30.0)
    assert [endpoint.ip for endpoint in reducer.snapshot(40.0).endpoints] == ["10.0.0.1"]


def test_the_versions_of_what_was_kept_still_count():
    """An older event changes nothing after it."""
    reducer = Reducer("reviews", "prod", "http")
    reducer.replace([wire(A)], 0.0)
    reducer.replace([], 10.0, frozenset({"a"}))
    reducer.delete(wire(piece("a", [row("10.0.0.1")], version=80)), 11.0)
    assert [endpoint.ip for endpoint in reducer.snapshot(20.0).endpoints] == ["10.0.0.1"]


# -- on the wire


def ask(handle, get, *, read=False):
    """The answer to one request, and with `read` what the watch says, piece by piece."""
    with Server(handle) as server:
        line = Lifeline()
        way = Transport(Given(Access(server.url)), line, print, connect_timeout=5.0, read_timeout=5.0)
        try:
            found = [way.get(get)]
            while read and isinstance(piece := way.read(), bytes) and piece:
                found.append(piece)
                if sum(map(len, found[1:])) > LONGEST_LINE:
                    break
        finally:
            way.close()
    return found


def test_a_list_that_drips(monkeypatch):
    """Never silent for long, and never at its end: so many seconds are enough, in one chunk or in many."""
    monkeypatch.setattr(transport, "LONGEST", 0.5)

    def drips(conn, request):
        chunked = request.path.endswith("chunked")
        how = "Transfer-Encoding: chunked" if chunked else "Content-Length: 100000"
        conn.raw(f"HTTP/1.1 200 OK\r\n{how}\r\n\r\n".encode() + (b"186a0\r\n" if chunked else b""))
        for _ in range(1000):
            conn.sock.sendall(b" ")
            conn.sock.settimeout(0.02)
            try:
                if not conn.sock.recv(1):
                    break
            except TimeoutError:
                pass

    for path in ("/plain", "/chunked"):
        (answer,) = ask(drips, Get(path))
        assert isinstance(answer, Failure)


def test_a_chunk_of_four_gigabytes_is_held_in_pieces():
    """A watch's chunk is an event; a larger one comes in pieces, and the line is refused by its length."""

    def handle(conn, request):
        conn.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n")
        for _ in range(LONGEST_LINE // 65536 + 100):
            conn.sock.sendall(b" " * 65536)
        conn.idle()

    answer, *found = ask(handle, Get("/watch", watch=True), read=True)
    assert isinstance(answer, Reply)
    assert max(map(len, found)) <= body.PIECE


def test_a_list_is_whole_and_its_connection_used_again():
    """Chunked, plain and zipped: what is read in pieces is the same, and the next request goes the same way."""
    import gzip

    body = bytes(random.Random(7).randbytes(300_000))

    def handle(conn, request):
        if request.path == "/chunked":
            conn.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for start in range(0, len(body), 7000):
                conn.chunk(body[start : start + 7000])
            conn.end()
        elif request.path == "/zipped":
            conn.reply(None, 200, [("Content-Encoding", "gzip")], body=gzip.compress(body))
        else:
            conn.reply(None, body=body)

    with Server(handle) as server:
        way = Transport(Given(Access(server.url)), Lifeline(), print)
        for path in ("/plain", "/chunked", "/zipped", "/plain"):
            answer = way.get(Get(path))
            assert isinstance(answer, Reply)
            assert answer.body == body
        way.close()
        assert server.accepted == 1
