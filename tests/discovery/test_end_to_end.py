"""KubeDiscovery against a simple server on a socket: from bytes to Snapshots."""

import gzip
import json
import socket
import threading
import time

import pytest
from tests.stalls import elapsed

from kubelb.core.events import DiscoveryFailed, DiscoveryRecovered
from kubelb.discovery.kube import resolve

from .build import authorities, ips, piece, row
from .feeding import Reader
from .server import Server, bookmark, event, slice_list, status


def test_list_then_watch(made):
    """The list's endpoints, then each event's, on one connection."""
    go = threading.Event()

    def handle(conn, request):
        if not request.watch:
            conn.reply(slice_list(piece("a", [row("10.0.0.1"), row("10.0.0.2")], version=90)))
            return
        conn.stream(bookmark(101))
        go.wait(5)
        conn.event(event("MODIFIED", piece("a", [row("10.0.0.1"), row("10.0.0.2", ready=False)], version=102)))
        conn.event(event("ADDED", piece("b", [row("10.0.0.3")], version=103)))
        conn.idle()

    with Server(handle) as server:
        feed = Reader(made, server.url)
        first = feed.ips("10.0.0.1", "10.0.0.2")
        assert (first.version, first.exists, first.ports) == (1, True, ("http:8080",))
        go.set()
        second = feed.ips("10.0.0.1", "10.0.0.3")
        assert authorities(second.parked) == ["10.0.0.2:8080"]
        health = feed.health
        assert (health.synced, health.error, health.stale) == (True, "", False)
        assert health.age < 5
        assert server.accepted == 1
        one, two = server.requests
        assert one.query == {
            "labelSelector": "kubernetes.io/service-name=reviews",
            "resourceVersion": "0",
            "limit": "500",
        }
        assert one.headers["accept-encoding"] == "gzip"
        assert two.query["resourceVersion"] == "100"
        assert two.query["allowWatchBookmarks"] == "true"


def test_failure_then_recovery(made):
    """A server that says 503 is told as such, with the words of its Status, and the recovery too."""

    def handle(conn, request):
        if request.number == 1:
            conn.reply({"kind": "Status", "message": "etcd is away"}, status=503)
        elif not request.watch:
            conn.reply(slice_list(piece("a", [row("10.0.0.1")])))
        else:
            conn.stream()
            conn.idle()

    with Server(handle) as server:
        feed = Reader(made, server.url)
        feed.until(lambda _: "etcd is away" in feed.health.error)
        feed.source.resync_now()
        feed.ips("10.0.0.1")
        feed.until(lambda _: len(feed.events) == 2)
        assert [type(event) for event in feed.events] == [DiscoveryFailed, DiscoveryRecovered]
        assert feed.events[0].kind == "server-error"
        assert feed.health.error == ""


def serving(*endpoints, watch=None):
    """A list of these, and a watch that does nothing, or what it is told."""

    def handle(conn, request):
        if not request.watch:
            conn.reply(slice_list(piece("a", endpoints)))
            return
        conn.stream()
        if watch is not None:
            watch(conn, request)
        conn.idle()

    return handle


def test_zipped_list(made):
    """A list may be zipped, as the API server does from 128 KiB on."""
    body = gzip.compress(json.dumps(slice_list(piece("a", [row(ip) for ip in ips(1000)]))).encode())

    def handle(conn, request):
        if request.watch:
            conn.stream()
            conn.idle()
        conn.reply(None, headers=[("Content-Encoding", "gzip")], body=body)

    with Server(handle) as server:
        assert len(Reader(made, server.url).until(bool).endpoints) == 1000


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_wide_slices_in_small_pieces(made, size):
    """A 1000-endpoint slice arrives whole, however the server cuts its chunks."""
    text = json.dumps(
        event("ADDED", piece("b", [row(ip) for ip in ips(1000 if size > 1 else 30)], version=101))
    ).encode()

    def watch(conn, _):
        for start in range(0, len(text), size):
            conn.chunk(text[start : start + size])
        conn.chunk(b"\n")

    with Server(serving(watch=watch)) as server:
        Reader(made, server.url).until(lambda s: s and len(s.endpoints) == (1000 if size > 1 else 30), timeout=20)


