"""The connection to the API server and what is read from it, over real sockets and real TLS.

Kinds: an end that is not noticed (of a connection, a body, a chunk, what is zipped); an answer that is taken for more
than it is; a peer that is taken for the one that was meant; a request that others see.
"""

import contextlib
import gzip
import http.client
import socket
import ssl
import struct
import threading
import tracemalloc

import pytest
import trustme
from tests.waiting import until

from kubelb.discovery.kube import body, certificates
from kubelb.discovery.kube.access import Access, Given
from kubelb.discovery.kube.connection import _readable
from kubelb.discovery.kube.diagnose import failed
from kubelb.discovery.kube.lifeline import Lifeline
from kubelb.discovery.kube.proxied import Proxied
from kubelb.discovery.kube.site import Site
from kubelb.discovery.kube.steps import Failure, Get, Phase, Reply
from kubelb.discovery.kube.transport import Transport

from .server import Server

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
WATCH = Get("/watch", watch=True)
SECRET = "hunter2-not-to-be-seen"


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture(scope="module")
def context(authority):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "api.test").configure_cert(made)
    made.set_alpn_protocols(["h2", "http/1.1"])
    return made


@pytest.fixture
def way():
    """Makes a way to the server of an Access; its lifeline is `way.line`."""
    made = []

    def make(access):
        line = Lifeline()
        way = Transport(Given(access), line, print, connect_timeout=5.0, read_timeout=5.0)
        way.line = line
        made.append(way)
        return way

    yield make
    for each in made:
        each.close()


@contextlib.contextmanager
def asked(handle, way, get):
    """The answer of a plain server to one request, and the way to it."""
    with Server(handle) as server:
        there = way(Access(server.url))
        yield there.get(get), there, server


def bodies(of):
    """A server that answers with these bytes, whatever is asked."""
    return lambda conn, request: conn.reply(None, body=of)


# -- a connection that is used again, and one that is not


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("last", [b"", b"HTTP/1.1 408 Too late\r\n\r\n"])
def test_a_connection_that_ended_while_it_was_idle(way, context, ca_file, tls, last):
    """It is noticed before the next request, which goes another way and does not fail; nor is a word at the end taken
    for the answer.
    """

    def handle(conn, request):
        conn.reply({}, body=b"one" if request.number == 1 else b"two")
        conn.raw(last)
        conn.close()

    with Server(handle, context if tls else None) as server:
        there = way(Access(server.url, ca_file=ca_file))
        assert there.get(Get("/")).body == b"one"
        assert until(lambda: _readable(there._connection.sock))
        assert there.get(Get("/")).body == b"two"
        assert server.accepted == 2


@pytest.mark.parametrize("tls", [False, True])
def test_one_connection_for_all(way, context, ca_file, tls):
    """List, review, watch, whole errors: one after the other on the same, as long as each is read to its end."""

    def handle(conn, request):
        if request.watch:
            conn.stream({"a": 1})
            conn.end()
        elif request.path == "/error":
            conn.reply({}, status=500)
        else:
            conn.reply({})

    with Server(handle, context if tls else None) as server:
        there = way(Access(server.url, ca_file=ca_file))
        for path in ("/", "/error", "/"):
            assert isinstance(there.get(Get(path)), Reply)
        assert isinstance(there.get(Get("/?watch=1", watch=True)), Reply)
        assert there.read() == b'{"a": 1}\n'
        assert there._line.phase is Phase.STREAM
        assert server.accepted == 1


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nConnection: close\r\n", b"HTTP/1.0 200 OK\r\n"])
def test_a_server_that_says_it_closes(way, head):
    """It is believed."""

    def handle(conn, request):
        conn.raw(head + b"Content-Length: 2\r\n\r\n{}")

    with Server(handle) as server:
        there = way(Access(server.url))
        assert [there.get(Get("/")).body for _ in range(2)] == [b"{}", b"{}"]
        assert server.accepted == 2


