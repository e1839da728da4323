"""A source stops within 50 ms whatever it is waiting for, and leaves nothing behind."""

import contextlib
import gc
import json
import os
import socket
import ssl
import threading
import time
from statistics import median

import pytest
import trustme
from tests.stalls import elapsed

from kubelb.discovery.kube import resolve
from kubelb.discovery.kube import source as source_module
from kubelb.discovery.kube.access import Access
from kubelb.discovery.kube.sharing import subscribe
from kubelb.discovery.kube.source import KubeDiscovery
from kubelb.target import parse_target

from .build import ips, piece, row
from .feeding import Reader
from .server import Server, slice_list

TARGET = parse_target("reviews.prod:http")


def watches():
    return [thread for thread in threading.enumerate() if thread.name.startswith("kubelb-watch")]


AT_ONCE = 0.05
"""Seconds, stalls of the machine left out. Whoever waits for a socket waits for seconds."""


def stop_takes(source):
    return elapsed(source.stop).own


def wait_for(test, timeout=5.0):
    end = time.monotonic() + timeout
    while not test():
        assert time.monotonic() < end
        time.sleep(0.002)


@contextlib.contextmanager
def full_backlog():
    """A port at which a SYN is not answered: the queue of a listener that accepts nobody is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        for _ in range(8):
            filler = socket.socket()
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(listener.getsockname())
            fillers.append(filler)
        yield listener.getsockname()[1]
        for filler in fillers:
            filler.close()


@contextlib.contextmanager
def scripted(handle, context=None):
    with Server(handle, context) as server:
        yield server.port


def idle_watch(conn, request):
    if request.watch:
        conn.stream()
        conn.idle()
    conn.reply(slice_list(piece("a", [row("10.0.0.1")])))


def half_list(conn, request):
    conn.raw(b'HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{"kind":')
    conn.idle()


def close_at_once(conn, request):
    conn.close()


STATES = {
    "connecting": (full_backlog, "connecting to"),
    "awaiting headers": (lambda: scripted(lambda conn, request: conn.idle()), "waiting for an answer"),
    "in a list": (lambda: scripted(half_list), "reading the answer"),
    "idle watch": (lambda: scripted(idle_watch), None),
    "backoff": (lambda: scripted(close_at_once), "waiting for an answer"),
}


@pytest.mark.parametrize("state", STATES)
def test_every_state(made, state):
    """Connecting, awaiting headers, mid-list, idle watch, backoff."""
    server, words = STATES[state]
    with server() as port:
        source = KubeDiscovery(TARGET, access=Access(f"http://127.0.0.1:{port}"))
        source.start(lambda: None)
        wait_for(lambda: words in source.health().error if words else source.health().synced)
        time.sleep(0.02)
        assert stop_takes(source) < AT_ONCE
        wait_for(lambda: not watches())


def test_handshake():
    """A TLS peer that accepts and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        source = KubeDiscovery(TARGET, access=Access(f"https://127.0.0.1:{listener.getsockname()[1]}"))
        source.start(lambda: None)
        wait_for(lambda: "TLS handshake" in source.health().error)
        assert stop_takes(source) < AT_ONCE
        wait_for(lambda: not watches())


