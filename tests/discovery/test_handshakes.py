"""An API server that is slow to shake hands: it is waited for ever longer, and the watch comes to be.

One kind: a bound that is tighter than what the other side needs, tried again and again: never served, and each try a
handshake more for a server that has too much to do.
"""

import contextlib
import os
import socket
import ssl
import threading
import time

import pytest
import trustme

from kubelb.discovery.kube.access import Access, Given
from kubelb.discovery.kube.connection import LONGEST, Handshakes
from kubelb.discovery.kube.lifeline import Lifeline
from kubelb.discovery.kube.steps import Failure, Get, Phase
from kubelb.discovery.kube.token import TokenFile
from kubelb.discovery.kube.transport import Transport
from kubelb.testing import LocalCluster

from .build import piece, row
from .feeding import Reader
from .server import Server, slice_list


class Slow:
    """A server's context that lets each handshake wait."""

    def __init__(self, context, seconds):
        self._context = context
        self.seconds = seconds

    def wrap_socket(self, *args, **options):
        time.sleep(self.seconds)
        return self._context.wrap_socket(*args, **options)


def idle_watch(conn, request):
    if request.watch:
        conn.stream()
        conn.idle()
    conn.reply(slice_list(piece("a", [row("10.0.0.1")])))


def test_patience_doubles():
    """To forty seconds; what begins with more keeps that."""
    handshakes = Handshakes(5.0)
    for seconds in (10.0, 20.0, 40.0, LONGEST):
        handshakes.took_too_long()
        assert handshakes.seconds == seconds
    longer = Handshakes(60.0)
    longer.took_too_long()
    assert longer.seconds == 60.0


def open_to(port):
    """How many descriptors of this process are connected to that port."""
    found = 0
    for number in range(3, 512):
        with contextlib.suppress(OSError):
            sock = socket.socket(fileno=number)
            with contextlib.suppress(OSError):
                found += sock.getpeername()[1] == port
            sock.detach()
    return found


@pytest.mark.parametrize("through", ["directly", "a proxy"])
def test_a_fork_amid_a_handshake(through):
    """The kind: a descriptor that a forked child keeps, since nothing that it can find has it. While it is open the
    server has a connection that nothing will ever use. Here neither the server nor a proxy of https answers.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        url = f"https://127.0.0.1:{port}"
        access = Access(url) if through == "directly" else Access("https://api.test", proxy=url)
        line = Lifeline()
        way = Transport(Given(access), line, print, connect_timeout=30.0)
        thread = threading.Thread(target=way.get, args=(Get("/"),))
        thread.start()
        with listener.accept()[0] as peer:
            assert peer.recv(1)  # its hello: the handshake has begun
            before = open_to(port)
            child = os.fork()
            if not child:
                try:
                    line.abandon()
                    os._exit(open_to(port))
                finally:
                    os._exit(99)
            after = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        line.stop()
        thread.join(10)
        way.close()
        assert (before, after) == (2, 0)  # the connection and the duplicate that ends a wait
        assert open_to(port) == 0


def test_a_handshake_has_its_bound():
    """As before: the time that was given, and more the next time; the connection is closed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        way = Transport(Given(Access(f"https://127.0.0.1:{port}")), Lifeline(), print, connect_timeout=0.5)
        answer = way.get(Get("/"))
        assert isinstance(answer, Failure)
        assert (answer.phase, answer.silent, way._handshakes.seconds) == (Phase.TLS, True, 1.0)
        assert open_to(port) == 0
        way.close()


@pytest.mark.slow
def test_a_server_that_is_slow_to_shake_hands(made, tmp_path):
    """Some are begun in vain until it is known; then none, also when the connection is lost."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with Server(idle_watch, Slow(context, 0.8)) as server:
        feed = Reader(made, Access(server.url, ca_file=str(tmp_path / "ca.pem")), connect_timeout=0.3)
        feed.ips("10.0.0.1", timeout=20.0)
        begun = server.accepted
        assert 2 <= begun <= 5
        feed.until(lambda _: any(request.watch for request in server.requests), timeout=20.0)
        asked = len(server.requests)
        server.drop_all()
        feed.until(lambda _: len(server.requests) > asked, timeout=20.0)
        assert server.accepted == begun + 1


@pytest.mark.slow
def test_handshakes_that_hang_and_are_all_answered_at_once(made):
    """The kind: requests come when their connections are there. A server that stood still is asked by one, then more.

    Twelve namespaces, so twelve streams: all but the last one or two have hung for long when it goes on.
    """
    with LocalCluster(tls=True) as cluster:
        feeds = []
        access = Access(cluster.url, ca_file=cluster.ca_file, credentials=TokenFile(cluster.token_file))
        for number in range(12):
            cluster.apply_slice(piece("a", [row("10.0.0.1")], ns=f"n{number}"))
            feeds.append(Reader(made, access, target=f"reviews.n{number}:http", connect_timeout=30.0))
        for feed in feeds:
            feed.ips("10.0.0.1")
        cluster.api.wait_for_watchers(12)
        cluster.api.cut_streams("reset")
        cluster.api.freeze()
        feeds[0].until(lambda _: sum(each.phase is Phase.TLS for each in lines(feeds)) >= 10, timeout=30.0)
        time.sleep(0.5)
        cluster.api.clear_requests()
        cluster.api.thaw()
        cluster.api.wait_for_watchers(12, timeout=30.0)
        asked = [request.at for request in cluster.api.requests]
    assert sum(at < asked[0] + 1.0 for at in asked) <= 5


def lines(feeds):
    return [feed.source._seat.desk.owner._line for feed in feeds]