def test_an_error_that_is_large_is_not_read_to_its_end(way):
    """As much as is told of it; the rest goes with its connection."""

    def handle(conn, request):
        if request.number == 1:
            conn.reply(None, status=500, body=b"x" * (20 << 20))
        else:
            conn.reply({})

    with asked(handle, way, Get("/")) as (answer, there, server):
        assert answer.status == 500
        assert len(answer.body) <= (1 << 16) + 1
        assert there.get(Get("/")).body == b"{}"
        assert server.accepted == 2


def test_what_the_socket_is_set_to(way):
    """Written at once, and with keep-alives, for the boxes in between."""
    with asked(bodies(b"{}"), way, Get("/")) as (_, there, _server):
        sock = there._connection.sock
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


# -- a watch, chunk by chunk


def test_a_chunk_comes_whole(way):
    """However it is cut on its way: one piece, read in one allowance. An event in several writes is one event."""
    event = b"x" * 50_000
    begun = threading.Event()

    def handle(conn, request):
        conn.raw(CHUNKED + b"%x;note=1\r\n" % len(event) + event[:20_000])
        begun.wait(5)
        conn.raw(event[20_000:] + b"\r\n1\r\n!\r\n")
        conn.end()

    with asked(handle, way, WATCH) as (answer, there, _):
        assert isinstance(answer, Reply)
        threading.Timer(0.05, begun.set).start()
        assert there.read() == event
        assert there.read() == b"!"
        assert there.read() == b""


@pytest.mark.parametrize(
    "sent",
    [
        *(b"-5\r\n", b"1_0\r\n0123456789abcdef", b"0x5\r\n", b"+1\r\n!\r\n", b"\r\n", b" \r\n", b"5 5\r\nhello", b"0"),
        *(b"5\r\nhel", b"5\r\nhello", b"2\r\n{}XX0\r\n\r\n", b"2\r\n{}\r\n", b"\xb2\r\n"),
    ],
)
def test_chunks_that_make_no_sense_or_do_not_end(way, sent):
    """None is the end of the watch, for that would be no failure; what came whole before it counts."""

    def handle(conn, request):
        conn.raw(CHUNKED + sent)
        conn.close()

    with asked(handle, way, WATCH) as (_, there, _server):
        while isinstance(answer := there.read(), bytes):
            assert answer == b"{}"
        assert answer.reason.endswith(": the connection broke off")
        assert answer.cure


def test_a_length_of_a_chunk_without_end(way):
    """A line has a bound, too."""

    def handle(conn, request):
        conn.raw(CHUNKED + b"1;" + b"x" * 100_000 + b"\r\n!\r\n")
        conn.idle()

    with asked(handle, way, WATCH) as (_, there, _server):
        assert there.read().reason.endswith(": what it says is no HTTP")


def test_a_watch_of_a_length_that_is_cut_off(way):
    """As much as came, then the failure, and not the end."""

    def handle(conn, request):
        conn.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello")
        conn.close()

    with asked(handle, way, WATCH) as (_, there, _server):
        assert there.read() == b"hello"
        assert there.read().reason.endswith(": the connection broke off")


@pytest.mark.parametrize("tls", [False, True])
def test_a_read_that_is_stopped_in_the_middle(way, context, ca_file, tls):
    """Of a chunk that has begun: the thread that reads it is free at once."""

    def handle(conn, request):
        conn.raw(CHUNKED + b"ffff\r\nhello")
        conn.idle()

    with Server(handle, context if tls else None) as server:
        there = way(Access(server.url, ca_file=ca_file))
        assert isinstance(there.get(WATCH), Reply)
        answers = []
        reader = threading.Thread(target=lambda: answers.append(there.read()))
        reader.start()
        there.line.stop()
        reader.join(5)
        assert isinstance(answers[0], Failure)


# -- what is zipped


def zipped(*parts):
    """A server whose list is this, zipped."""
    return lambda conn, request: conn.reply(None, headers=[("Content-Encoding", "gzip")], body=b"".join(parts))