def test_proxy_that_says_nothing():
    """A proxy that accepts CONNECT and does not answer it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
        source = KubeDiscovery(TARGET, access=Access("https://api.test:6443", proxy=proxy))
        source.start(lambda: None)
        wait_for(lambda: "TLS handshake" in source.health().error)
        assert stop_takes(source) < AT_ONCE
        wait_for(lambda: not watches())


def test_silent_nameserver(monkeypatch):
    """A look-up that hangs: the source stops at once, the look-up ends by itself, and there is only one of them."""
    hang, calls = threading.Event(), []
    real = socket.getaddrinfo

    def slow(host, *args, **kw):
        if host == "api.test" and not kw.get("flags"):
            calls.append(1)
            hang.wait(10)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real(host, *args, **kw)

    monkeypatch.setattr(resolve.socket, "getaddrinfo", slow)
    for _ in range(3):
        source = KubeDiscovery(TARGET, access=Access("http://api.test:6443"))
        source.start(lambda: None)
        wait_for(lambda source=source: "looking up the name of api.test" in source.health().error)
        wait_for(lambda: calls)
        assert stop_takes(source) < AT_ONCE
        wait_for(lambda: not watches())
    assert len(calls) == 1
    hang.set()
    wait_for(lambda: not any(thread.name.startswith("kubelb-lookup") for thread in threading.enumerate()))


def test_credentials_that_hang():
    """An exec plugin that waits for somebody: the source stops at once, and its thread with the plugin."""
    asked, answer = threading.Event(), threading.Event()

    class Plugin:
        def open(self):
            asked.set()
            answer.wait(10)
            return Access("http://127.0.0.1:1")

    source = KubeDiscovery(TARGET, access=Plugin())
    source.start(lambda: None)
    assert asked.wait(5)
    assert "reading the credentials" in source.health().error
    assert stop_takes(source) < AT_ONCE
    assert watches()
    answer.set()
    wait_for(lambda: not watches())


def test_cut_while_tls_idles():
    """A watch through TLS, over a certificate of our own CA."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with authority.cert_pem.tempfile() as ca_file, Server(idle_watch, context) as server:
        source = KubeDiscovery(TARGET, access=Access(server.url, ca_file=ca_file))
        source.start(lambda: None)
        wait_for(lambda: source.health().synced)
        assert stop_takes(source) < AT_ONCE
        wait_for(lambda: not watches())


def test_stop_from_within():
    """A reader that stops the source out of its own notice does not wait for itself."""
    done = threading.Event()

    def notice():
        if source.health().synced:
            source.stop()
            done.set()

    with Server(idle_watch) as server:
        source = KubeDiscovery(TARGET, access=Access(server.url))
        source.start(notice)
        assert done.wait(5)
        wait_for(lambda: not watches())


def test_stop_from_within_before_start_has_returned(monkeypatch):
    """The first list may be there before `start` returns; a source that is stopped by it leaves no stream behind."""
    done = threading.Event()

    def slowly(*args):
        stream = subscribe(*args)
        done.wait(0.3)
        return stream

    def notice():
        source.stop()
        done.set()

    monkeypatch.setattr(source_module, "subscribe", slowly)
    with Server(idle_watch) as server:
        source = KubeDiscovery(TARGET, access=Access(server.url))
        source.start(notice)
        assert done.wait(5)
        wait_for(lambda: not watches())


@pytest.mark.slow
@pytest.mark.filterwarnings("error::ResourceWarning")
def test_a_thousand_cycles():
    """Start and stop at any moment leaves no descriptor, no thread and no warning."""
    with Server(idle_watch) as server:
        for cycle in range(1000):
            if cycle == 20:
                gc.collect()
                wait_for(lambda: not watches())
                before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
            source = KubeDiscovery(TARGET, access=Access(server.url))
            source.start(lambda: None)
            if cycle % 3:
                time.sleep(cycle % 10 / 2000)
            source.stop()
        wait_for(lambda: not watches())
        gc.collect()
        if before:
            wait_for(lambda: len(os.listdir("/proc/self/fd")) <= before + 4)


def test_start_again(made):
    """Stopped and started once more, a source lists again and goes on with its versions."""
    with Server(idle_watch) as server:
        feed = Reader(made, server.url)
        feed.ips("10.0.0.1")
        feed.source.stop()
        feed.source.stop()
        feed.source.start(feed.ring)
        wait_for(lambda: sum(not request.watch for request in server.requests) == 2)
        assert feed.source.poll(time.monotonic())[0] is None


@pytest.mark.slow
def test_while_a_list_is_decoded():
    """A list of 20 000 endpoints that is being read, decoded or reduced: stop does not wait for the end of it."""
    slices = [piece(f"s-{n:03}", [row(ip) for ip in ips(1000, 1 + 1000 * n)]) for n in range(20)]
    body = json.dumps(slice_list(*slices)).encode()

    def handle(conn, request):
        conn.reply(None, body=body)

    def median_of_twelve(server):
        times = []
        for wait in range(12):
            before = len(server.requests)
            source = KubeDiscovery(TARGET, access=Access(server.url))
            source.start(lambda: None)
            wait_for(lambda before=before: len(server.requests) > before)
            time.sleep(wait * 0.01)
            times.append(stop_takes(source))
            wait_for(lambda: not watches(), 20.0)
        return median(times)

    with Server(handle) as server:  # the best of three: another process may have the core meanwhile
        assert any(median_of_twelve(server) < AT_ONCE for _ in range(3))
