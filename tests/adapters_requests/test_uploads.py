"""Request bodies: what may be sent twice, and what not; whatever happens, no POST is delivered twice."""

import contextlib
import io

import pytest
import requests
import urllib3
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.adapters.raw import OK, RawServer, serve
from tests.adapters_requests.conftest import URL, Session, in_flight, state

from kubelb import LoadBalancer, Retry
from kubelb.adapters.requests import mount
from kubelb.service import service_of


def test_a_generator_is_sent_once(session, raw, balance):
    """Refused before anything was taken from it, it goes elsewhere; broken afterwards, it does not."""

    def half(peer):
        peer.head()
        peer.reset()

    dead, good = raw(), raw()
    dead.close()
    client = session(balance(dead, good, policy="round_robin"))
    for _ in range(4):
        assert client.put(URL, data=iter([b"one", b"two"])).status_code == 200
    assert good.delivered == 4

    broken = raw(half)
    client = session(balance(broken, good, policy="round_robin"))
    ends = []
    for _ in range(2):
        try:
            ends.append(client.put(URL, data=iter([b"x" * 10] * 3)).status_code)
        except requests.ConnectionError:
            ends.append(0)
    assert sorted(ends) == [0, 200]
    assert broken.delivered == 1


class Stream(io.RawIOBase):
    """A file that cannot seek."""

    def __init__(self) -> None:
        self._left = [b"", b"abc"]

    def read(self, size: int = -1) -> bytes:
        return self._left.pop() if self._left else b""

    def __iter__(self):
        return iter(self.read, b"")

    def tell(self) -> int:
        raise OSError


def seekable(start: int):
    file = io.BytesIO(b"0123456789abc")
    file.seek(start)
    return file


@pytest.mark.parametrize(
    ("body", "whole"),
    [
        (lambda: b"0123456789abc", b"0123456789abc"),
        (lambda: "0123456789abc", b"0123456789abc"),
        (lambda: bytearray(b"0123456789abc"), b"0123456789abc"),
        (lambda: seekable(0), b"0123456789abc"),
        (lambda: seekable(10), b"abc"),
        (Stream, None),
    ],
)
def test_what_is_sent_again(session, raw, balance, body, whole):
    """Bytes, text, and files from where they stood are repeated whole; a file that cannot seek is not repeated."""

    def once(peer):
        peer.request()
        peer.reset()

    seen = []

    def keep(peer):
        head = peer.head()
        peer.server.delivered -= 1
        size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        while len(peer._buffer.partition(b"\r\n\r\n")[2]) < size:
            peer._more()
        seen.append(peer._buffer.partition(b"\r\n\r\n")[2])
        peer.server.delivered += 1
        peer.send(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))

    bad, good = raw(once), raw(keep) if whole else raw()
    client = session(balance(bad, good, policy="round_robin"))
    ends = []
    for _ in range(2):
        try:
            ends.append(client.put(URL, data=body()).status_code)
        except requests.ConnectionError:
            ends.append(0)
    assert ends == [200, 200] if whole else sorted(ends) == [0, 200]
    assert seen == ([whole] * 2 if whole else [])