@pytest.mark.parametrize(
    ("rest", "more"),
    [(b"", b""), (b"\0" * 40, b""), (b"junk", b""), (gzip.compress(b"!"), b"!"), (b"\0\0junk", b"")],
    ids=["nothing", "zeros", "junk", "a member", "zeros and junk"],
)
def test_what_follows_a_member(way, rest, more, monkeypatch):
    """Another member counts; zeros and what is none do not. Nothing of it depends on where a read ends."""
    text = b"0123456789" * 1000
    for step in (1, 7, 1 << 20):
        monkeypatch.setattr(body, "_STEP", step)
        with asked(zipped(gzip.compress(text), rest), way, Get("/")) as (answer, there, server):
            assert answer.body == text + more
            there.get(Get("/"))
            assert server.accepted == 1


def test_what_is_zipped_and_cut_off(way):
    """Half a list is none, though the answer has its length; an empty one is empty."""
    with asked(zipped(gzip.compress(b"x" * 1000)[:-4]), way, Get("/")) as (answer, _, _server):
        assert answer.reason.endswith(": it is not encoded as it says")
        assert failed(answer).kind == "malformed"
    with asked(zipped(), way, Get("/")) as (answer, _, _server):
        assert answer.body == b""


def test_a_little_that_unpacks_to_very_much(way, monkeypatch):
    """No more of it is unpacked than is to be had, and a step."""
    monkeypatch.setattr(body, "LARGEST", 4 << 20)
    bomb = gzip.compress(bytes(64 << 20), 1)
    tracemalloc.start()
    try:
        with asked(zipped(bomb, bomb), way, Get("/")) as (answer, _, _server):
            assert answer.reason.endswith(": it has more than 4 MiB")
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_an_error_that_is_zipped(way):
    """It is unzipped where that is known, and its words are told; of another encoding it stays as it is."""
    text = b'{"kind": "Status"}'

    def handle(conn, request):
        encoding = request.path[1:]
        sent = gzip.compress(text) if encoding == "gzip" else text
        conn.reply(None, status=500, headers=[("Content-Encoding", encoding)], body=sent)

    for encoding in ("gzip", "br"):
        with asked(handle, way, Get(f"/{encoding}")) as (answer, _, _server):
            assert (answer.status, answer.body) == (500, text)


# -- where to, and by what name


@pytest.mark.parametrize(
    ("url", "host", "port", "authority", "prefix"),
    [
        ("https://10.96.0.1:443", "10.96.0.1", 443, "10.96.0.1", ""),
        ("https://10.96.0.1:6443", "10.96.0.1", 6443, "10.96.0.1:6443", ""),
        ("http://API.test", "api.test", 80, "api.test", ""),
        ("http://api.test:443", "api.test", 443, "api.test:443", ""),
        ("https://[fd00::1]", "fd00::1", 443, "[fd00::1]", ""),
        ("https://[fd00::1]:6443", "fd00::1", 6443, "[fd00::1]:6443", ""),
        ("https://[fe80::1%25eth0]:6443", "fe80::1%eth0", 6443, "[fe80::1]:6443", ""),
        ("https://api.test.:6443", "api.test.", 6443, "api.test:6443", ""),
        ("https://bücher.test", "bücher.test", 443, "xn--bcher-kva.test", ""),
        ("https://rancher.test/k8s/clusters/c-1", "rancher.test", 443, "rancher.test", "/k8s/clusters/c-1"),
        ("https://rancher.test/a b/é%20", "rancher.test", 443, "rancher.test", "/a%20b/%C3%A9%20"),
    ],
)
def test_where_a_url_leads(url, host, port, authority, prefix):
    """What is looked up, what stands in Host, and what stands in front of each path."""
    site = Site(url)
    assert (site.host, site.port, site.authority, site.prefix) == (host, port, authority, prefix)


NO_NAMES = ("bücher..test", ".bücher.test", "a" * 64 + ".test", "ü" * 60 + ".test", "api..test", ".")


