"""Streams shared in a process, and not shared with a forked child."""

import os
import sys
import threading
import time
import traceback

import pytest

from kubelb.discovery.kube import sharing
from kubelb.discovery.kube.access import Access
from kubelb.discovery.kube.source import KubeDiscovery
from kubelb.target import parse_target

from .build import authorities, piece, row
from .feeding import Reader
from .server import Server, event, slice_list

PORTS = [{"name": "http", "port": 8080}, {"name": "admin", "port": 7070}]


class Live:
    """A server with one slice, and watches that are told of changes."""

    def __init__(self):
        self.conns = []

    def __call__(self, conn, request):
        if not request.watch:
            conn.reply(slice_list(piece("a", [row("10.0.0.1")], ports=PORTS, version=90)))
            return
        conn.stream()
        self.conns.append(conn)
        conn.idle()

    def tell(self, obj):
        for conn in self.conns:
            conn.event(obj)


def watches():
    return [thread for thread in threading.enumerate() if thread.name.startswith("kubelb-watch")]


def until(test, timeout=5.0):
    end = time.monotonic() + timeout
    while not test():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_latecomers_ask_nobody(made):
    """The kind: a subscriber that needs a list of its own. The twentieth is told at once what is known, and no sooner
    than it joined; each has its own port, and what is known has events in it, an end, and a slice that moved away."""
    live = Live()
    with Server(live) as server:
        Reader(made, server.url).ips("10.0.0.1")
        until(lambda: live.conns)
        live.tell(event("ADDED", piece("b", [row("10.0.0.2")], ports=PORTS, version=101)))
        live.tell(event("ADDED", piece("c", [row("10.0.0.3")], ports=PORTS, version=102)))
        live.tell(event("MODIFIED", piece("c", [row("10.0.0.4")], ports=PORTS, version=103)))
        crowd = [row(f"10.0.1.{n}", ready=False) for n in range(100)]  # so many that it is kept zipped
        live.tell(event("MODIFIED", piece("b", [row("10.0.0.2"), *crowd], ports=PORTS, version=104)))
        live.tell(event("ADDED", piece("d", [row("10.0.0.5")], ports=PORTS, version=104)))
        live.tell(event("MODIFIED", piece("d", [row("10.0.0.5")], ports=PORTS, version=105, service="ratings")))
        live.tell(event("DELETED", piece("a", ports=PORTS, version=106)))
        until(lambda: {"b", "c"} == set(made[0]._reducer._known))
        for number in range(20):
            port = ("http", "admin", 8080, 7070)[number % 4]
            late = KubeDiscovery(parse_target(f"reviews.prod:{port}"), access=Access(server.url))
            made.append(late)
            late.start(lambda: None)
            assert late.health().synced
            assert late.health().error == ""
            snapshot, _ = late.poll(time.monotonic())
            numbers = {"http": 8080, "admin": 7070}
            assert authorities(snapshot.endpoints) == [f"10.0.0.{n}:{numbers.get(port, port)}" for n in (2, 4)]
            assert len(snapshot.parked) == 100
        live.tell(event("ADDED", piece("e", [row("10.0.0.9")], ports=PORTS, version=107)))
        until(lambda: all("e" in source._reducer._known for source in made))
        assert len(server.requests) == 2


def test_a_latecomer_is_told_of_trouble_and_of_its_end(made):
    """While the server is away it gets what is known, how old that is, and why; then it recovers with the others."""
    live, away, told = Live(), [False], []

    def handle(conn, request):
        if away[0]:
            conn.close()
        live(conn, request)

    with Server(handle) as server:
        feed = Reader(made, server.url)
        feed.ips("10.0.0.1")
        until(lambda: live.conns)
        away[0] = True
        server.drop_all()
        until(lambda: feed.health.error, 10.0)
        late = KubeDiscovery(parse_target("reviews.prod:admin"), access=Access(server.url), emit=told.append)
        made.append(late)
        time.sleep(0.05)
        late.start(lambda: None)
        health = late.health()
        assert health.synced
        assert health.error == feed.health.error
        assert health.age == pytest.approx(feed.health.age, abs=0.02)
        assert health.age > 0.04
        away[0] = False
        feed.source.resync_now()
        until(lambda: not late.health().error, 10.0)
        assert [type(each).__name__ for each in told] == ["DiscoveryFailed", "DiscoveryRecovered"]


def test_a_latecomer_that_leaves_before_it_joined(made):
    """Stopped from another thread, in the moment between: it is told nothing, and nothing of it is left."""
    live = Live()
    with Server(live) as server:
        feed = Reader(made, server.url)
        feed.ips("10.0.0.1")
        late = KubeDiscovery(parse_target("reviews.prod:admin"), access=Access(server.url))
        made.append(late)
        desk = feed.source._seat.desk
        with desk.lock:  # as the stream holds it while it tells
            starting = threading.Thread(target=late.start, args=(lambda: None,))
            starting.start()
            until(lambda: len(desk.seats) == 2)
            late.stop()
            assert len(desk.seats) == 1
        starting.join(5)
        assert not late.health().synced


