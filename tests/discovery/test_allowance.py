"""Answers that have no end, or no sense, in whatever part of them.

Kind: a bound that holds for one part of an answer, and a loop of somebody else's that reads another; what a peer made
up, told as our own mistake, or without a word.
"""

import gzip
import zlib

import pytest

from kubelb.discovery.kube import body, transport
from kubelb.discovery.kube.access import Access, Given
from kubelb.discovery.kube.allowance import Allowance, UnreadableError
from kubelb.discovery.kube.command import _read
from kubelb.discovery.kube.diagnose import PROXY, Code, Trouble, failed
from kubelb.discovery.kube.events import apply
from kubelb.discovery.kube.lifeline import Lifeline
from kubelb.discovery.kube.pages import fetch
from kubelb.discovery.kube.query import Query
from kubelb.discovery.kube.steps import Failure, Get, Phase, Reply
from kubelb.discovery.kube.transport import Transport
from kubelb.discovery.kube.versions import LONGEST, number, older

from .build import piece, row
from .server import Server, event, slice_list
from .world import World, line, ok

ENCODED = "it is not encoded as it says"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
DRIPS = {
    "/header": (b"HTTP/1.1 200 OK\r\nX-Drip: ", b"x"),
    "/before-the-answer": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "/status-line": (b"HTTP/1.1 200 ", b"O"),
    "/length-of-a-chunk": (CHUNKED, b"0"),
    "/extension-of-a-chunk": (CHUNKED + b"1;", b"x"),
    "/chunk": (CHUNKED + b"186a0\r\n", b" "),
    "/trailer": (CHUNKED + b"2\r\n{}\r\n0\r\n", b"X-T: y\r\n"),
    "/body": (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" "),
    "/error": (b"HTTP/1.1 500 X\r\nContent-Length: 60000\r\n\r\n", b" "),
}


def drip(conn, request):
    """Never silent for long, until the other side has gone."""
    first, again = DRIPS[request.path]
    conn.raw(first)
    for _ in range(2000):
        try:
            conn.sock.sendall(again)
            conn.sock.settimeout(0.01)
            if not conn.sock.recv(1):
                break
        except TimeoutError:
            pass
    raise ConnectionError