@pytest.mark.parametrize("host", NO_NAMES)
@pytest.mark.parametrize(
    ("of", "reason", "cure"),
    [
        ("server", "the server of the caller has a host that is no name: ", "give https://HOST:PORT"),
        ("proxy", "from proxy-url or HTTPS_PROXY, cannot be used: its host is no name", "give http://HOST:PORT"),
        ("name", "the tls-server-name of the caller is no name: ", "give the name that the server's certificate has"),
    ],
    ids=["server", "proxy", "name"],
)
def test_a_host_that_is_no_name(way, monkeypatch, host, of, reason, cure):
    """The kind: an error of a configuration that is taken for a mistake of ours, or a server's, and tried for ever. It
    is told as what it is, wherever the name is from, and nothing is dialled.
    """
    dialled = []
    monkeypatch.setattr("kubelb.discovery.kube.connection.dial", lambda *args, **_: dialled.append(args))
    access = {
        "server": Access(f"http://{host}:6443"),
        "proxy": Access("http://127.0.0.1:1", proxy=f"http://me:{SECRET}@{host}:3128"),
        "name": Access("https://127.0.0.1:1", server_name=host, verify=False),
    }[of]
    answer = way(access).get(Get("/"))
    assert isinstance(answer, Failure)
    assert (answer.phase, answer.cure) == (Phase.CREDENTIALS, cure)
    assert answer.reason.endswith(reason if of == "proxy" else reason + host)
    assert not dialled


@pytest.mark.parametrize(
    "host", ["api.test.", "bücher.test", "a_b.test", "10.0.0.1", "[fd00::1]", "[fe80::1%25eth0.5]"]
)
def test_hosts_that_are_names(host):
    """What may be looked up is let through: a last dot, other alphabets, addresses with their zones."""
    Access(f"https://{host}:6443", server_name=host.replace("%25", "%"), proxy=f"http://{host}").check()


def test_what_is_sent(way):
    """As any HTTP client sends it; the path of the server in front, no encoding for a watch."""
    heads = []

    def serve(listener):
        sock = listener.accept()[0]
        while b"\r\n\r\n" not in (head := sock.recv(65536)):
            pass
        heads.append(head.decode())
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        sock.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        place = f"127.0.0.1:{listener.getsockname()[1]}"
        way(Access(f"http://{place}/base")).post("/review", b"[1]")
        thread.join(5)
    assert heads[0].split("\r\n") == [
        "POST /base/review HTTP/1.1",
        f"Host: {place}",
        "Accept: application/json",
        "User-Agent: kubelb",
        "Accept-Encoding: gzip",
        "Content-Type: application/json",
        "Content-Length: 3",
        "",
        "[1]",
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, None),
        ({"server_name": "api.test"}, None),
        ({"server_name": "api.test."}, None),
        ({"server_name": "other.test"}, "its certificate is not valid: Hostname mismatch"),
        ({"ca_file": None}, "its certificate is not valid: "),
        ({"ca_file": None, "verify": False}, None),
        ({"server_name": "other.test", "verify": False}, None),
    ],
)
def test_the_server_is_the_one_that_was_meant(way, context, ca_file, options, words):
    """Its certificate is of the CA and of the name that were given, or it is told no token; HTTP/1.1 is agreed on."""
    spoken = []

    def handle(conn, request):
        spoken.append(conn.sock.selected_alpn_protocol())
        conn.reply({})

    with Server(handle, context) as server:
        answer = way(Access(server.url, **{"ca_file": ca_file} | options)).get(Get("/"))
        assert spoken == ([] if words else ["http/1.1"])
    if words:
        assert words in answer.reason
        assert "the CA of the caller" in answer.cure
    else:
        assert answer.body == b"{}"


# -- a request that others see


class Token:
    def __init__(self, value):
        self.value = value

    def header(self, *, fresh=False):
        return self.value, ""


def test_nothing_of_an_application_takes_hold_of_it(way, monkeypatch, capfd):
    """Mocks and tracers patch http.client's connection, and its debug switch prints each header."""

    def caught(*args, **kw):
        raise AssertionError("a request of an application")

    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    for name in ("__init__", "request", "putrequest", "putheader", "endheaders", "send", "getresponse", "connect"):
        monkeypatch.setattr(http.client.HTTPConnection, name, caught)
    with Server(bodies(b"{}")) as server:
        assert way(Access(server.url, credentials=Token(f"Bearer {SECRET}"))).get(Get("/")).body == b"{}"
        assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
