"""A name with several addresses, some of which swallow packets or refuse: dialled as RFC 8305 says, and stoppable."""

import contextlib
import errno
import os
import socket
import threading
import time
from itertools import pairwise

import pytest
from tests.stalls import elapsed

from kubelb.discovery.kube import resolve
from kubelb.discovery.kube.access import Access
from kubelb.discovery.kube.dial import MOST, dial, interleaved, most_telling
from kubelb.discovery.kube.lifeline import CutError, Lifeline
from kubelb.discovery.kube.resolve import Address

from .build import piece, row
from .feeding import Reader
from .server import Server, slice_list

V4, V6 = socket.AF_INET, socket.AF_INET6


def idle_watch(conn, request):
    if request.watch:
        conn.stream()
        conn.idle()
    conn.reply(slice_list(piece("a", [row("10.0.0.1")])))


@contextlib.contextmanager
def black_hole():
    """An address of which no SYN is answered: the queue of a listener that accepts nobody is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()


@contextlib.contextmanager
def listening():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()


@pytest.fixture
def refusing():
    """An address where nothing listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()


def plain(family):
    return socket.socket(family, socket.SOCK_STREAM)


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def named(monkeypatch, name, *addresses):
    """Have a name with these addresses, in this order."""
    real = socket.getaddrinfo

    def answer(host, *args, **kw):
        if host == name:
            return [(family, socket.SOCK_STREAM, 6, "", address) for family, address in addresses]
        return real(host, *args, **kw)

    monkeypatch.setattr(resolve.socket, "getaddrinfo", answer)
    monkeypatch.setattr(resolve, "_known", {})


def test_families_take_turns():
    """RFC 8305, 4: the first address's family first, then the other, each in its own order, and not without end."""
    four = [Address(V4, (f"10.0.0.{number}", 1)) for number in range(1, 13)]
    six = [Address(V6, (f"fd00::{number}", 1, 0, 0)) for number in range(1, 4)]
    hosts = [address.sockaddr[0] for address in interleaved([*six, *four])]
    assert hosts == ["fd00::1", "10.0.0.1", "fd00::2", "10.0.0.2", "fd00::3", "10.0.0.3", "10.0.0.4", "10.0.0.5"]
    assert len(hosts) == MOST


def test_a_black_hole_costs_a_quarter_of_a_second():
    """The second address is tried 250 ms after the first, and wins; nothing is left of the other."""
    with black_hole() as hole, listening() as there:
        line, before, began = Lifeline(), descriptors(), time.monotonic()
        with dial([Address(V4, hole), Address(V4, there)], 20.0, line, plain) as sock:
            took = time.monotonic() - began
            assert sock.getpeername() == there
            assert sock.gettimeout() == 20.0
            assert descriptors() == before + 1
        assert 0.25 <= took < 10
        assert not line._dups


def test_a_refusal_lets_the_next_begin_at_once(refusing):
    """250 ms are for those that are silent."""
    with listening() as there:
        took = elapsed(
            lambda: dial([Address(V4, refusing)] * 5 + [Address(V4, there)], 20.0, Lifeline(), plain).close()
        )
        assert took.own < 0.25


def test_each_silent_address_has_its_quarter_of_a_second():
    """The third address is tried when the second has had its time, too."""
    with black_hole() as hole, listening() as there:
        order = []

        def prepare(family):
            order.append(time.monotonic())
            return plain(family)

        dial([Address(V4, hole)] * 2 + [Address(V4, there)], 20.0, Lifeline(), prepare).close()
        assert [after - before >= 0.25 for before, after in pairwise(order)] == [True] * 2


def test_a_late_answer_counts():
    """An address that is slow is not given up when the next begins: the first that answers is taken."""
    with black_hole() as other, contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [stack.enter_context(socket.socket()) for _ in range(8)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())

        def accept():  # from when the second address is being tried; the kernel repeats the first one's SYN
            listener.settimeout(20)
            with contextlib.suppress(OSError):
                while True:
                    stack.enter_context(listener.accept()[0])

        begun = []

        def prepare(family):
            begun.append(family)
            if len(begun) == 2:
                threading.Thread(target=accept, daemon=True).start()
            return plain(family)

        addresses = [Address(V4, listener.getsockname()), Address(V4, other)]
        with dial(addresses, 20.0, Lifeline(), prepare) as sock:
            assert sock.getpeername() == listener.getsockname()
        listener.close()


def test_all_silent_ends_in_time():
    """Nothing but black holes: bounded by the timeout of the last one, told as silence, and no descriptor is left."""
    with black_hole() as hole:
        before, began = descriptors(), time.monotonic()
        with pytest.raises(TimeoutError, match=r"no answer within 0\.4 s"):
            dial([Address(V4, hole)] * 3, 0.4, Lifeline(), plain)
        assert 0.9 <= time.monotonic() - began < 10  # 2 x 0.25 s, and 0.4 s for the last
        assert descriptors() == before