def flood(conn, request):
    """Of the same, as much as is taken, within reason."""
    first, again = DRIPS[request.path]
    conn.raw(first)
    for _ in range(1000):
        conn.sock.sendall(again * (65536 // len(again)))
    conn.idle()


@pytest.fixture
def way():
    """Makes a way to a server on loopback."""
    made = []

    def make(handle, **kw):
        server = Server(handle)
        server.__enter__()
        access = Access(server.url) if not kw else Access("https://10.0.0.1:443", proxy=server.url)
        way = Transport(Given(access), Lifeline(), print, connect_timeout=5.0, read_timeout=5.0)
        made.append((server, way))
        return way

    yield make
    for server, way in made:
        way.close()
        server.__exit__()


@pytest.mark.parametrize("path", DRIPS)
def test_a_list_that_drips_in_any_part(path, way, monkeypatch):
    """So many seconds are enough, whatever they are spent on, and that is said."""
    monkeypatch.setattr(transport, "LONGEST", 0.3)
    answer = way(drip).get(Get(path))
    assert isinstance(answer, Failure)
    assert answer.reason.endswith("takes more than 0.3 s")
    assert answer.cure
    assert failed(answer).code is Code.MALFORMED


@pytest.mark.parametrize("path", ["/header", "/before-the-answer"])
def test_a_watch_whose_header_drips(path, way, monkeypatch):
    """A watch may last; what comes before it may not."""
    monkeypatch.setattr(transport, "LONGEST", 0.3)
    answer = way(drip).get(Get(path, watch=True))
    assert isinstance(answer, Failure)
    assert answer.phase is Phase.HEADERS
    assert "its header takes more than 0.3 s" in answer.reason


@pytest.mark.parametrize("path", ["/length-of-a-chunk", "/extension-of-a-chunk", "/chunk", "/trailer"])
def test_a_piece_of_a_watch_that_drips(path, way, monkeypatch):
    """Each piece of a watch has an end."""
    watch = way(drip)
    assert isinstance(watch.get(Get(path, watch=True)), Reply)
    monkeypatch.setattr(transport, "LONGEST", 0.3)
    while isinstance(answer := watch.read(), bytes):
        assert answer == b"{}"
    assert "watching" in answer.reason
    assert "a piece of it takes more than 0.3 s" in answer.reason
    assert answer.cure == PROXY


def test_a_watch_outlasts_what_one_piece_may_take(way, monkeypatch):
    """Each piece begins anew."""
    now = [0.0]
    monkeypatch.setattr(transport, "Allowance", lambda: Allowance(lambda: now[0]))
    large = event("BOOKMARK", {"junk": "x" * 20_000})  # more than is read ahead, so that each piece takes a wait

    def handle(conn, request):
        conn.stream(*[large] * 20)
        conn.end()

    watch = way(handle)
    assert isinstance(watch.get(Get("/", watch=True)), Reply)
    found = []
    while piece := watch.read():
        assert isinstance(piece, bytes)
        found.append(piece)
        now[0] += 200.0
    assert len(found) == 20


def test_a_proxy_that_drips(way, monkeypatch):
    """Its answer to CONNECT is one, too."""
    monkeypatch.setattr(transport, "LONGEST", 0.3)
    monkeypatch.setitem(DRIPS, "10.0.0.1:443", DRIPS["/header"])
    answer = way(drip, proxy=True).get(Get("/"))
    assert isinstance(answer, Failure)
    assert "takes more than 0.3 s" in answer.reason


def test_a_header_that_floods(way):
    """Nothing but answers of status 100: after a megabyte that is enough, and no time is spent on the rest."""
    answer = way(flood).get(Get("/before-the-answer"))
    assert "its header has more than 1 MiB" in answer.reason


@pytest.mark.parametrize(("get", "said"), [(Get("/trailer"), "it has more"), (Get("/trailer", True), "a piece of it")])
def test_trailers_that_flood(get, said, way, monkeypatch):
    """Lines without an end after a body that has one."""
    monkeypatch.setattr(transport, "LARGEST", 1 << 20)
    monkeypatch.setattr(transport, "AROUND", 1 << 20)
    asked = way(flood)
    answer = asked.get(get)
    while not isinstance(answer, Failure):
        answer = asked.read()
        assert answer
    assert said in answer.reason
    assert "more than 1 MiB" in answer.reason


def test_an_allowance():
    """Seconds from the beginning, or from when it was connected; bytes for each part; what was spent counts."""
    now = [100.0]
    allowance = Allowance(lambda: now[0])
    allowance.check()
    allowance.begin("it", 10.0, 1 << 20, spent=4.0)
    now[0] = 105.9
    allowance.check()
    now[0] = 106.0
    with pytest.raises(UnreadableError, match="it takes more than 10 s"):
        allowance.check()
    allowance.restart()
    allowance.take(1 << 20)
    allowance.check()
    allowance.take(1)
    with pytest.raises(UnreadableError, match="it has more than 1 MiB"):
        allowance.check()
    allowance.part("the rest", 1 << 20)
    allowance.check()
    now[0] = 112.0
    with pytest.raises(UnreadableError, match="the rest takes more than 10 s"):
        allowance.check()


def test_the_pages_of_a_list_share_their_seconds(way):
    """What the pages before it took is not given again to the next."""
    now = [0.0]
    world = World(None)
    steps = fetch(Query("prod", ("reviews",)), "0", 500, fresh=False, sink=world, clock=lambda: now[0])
    assert next(steps).spent == 0.0
    now[0] = 200.0
    step = steps.send(ok(slice_list(more="next")))
    assert step.spent == 200.0

    answer = way(lambda conn, request: conn.reply(slice_list())).get(Get("/", spent=transport.LONGEST))
    assert "takes more than 300 s" in answer.reason


# -- more bytes than fit


@pytest.mark.parametrize("how", ["plain", "chunked", "zipped", "without a length"])
def test_a_list_that_is_too_large_is_told(how, way, monkeypatch):
    """In words, with a cure, and as an answer that is none."""
    monkeypatch.setattr(body, "LARGEST", 1 << 20)
    large = b" " * (3 << 20)

    def handle(conn, request):
        if how == "plain":
            conn.reply(None, body=large)
        elif how == "zipped":
            conn.reply(None, headers=[("Content-Encoding", "gzip")], body=gzip.compress(large))
        elif how == "chunked":
            conn.raw(CHUNKED + b"ffffffff\r\n" + large)
        else:
            conn.raw(b"HTTP/1.1 200 OK\r\n\r\n" + large)
        conn.idle()

    answer = way(handle).get(Get("/"))
    assert answer.reason.startswith("reading the answer of 127.0.0.1")
    assert answer.reason.endswith(": it has more than 1 MiB")
    assert answer.cure == PROXY
    assert failed(answer).kind == "malformed"


# -- what was not asked for, or is not what it says


def zipped(text):
    return gzip.compress(text)


def deflated(text):
    return zlib.compress(text)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("watch", "encoding", "encode"),
    [
        (True, "gzip", zipped),
        (True, "GZIP", zipped),
        (True, "deflate", deflated),
        (True, "gzip, gzip", lambda text: zipped(zipped(text))),
        (True, "br", bytes),
        (False, "deflate", deflated),
        (False, "gzip, gzip", lambda text: zipped(zipped(text))),
    ],
)
def test_an_encoding_that_was_not_asked_for(watch, encoding, encode, chunked, way):
    """It is refused before anything is unzipped: a megabyte may be a thousand."""
    sent = encode(b" " * (1 << 20))

    def handle(conn, request):
        head = f"Content-Length: {len(sent)}" if not chunked else "Transfer-Encoding: chunked"
        conn.raw(f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\n{head}\r\n\r\n".encode())
        conn.chunk(sent) if chunked else conn.raw(sent)
        conn.idle()

    answer = way(handle).get(Get("/", watch=watch))
    assert isinstance(answer, Failure)
    assert f"its Content-Encoding is {encoding.lower()!r}, which was not asked for" in answer.reason
    assert answer.cure == PROXY
    assert failed(answer).code is Code.MALFORMED


def test_identity_is_no_encoding(way):
    """A watch that says so is one."""

    def handle(conn, request):
        conn.raw(CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Encoding: identity\r\n\r\n"))
        conn.chunk(b"{}\n")
        conn.idle()

    watch = way(handle)
    assert isinstance(watch.get(Get("/", watch=True)), Reply)
    assert watch.read() == b"{}\n"


def test_a_watch_that_is_not_chunked_comes_in_pieces(way, monkeypatch):
    """None is larger than what is held at a time."""
    monkeypatch.setattr(body, "PIECE", 1000)

    def handle(conn, request):
        conn.reply(None, body=b"x" * 100_000)

    watch = way(handle)
    assert isinstance(watch.get(Get("/", watch=True)), Reply)
    found = list(iter(watch.read, b""))
    assert sum(map(len, found)) == 100_000
    assert max(map(len, found)) <= 1000


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (CHUNKED + b"ZZZ\r\nhello", "the connection broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "the connection broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", ENCODED),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", "what it says is no HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "what it says is no HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "what it says is no HTTP"),
    ],
)
def test_words_and_a_cure_for_all(sent, words, way):
    """No class of an exception is told, and something can be looked at."""

    def handle(conn, request):
        conn.raw(sent)
        raise ConnectionError

    answer = way(handle).get(Get("/"))
    assert answer.reason.endswith(f": {words}")
    assert answer.cure


# -- what no number and no object can be

NINES = "9" * 5000
DEEP = b"[" * 200_000 + b"]" * 200_000


def test_a_version_of_thousands_of_digits_is_none():
    """It compares with nothing, and raises nothing."""
    assert number("9" * LONGEST) is not None
    assert number(NINES) is None
    assert not older(NINES, "1")
    assert not older("1", NINES)


def test_a_list_of_such_a_version():
    """A malformed answer like any other; what is known stays."""
    world = World(lambda asked: ok(slice_list(piece("a", [row("10.0.0.1")]), version=NINES)))
    world.run(requests=3)
    assert set(world.told) == {"failed malformed"}
    assert "resourceVersion" in world.trouble.reason


def test_an_item_of_such_a_version_costs_itself():
    """The others are read."""
    a, b = piece("a", [row("10.0.0.1")], version=NINES), piece("b", [row("10.0.0.2")], version=7)
    world = World(lambda asked: [] if asked.watch else ok(slice_list(a, b)))
    world.run(requests=1)
    assert world.store == {"b": "7"}


@pytest.mark.parametrize("kind", ["MODIFIED", "BOOKMARK"])
def test_an_event_of_such_a_version_costs_itself(kind):
    """The watch goes on, from where it was."""
    good = piece("a", [row("10.0.0.1")], version=200)
    events = [line(event(kind, piece("a", [], version=NINES))), line(event("MODIFIED", good))]
    world = World(lambda asked: events if asked.watch else ok(slice_list(version=100)))
    world.run(requests=2)
    assert world.told[0] == "replace 0"
    assert "upsert a" in world.told
    assert not any(each.startswith("failed") for each in world.told)
    assert world.reflector.cursor == "200"


@pytest.mark.parametrize(
    "sent",
    [
        b'{"type":"MODIFIED","object":{"metadata":{},"junk":' + DEEP + b"}}",
        b'{"type":"MODIFIED","junk":' + b'{"a":' * 200_000 + b"1" + b"}" * 200_000 + b"}",
        b'{"type":"ERROR","object":' + DEEP + b"}",
        b'{"type":"ERROR","object":{"kind":"Status","junk":' + DEEP + b"}}",
    ],
    ids=["object", "beside", "error", "status"],
)
def test_an_event_that_is_nested_too_deep(sent):
    """It is told as what it is, and ends the watch: it may have been the word of its end."""
    with pytest.raises(Trouble) as caught:
        apply(sent, None, "prod")
    assert caught.value.code is Code.MALFORMED
    assert "nested too deep" in caught.value.reason


def test_a_plugin_that_prints_what_is_nested_too_deep():
    """No mistake of ours, either."""
    from kubelb.discovery.kube.access import CredentialsError
    from kubelb.discovery.kube.command import Command

    with pytest.raises(CredentialsError, match="no JSON"):
        _read(DEEP, Command("login", (), (), "client.authentication.k8s.io/v1", "Never", ""))