def test_a_header_is_one_line(way, end):
    """What would begin another is not sent, and not told."""
    with Server(bodies(b"{}")) as server:
        answer = way(Access(server.url, credentials=Token(f"Bearer {SECRET}{end}X: y"))).get(Get("/"))
        assert isinstance(answer, Failure)
        assert SECRET not in repr(answer)
        assert not server.requests


# -- a peer that speaks and closes before it has read the request


@contextlib.contextmanager
def hasty(last):
    """A server that says its last word and resets each connection, and what waits until it has done so once more."""
    connected, done = threading.Semaphore(0), threading.Semaphore(0)

    def wait(*_):
        connected.release()
        assert done.acquire(timeout=10)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                sock = listener.accept()[0]
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock = last(sock)
                connected.acquire(timeout=10)  # a reset that comes sooner would be one of connecting
                sock.close()
                done.release()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], wait
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def asked_late(access, wait):
    """The answer to a request that is written when the connection is no more."""
    there = Transport(Given(access), Lifeline(), print, connected=wait)
    try:
        return there.get(Get("/"))
    finally:
        there.close()


def test_an_alert_that_comes_before_the_request(authority, ca_file):
    """The kind: what the peer said last is lost, since it is not read where writing failed. In TLS 1.3 a client
    certificate is refused after our side of the handshake: it is told as that, and not as a reset.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def refuse(sock):
        secured = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        with contextlib.suppress(ssl.SSLError):
            secured.do_handshake()
        return secured

    with hasty(refuse) as (port, wait):
        answer = asked_late(Access(f"https://127.0.0.1:{port}", ca_file=ca_file), wait)
    assert isinstance(answer, Failure)
    assert "alert certificate required" in answer.reason
    assert answer.cure.startswith(f"does 127.0.0.1:{port} accept the client certificate of the caller?")


def test_an_answer_that_comes_before_the_request():
    """The same kind: a server that has too much to do says so, and reads nothing."""

    def refuse(sock):
        sock.sendall(b"HTTP/1.1 429 X\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")
        return sock

    with hasty(refuse) as (port, wait):
        answer = asked_late(Access(f"http://127.0.0.1:{port}"), wait)
    assert isinstance(answer, Reply)
    assert (answer.status, answer.retry_after) == (429, 7.0)


def test_a_proxy_that_refuses_before_it_is_asked(monkeypatch):
    """The same kind, of CONNECT."""

    def refuse(sock):
        sock.sendall(b"HTTP/1.1 403 X\r\nContent-Length: 0\r\n\r\n")
        return sock

    with hasty(refuse) as (port, wait):
        tunnel = Proxied._tunnel
        monkeypatch.setattr(Proxied, "_tunnel", lambda self, sock: (wait(), tunnel(self, sock)))
        answer = asked_late(Access("https://api.test", proxy=f"http://127.0.0.1:{port}"), float)
    assert "the proxy refused the tunnel (HTTP 403)" in answer.reason


def test_a_peer_that_closes_without_a_word():
    """There is nothing to be read: it is the connection that broke off."""
    with hasty(lambda sock: sock) as (port, wait):
        answer = asked_late(Access(f"http://127.0.0.1:{port}"), wait)
    assert isinstance(answer, Failure)
    assert answer.phase is Phase.HEADERS
    assert answer.reason.endswith((": the connection broke off", ": connection reset by peer"))


# -- through a proxy


@pytest.fixture
def trusted(ca_file, monkeypatch):
    """The system trusts this authority, too."""
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    certificates._context.cache_clear()
    yield
    certificates._context.cache_clear()


def tunnel(listener, context, port):
    """A proxy that is spoken to by TLS, for one connection."""
    with contextlib.suppress(OSError):
        client = context.wrap_socket(listener.accept()[0], server_side=True)
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        with client, socket.create_connection(("127.0.0.1", port)) as upstream:
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=pump, args=(upstream, client), daemon=True)
            back.start()
            pump(client, upstream)
            back.join(5)


def pump(a, b):
    with contextlib.suppress(OSError):
        while data := a.recv(65536):
            b.sendall(data)
    with contextlib.suppress(OSError):
        b.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("tls", [False, True])
def test_a_proxy_for_a_server_of_http(way, context, trusted, tls):
    """It is told the whole URL, and its login; the server's name stands in Host. The connection is used again."""
    with Server(bodies(b"{}"), context if tls else None) as proxy:
        url = proxy.url.replace("://", f"://me:{SECRET}@")
        there = way(Access("http://api.test:8080/base", proxy=url, credentials=Token("Bearer abc")))
        for _ in range(2):
            assert there.get(Get("/x")).body == b"{}"
        request = proxy.requests[1]
        assert (request.path, request.headers["host"]) == ("/base/x", "api.test:8080")
        assert request.headers["proxy-authorization"].startswith("Basic ")
        assert request.headers["authorization"] == "Bearer abc"
        assert proxy.accepted == 1