def test_a_body_that_cannot_be_produced_blames_nobody(session, raw, balance):
    """The caller's own error, whatever its type: no retry, no failure, and nothing in flight."""

    def produce(error):
        yield b"some"
        raise error

    server, other = raw(), raw()
    lb = balance(server, other)
    client = session(lb)
    with pytest.raises(KeyError):
        client.put(URL, data=produce(KeyError("mine")))
    with pytest.raises(requests.ConnectionError, match="disk"):
        client.put(URL, data=produce(OSError("disk")))
    assert [each.failures for each in service_of(lb).balancer.states()] == [0, 0]
    assert in_flight(lb) == 0


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, "elsewhere"),
        TimeoutError("elsewhere"),
        urllib3.exceptions.NewConnectionError(urllib3.connection.HTTPConnection("elsewhere"), "refused"),
        urllib3.exceptions.ConnectTimeoutError("elsewhere"),
        urllib3.exceptions.ClosedPoolError(urllib3.HTTPConnectionPool("elsewhere"), "closed"),
        urllib3.exceptions.EmptyPoolError(urllib3.HTTPConnectionPool("elsewhere"), "empty"),
        requests.ConnectionError("elsewhere"),
        requests.exceptions.ConnectTimeout("elsewhere"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("begun", [False, True])
def test_a_body_whose_producer_cannot_connect(session, raw, balance, error, begun):
    """Kind: "never sent" by the type of an exception. It comes from another service, which refuses: sent once."""

    def produce():
        if begun:
            yield b"some"
        raise error

    lb = balance(raw(), raw())
    client = session(lb)
    for send in (client.post, client.put):
        with pytest.raises((requests.RequestException, OSError)):
            send(URL, data=produce())
    assert sum(view.picks for view in lb.endpoints()) == 2
    assert [view.failures for view in lb.endpoints()] == [0, 0]


def test_a_body_may_come_from_another_request(session, service, balance):
    """A body that is produced by a request of its own, in the same thread, disturbs neither."""
    svc = service(2)
    lb = balance(*svc)
    client = session(lb)

    def produce():
        yield client.get(URL, timeout=1.0).content
        yield client.get(URL, timeout=2.0).content

    assert client.post(URL, data=produce(), timeout=4.0).status_code == 200
    assert in_flight(lb) == 0


def test_a_large_body_arrives_whole(session, service, balance):
    """Written in pieces, from bytes, a file or a generator."""
    svc = service(1)
    client = session(balance(*svc))
    whole = bytes(range(256)) * 4000
    for body in (whole, io.BytesIO(whole), (whole[at : at + 100_000] for at in range(0, len(whole), 100_000))):
        assert client.post(URL, data=body).status_code == 200
        assert svc[0].log[-1].body == whole


def test_an_early_answer_is_read(session, raw, balance):
    """A server that answers 413 and closes before the body was written has given an answer."""

    def refuse(peer):
        peer.head()
        peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        peer.sock.settimeout(0.2)
        peer.hang()

    server = raw(refuse)
    lb = balance(server)
    try:
        assert session(lb).post(URL, data=b"x" * 5_000_000).status_code == 413
    except requests.ConnectionError:  # the reset was faster; nobody's fault
        assert state(lb, server).failures == 0
    assert in_flight(lb) == 0


WAYS = ["ok", "reset", "reset after reading", "hang up", "503", "half an answer"]


@settings(max_examples=40, deadline=None)
@given(
    ways=st.lists(st.sampled_from(WAYS), min_size=3, max_size=3),
    method=st.sampled_from(["POST", "PATCH", "GET", "PUT"]),
    key=st.booleans(),
    body=st.sampled_from([lambda: b"pay", lambda: io.BytesIO(b"pay"), lambda: iter([b"pay"])]),
)
def test_nothing_is_delivered_twice_unless_it_may_be(ways, method, key, body):
    """Counted at the servers, under any combination of faults: at most once, but for what is idempotent."""

    def script(way):
        def act(peer):
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

    servers = [RawServer(script(way)) for way in ways]
    target = f"static:///{','.join(server.address for server in servers)}"
    with LoadBalancer(target, retry=Retry(wait=lambda _: 0.0)) as lb, Session() as client:
        mount(client, lb, hosts=["reviews.prod"])
        with contextlib.suppress(requests.ConnectionError):
            client.request(method, URL, data=body(), headers={"Idempotency-Key": "7"} if key else {})
        delivered = sum(server.delivered for server in servers)
        assert delivered <= (3 if key or method in {"GET", "PUT"} else 1)
        assert in_flight(lb) == 0
    for server in servers:
        server.close()


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_kept_connection_that_the_server_closed(session, raw, balance, method):
    """It may have carried a processed request: a POST is never repeated; a GET is, and no endpoint is blamed."""

    def second_is_dropped(peer):
        peer.request()
        peer.send(OK)
        peer.request()
        peer.reset()

    server, good = raw(second_is_dropped, serve), raw()
    lb = balance(server, good, policy="round_robin")
    client = session(lb)
    ends = []
    for _ in range(4):
        try:
            ends.append(client.request(method, URL).status_code)
        except requests.ConnectionError:
            ends.append(0)
    assert ends.count(0) == (1 if method == "POST" else 0)
    assert server.delivered + good.delivered == (4 if method == "POST" else 5)
    assert state(lb, server).failures == 0