def test_the_most_telling_failure_is_told(refusing):
    """A machine without IPv6 has no route to the first address; that the second refuses is what matters."""
    unreachable = OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    assert most_telling([refused, unreachable]) is refused
    assert most_telling([unreachable, TimeoutError("late"), unreachable]).args == ("late",)
    assert most_telling([OSError(errno.EAFNOSUPPORT, "none"), unreachable]) is unreachable
    assert str(most_telling([])) == "no address"

    def prepare(family):
        if family == V6:
            raise unreachable
        return plain(family)

    for order in ((V6, V4), (V4, V6)):
        addresses = [Address(family, refusing) for family in order]
        with pytest.raises(ConnectionRefusedError):
            dial(addresses, 5.0, Lifeline(), prepare)


def test_a_refusal_is_told_as_such_whatever_the_order(made, monkeypatch, refusing):
    """In health: not what is said of the address that cannot be dialled at all."""
    strange = 9999, ("there", refusing[1])  # of a family that this machine does not speak
    hosts = [(V4, refusing), strange]
    for number, addresses in enumerate((hosts, hosts[::-1])):
        named(monkeypatch, f"api{number}.test", *addresses)
        feed = Reader(made, Access(f"http://api{number}.test:{refusing[1]}"), connect_timeout=1.0)
        feed.until(lambda _, feed=feed: feed.events, timeout=20)
        assert "connection refused" in feed.health.error


@pytest.mark.parametrize("count", [1, 2, 5])
def test_stop_ends_it_at_once(count):
    """With one address on its way or several, before their time is over, and nothing is left behind."""
    with black_hole() as hole:
        line, before, ended = Lifeline(), descriptors(), []

        def run():
            with pytest.raises(CutError):
                dial([Address(V4, hole)] * count, 20.0, line, plain)
            ended.append(time.monotonic())

        thread = threading.Thread(target=run)
        thread.start()
        end = time.monotonic() + 10
        while len(line._dups) < count:
            assert time.monotonic() < end
            time.sleep(0.005)
        took = elapsed(lambda: (line.stop(), thread.join(10)))
        assert ended
        assert took.own < 0.05
        assert descriptors() == before


def test_a_line_that_was_stopped_before_is_not_dialled():
    """No socket is opened for a stream that has ended."""
    with listening() as there:
        line, before = Lifeline(), descriptors()
        line.stop()
        with pytest.raises(CutError):
            dial([Address(V4, there)], 5.0, line, plain)
        assert descriptors() == before


def test_without_descriptors():
    """EMFILE is told as itself."""

    def prepare(family):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with pytest.raises(OSError, match="Too many open files"):
        dial([Address(V4, ("127.0.0.1", 1))] * 3, 5.0, Lifeline(), prepare)


def test_an_api_server_behind_a_black_hole(made, monkeypatch):
    """The first address of its name answers nothing: ready long before that one's time is over."""
    with black_hole() as hole, Server(idle_watch) as server:
        named(monkeypatch, "api.test", (V4, hole), (V4, ("127.0.0.1", server.port)))
        began = time.monotonic()
        feed = Reader(made, Access(f"http://api.test:{server.port}"), connect_timeout=30.0)
        feed.ips("10.0.0.1", timeout=20)
        assert time.monotonic() - began < 20
        assert not feed.events


def test_a_proxy_behind_a_black_hole(made, monkeypatch):
    """The name that is dialled is the proxy's, and it is dialled in the same way."""
    with black_hole() as hole, Server(idle_watch) as proxy:
        named(monkeypatch, "proxy.test", (V4, hole), (V4, ("127.0.0.1", proxy.port)))
        access = Access("http://api.test", proxy=f"http://proxy.test:{proxy.port}")
        Reader(made, access, connect_timeout=30.0).ips("10.0.0.1", timeout=20)
        assert proxy.requests[0].headers["host"] == "api.test"


def test_a_source_stops_while_it_dials_several(made, monkeypatch):
    """Through the whole of it: the stream's thread is gone at once."""
    with black_hole() as hole:
        named(monkeypatch, "api.test", *[(V4, hole)] * 3)
        before = descriptors()
        feed = Reader(made, Access("http://api.test"), connect_timeout=30.0)
        feed.until(lambda _: "connecting to" in feed.health.error, timeout=20)
        took = elapsed(feed.source.stop)
        assert took.own < 0.05
        end = time.monotonic() + 5
        while descriptors() > before and time.monotonic() < end:
            time.sleep(0.01)
        assert descriptors() == before