def test_a_stream_that_is_not_chunked(made):
    """A proxy may turn the watch into a body that ends with the connection; events still come one by one."""
    go = threading.Event()

    def handle(conn, request):
        if not request.watch:
            conn.reply(slice_list(piece("a", [row("10.0.0.1")])))
            return
        conn.raw(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        conn.raw(json.dumps(event("ADDED", piece("b", [row("10.0.0.2")], version=101))).encode() + b"\n")
        go.wait(5)
        conn.raw(json.dumps(event("ADDED", piece("c", [row("10.0.0.3")], version=102))).encode() + b"\n")
        conn.idle()

    with Server(handle) as server:
        feed = Reader(made, server.url)
        feed.ips("10.0.0.1", "10.0.0.2")
        go.set()
        feed.ips("10.0.0.1", "10.0.0.2", "10.0.0.3")
        assert elapsed(feed.source.stop).own < 0.05


@pytest.mark.slow
def test_a_broken_stream_is_resumed(made):
    """A connection that is reset in the middle of an event costs nothing: the watch goes on where it was."""

    def handle(conn, request):
        if not request.watch:
            conn.reply(slice_list(piece("a", [row("10.0.0.1")])))
            return
        conn.stream()
        if request.number == 2:
            conn.event(event("ADDED", piece("b", [row("10.0.0.2")], version=101)))
            conn.chunk(b'{"type":"ADDED","obj')
            conn.reset()
        conn.event(event("ADDED", piece("c", [row("10.0.0.3")], version=102)))
        conn.idle()

    with Server(handle) as server:
        feed = Reader(made, server.url)
        feed.ips("10.0.0.1", "10.0.0.2", "10.0.0.3")
        assert [request.query.get("resourceVersion") for request in server.requests] == ["0", "100", "101"]
        assert feed.events == []


def test_an_address_of_a_family_that_is_not_spoken_here(made, monkeypatch):
    """A machine without IPv6 and a name with addresses of both: the next one is tried."""
    real = socket.getaddrinfo

    def both(host, port, *args, **kw):
        if host == "api.test" and not kw.get("flags"):
            unknown = (46, socket.SOCK_STREAM, 6, "", ("fd00::1", port, 0, 0))
            return [unknown, (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
        return real(host, port, *args, **kw)

    def handle(conn, request):
        if not request.watch:
            conn.reply(slice_list(piece("a", [row("10.0.0.1")])))
        else:
            conn.stream()
            conn.idle()

    monkeypatch.setattr(resolve.socket, "getaddrinfo", both)
    with Server(handle) as server:
        feed = Reader(made, server.url.replace("127.0.0.1", "api.test"))
        feed.ips("10.0.0.1")
        assert feed.events == []


def test_half_open(made):
    """A server that stops sending is replaced after the read timeout, without an event lost or a word said."""

    def handle(conn, request):
        if not request.watch:
            conn.reply(slice_list(piece("a", [row("10.0.0.1")])))
            return
        conn.stream()
        if request.number > 2:
            conn.event(event("ADDED", piece("b", [row("10.0.0.2")], version=101)))
        conn.idle()

    with Server(handle) as server:
        feed = Reader(made, server.url, read_timeout=0.2)
        assert elapsed(lambda: feed.ips("10.0.0.1", "10.0.0.2")).own < 1.5
        assert feed.events == []


def test_any_byte_keeps_a_stream(made):
    """Bookmarks and even bare newlines reset the inactivity clock."""
    seen = threading.Event()

    def watch(conn, _):
        for number in range(12):
            time.sleep(0.05)
            conn.chunk(b"\n") if number % 2 else conn.event(bookmark(101 + number))
        seen.set()

    with Server(serving(row("10.0.0.1"), watch=watch)) as server:
        feed = Reader(made, server.url, read_timeout=0.3)
        assert seen.wait(5)
        assert len(server.requests) == 2
        assert feed.health.age < 1


def test_refused_names_host_and_port(made):
    """Nothing listens: health names where and what to check, synced stays False."""
    with Server(lambda conn, request: None) as server:
        url = server.url
    feed = Reader(made, url)
    feed.until(lambda _: feed.events)
    assert feed.events[0].kind == "unreachable"
    assert url.removeprefix("http://") in feed.health.error
    assert "refused" in feed.health.error
    assert "nothing listens there" in feed.health.cure
    assert not feed.health.synced


def test_before_the_first_answer(made):
    """While nothing has failed yet, health says what is being waited for."""
    with Server(lambda conn, request: conn.idle()) as server:
        feed = Reader(made, server.url)
        feed.until(lambda _: "waiting for an answer from" in feed.health.error)
        assert "kubelb doctor" in feed.health.cure
        assert str(server.port) in feed.health.error


def test_forbidden_in_health(made):
    """Verb, resource and namespace, and the Role that would help; the data stays."""

    def handle(conn, request):
        if request.watch:
            conn.reply(status(403, "Forbidden", 'endpointslices is forbidden: User "x"'), status=403)
        else:
            conn.reply(slice_list(piece("a", [row("10.0.0.1")])))

    with Server(handle) as server:
        feed = Reader(made, server.url)
        feed.ips("10.0.0.1")
        feed.until(lambda _: feed.health.error)
        assert "watch endpointslices.discovery.k8s.io in namespace prod" in feed.health.error
        assert '["list", "watch"]' in feed.health.cure
        assert feed.health.synced


def test_stale_exactly_then(made):
    """The age grows while nothing is heard, and passes max_stale at max_stale."""
    clock = [1000.0]
    with Server(serving(row("10.0.0.1"))) as server:
        feed = Reader(made, server.url, max_stale=60.0, clock=lambda: clock[0])
        feed.ips("10.0.0.1")
        assert (feed.health.age, feed.health.stale) == (0, False)
        clock[0] += 59.9
        assert not feed.health.stale
        clock[0] += 0.1
        assert (feed.health.age, feed.health.stale) == (pytest.approx(60), True)
        assert feed.source.poll(clock[0])[0] is None


def test_unknown_port_then_there(made):
    """No endpoints and a problem that lists the ports; a slice with the port ends it."""

    def watch(conn, _):
        conn.event(event("ADDED", piece("b", [row("10.0.0.2")], ports=[{"name": "grpc", "port": 9}], version=101)))

    with Server(serving(row("10.0.0.1"), watch=watch)) as server:
        feed = Reader(made, server.url, target="reviews.prod:grpc")
        feed.ips("10.0.0.2")
        assert not feed.all[0].endpoints or len(feed.all) == 1


def test_old_data_outlives_the_server(made):
    """The server goes away for good: the endpoints stay, and a failure is told."""
    with Server(serving(row("10.0.0.1"))) as server:
        feed = Reader(made, server.url)
        feed.ips("10.0.0.1")
    feed.until(lambda _: feed.events, timeout=10)
    assert authorities(feed.snapshot.endpoints) == ["10.0.0.1:8080"]
    assert feed.source.poll(time.monotonic())[0] is None
    assert feed.health.synced


@pytest.mark.slow
def test_readers_never_see_a_mix(made):
    """A spinning reader sees the old list or the new one, whole, and nothing between."""
    sets = [[row(ip) for ip in ips(300, start)] for start in (1, 1001)]

    def handle(conn, request):
        if request.watch:
            conn.stream(event("ERROR", status(410, "Expired")))
            conn.end()
        else:
            lists = sum(not each.watch for each in server.requests)
            conn.reply(slice_list(*(piece(f"s-{n}", sets[lists % 2][n::3]) for n in range(3)), version=100 + lists))

    with Server(handle) as server:
        source = Reader(made, server.url, debounce=0.0).source
        seen, end = set(), time.monotonic() + 3
        while time.monotonic() < end and len(seen) < 2:
            snapshot, _ = source.poll(time.monotonic())
            if snapshot is not None:
                assert len(snapshot.endpoints) == 300
                assert len({endpoint.ip.split(".")[2] in {"0", "1"} for endpoint in snapshot.endpoints}) == 1
                seen.add(snapshot.endpoints[0].ip)
        assert len(seen) == 2


@pytest.mark.slow
def test_a_mistake_of_ours_is_told_and_survived(made, monkeypatch):
    """An exception that nobody foresaw becomes a failure without its text, a wait and a fresh start."""
    from kubelb.discovery.kube import pages

    real, calls = pages.decode_list, []

    def broken(body):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("Bearer hunter2")
        return real(body)

    monkeypatch.setattr(pages, "decode_list", broken)
    with Server(serving(row("10.0.0.1"))) as server:
        feed = Reader(made, server.url)
        feed.ips("10.0.0.1")
        assert feed.events[0].kind == "internal"
        assert "RuntimeError" in feed.events[0].reason
        assert "hunter2" not in repr(feed.events)