def test_tls_within_tls(way, context, ca_file, trusted):
    """To a proxy of https, and through it to the server; each has to be what it says. A fork closes what it should, and
    the end of it ends a read.
    """

    def handle(conn, request):
        if request.watch:
            conn.stream({"a": 1})
            conn.idle()
        conn.reply({})

    with Server(handle, context) as server, socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=tunnel, args=(listener, context, server.port), daemon=True)
        thread.start()
        proxy = f"https://127.0.0.1:{listener.getsockname()[1]}"
        there = way(Access(f"https://api.test:{server.port}", ca_file=ca_file, proxy=proxy))
        assert there.get(Get("/")).body == b"{}"
        assert isinstance(there.get(Get("/?watch=1", watch=True)), Reply)
        assert there.read() == b'{"a": 1}\n'
        sock = there._connection.sock
        answers = []
        reader = threading.Thread(target=lambda: answers.append(there.read()))
        reader.start()
        there.line.cut()
        reader.join(5)
        assert isinstance(answers[0], Failure)
        assert sock.fileno() == -1
        thread.join(5)


def test_a_fork_closes_tls_within_tls(way, context, ca_file, trusted):
    """In the child, by its number alone: the parent's is not shut down."""
    with (
        Server(bodies(b"{}"), context) as server,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        threading.Thread(target=tunnel, args=(listener, context, server.port), daemon=True).start()
        proxy = f"https://127.0.0.1:{listener.getsockname()[1]}"
        there = way(Access(f"https://api.test:{server.port}", ca_file=ca_file, proxy=proxy))
        assert there.get(Get("/")).body == b"{}"
        sock = there._connection.sock
        there.line.abandon()
        assert sock.fileno() == -1
        assert there._connection.sock is None


def test_a_proxy_that_is_not_the_one_that_was_meant(way, context, ca_file):
    """One of https has a certificate that the system trusts, or is told nothing. The kind: a cure that sends one to the
    wrong place; it is not the CA of the cluster that is to be looked at.
    """
    for server in ("http://api.test", "https://api.test"):
        with Server(bodies(b"{}"), context) as proxy:
            answer = way(Access(server, ca_file=ca_file, proxy=proxy.url)).get(Get("/"))
            assert "the proxy's certificate is not valid: " in answer.reason
            place = f"127.0.0.1:{proxy.port}"
            cure = f"does this system trust the CA of {place}, and does the certificate name 127.0.0.1?"
            assert answer.cure == cure
            assert not proxy.requests


def test_a_proxy_that_speaks_no_tls(way):
    """The same kind: https is said of a proxy of http."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve():
            with listener.accept()[0] as sock:
                sock.recv(4096)
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        answer = way(Access("https://api.test", proxy=f"https://127.0.0.1:{port}")).get(Get("/"))
        thread.join(5)
    assert answer.cure.startswith(f"is 127.0.0.1:{port} a proxy that speaks TLS itself?")