@pytest.mark.slow
def test_one_stream_for_two_sources(made):
    """Another port of the same service joins the stream; the last to leave ends it."""
    live = Live()
    with Server(live) as server:
        http = Reader(made, server.url)
        http.ips("10.0.0.1")
        admin = Reader(made, server.url, target="reviews.prod:admin")
        admin.ips("10.0.0.1")
        assert len(watches()) == 1
        until(lambda: live.conns)
        live.tell(event("ADDED", piece("b", [row("10.0.0.2")], ports=PORTS, version=101)))
        assert authorities(http.ips("10.0.0.1", "10.0.0.2").endpoints)[1] == "10.0.0.2:8080"
        assert authorities(admin.ips("10.0.0.1", "10.0.0.2").endpoints)[1] == "10.0.0.2:7070"
        http.source.stop()
        live.tell(event("DELETED", piece("a", ports=PORTS, version=102)))
        admin.ips("10.0.0.2")
        assert len(watches()) == 1
        admin.source.stop()
        until(lambda: not watches())
        assert not sharing._registry.channels


def test_different_namespaces_have_their_own(made):
    """What may be read is a matter of the namespace, and so is a stream."""
    with Server(Live()) as server:
        Reader(made, server.url)
        Reader(made, server.url, target="reviews.staging:http")
        until(lambda: len(server.requests) >= 2)
        assert len(watches()) == 2


@pytest.mark.slow
def test_a_stream_that_is_answered_rouses_the_others(made):
    """Two namespaces, a server that was away: who asks first has the other come, out of a sleep of a minute."""
    live, away = Live(), [False]

    def handle(conn, request):
        if away[0]:
            conn.close()
        live(conn, request)

    with Server(handle) as server:
        feeds = [Reader(made, server.url, target=f"reviews.{ns}:http") for ns in ("prod", "staging")]
        until(lambda: len(live.conns) == 2)
        streams = [feed.source._seat.desk.owner for feed in feeds]
        assert streams[0]._comeback is streams[1]._comeback
        for one in streams:
            one._reflector.backoff._failures = 10
        away[0] = True
        server.drop_all()
        until(lambda: all(feed.health.error for feed in feeds), 10.0)
        away[0] = False
        asked = len(server.requests)
        feeds[0].source.resync_now()
        until(lambda: not any(feed.health.error for feed in feeds), 10.0)
        assert len(server.requests) <= asked + 4
    for feed in feeds:
        feed.source.stop()
    assert not streams[0]._comeback._sleepers


@pytest.mark.slow
def test_a_raising_subscriber_hurts_nobody(made, monkeypatch):
    """One that raises is told so itself; the stream and the others go on."""
    live = Live()
    with Server(live) as server:
        good = Reader(made, server.url)
        good.ips("10.0.0.1")
        bad = KubeDiscovery(parse_target("reviews.prod:admin"), access=Access(server.url))
        made.append(bad)

        def broken(piece):
            raise ZeroDivisionError

        monkeypatch.setattr(bad, "upsert", broken)
        bad.start(lambda: None)
        until(lambda: live.conns)
        live.tell(event("ADDED", piece("b", [row("10.0.0.2")], ports=PORTS, version=101)))
        good.ips("10.0.0.1", "10.0.0.2")
        until(lambda: "ZeroDivisionError" in bad.health().error)
        assert good.health.error == ""


def test_a_reader_that_does_not_poll(made):
    """Events are taken while nobody polls, and one poll gives the newest of them."""
    live = Live()
    with Server(live) as server:
        feed = Reader(made, server.url)
        feed.ips("10.0.0.1")
        until(lambda: live.conns)
        for number in range(200):
            ready = number % 2 == 1
            live.tell(event("MODIFIED", piece("a", [row("10.0.0.1", ready=ready)], ports=PORTS, version=101 + number)))
        live.tell(event("ADDED", piece("z", [row("10.0.0.9")], ports=PORTS, version=900)))
        until(lambda: "z" in feed.source._reducer._known)
        snapshot, _ = feed.source.poll(time.monotonic())
        assert authorities(snapshot.endpoints) == ["10.0.0.1:8080", "10.0.0.9:8080"]
        assert snapshot.version == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork(made):
    """A child starts a stream of its own; the parent's goes on, undisturbed by the child's end."""
    live = Live()
    with Server(live) as server:
        feed = Reader(made, server.url)
        feed.ips("10.0.0.1")
        until(lambda: live.conns)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                sharing.after_fork_in_child()
                source = feed.source
                assert source.poll(time.monotonic()) == (None, None)
                assert not source.health().synced
                source.start(lambda: None)
                until(lambda: source.health().synced)
                snapshot, _ = source.poll(time.monotonic())
                assert authorities(snapshot.endpoints) == ["10.0.0.1:8080"]
                assert snapshot.version == feed.snapshot.version + 1
                assert snapshot.changes is None
                os.write(writing, b"1")
                source.stop()
                code = 0
            except BaseException:
                traceback.print_exc(file=sys.__stderr__)
            os._exit(code)
        os.close(writing)
        assert os.read(reading, 1) == b"1"
        os.close(reading)
        assert os.waitpid(child, 0)[1] == 0
        asked = len(server.requests)
        live.conns[0].event(event("ADDED", piece("b", [row("10.0.0.2")], ports=PORTS, version=101)))
        feed.ips("10.0.0.1", "10.0.0.2")
        assert len(server.requests) == asked
        assert feed.events == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_while_locked(made):
    """A lock that was held at the moment of the fork is not the child's."""
    with Server(Live()) as server:
        feed = Reader(made, server.url)
        feed.ips("10.0.0.1")
        with feed.source._lock, sharing._registry.lock:
            child = os.fork()
            if child == 0:
                sharing.after_fork_in_child()
                feed.source.start(lambda: None)
                feed.source.poll(0.0)
                feed.source.stop()
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
