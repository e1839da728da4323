"""A healthy backend is an ordinary HTTP/1.1 server that says who it is and what it was asked."""

from __future__ import annotations

import socket
import time

import pytest
import urllib3

from kubelb.testing import Backend, LocalCluster, Received, Reply

from .helpers import until


@pytest.fixture
def backend(cluster: LocalCluster) -> Backend:
    return cluster.service("reviews.prod", replicas=1)[0]


def raw(backend: Backend, data: bytes, *, pieces: int = 0) -> bytes:
    """What comes back until the server closes, for bytes sent whole or by pieces."""
    with socket.create_connection((backend.host, backend.port), timeout=3.0) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(data), pieces or len(data)):
            sock.sendall(data[start : start + (pieces or len(data))])
            if pieces:
                time.sleep(0.0005)
        received = b""
        while piece := sock.recv(65536):
            received += piece
        return received


def test_it_says_who_it_is(backend: Backend, http: urllib3.PoolManager) -> None:
    """Name in header and body; path without the query."""
    response = http.request("GET", f"http://{backend.address}/ratings/7?x=1")
    assert response.headers["x-backend"] == backend.name == "reviews-0"
    assert response.json() == {"backend": "reviews-0", "method": "GET", "path": "/ratings/7", "attempt": 1}


def test_attempt_counts_over_the_service(cluster: LocalCluster, http: urllib3.PoolManager) -> None:
    """How often this path was tried at any backend: a retried request can be told from a first one."""
    svc = cluster.service("reviews.prod", replicas=3)
    attempts = [http.request("GET", f"http://{backend.address}/once").json()["attempt"] for backend in svc]
    assert attempts == [1, 2, 3]


def test_connections_are_kept(backend: Backend, http: urllib3.PoolManager) -> None:
    """Many requests, one connection."""
    for _ in range(5):
        http.request("GET", f"http://{backend.address}/")
    assert (backend.connections, backend.requests, backend.by_path) == (1, 5, {"/": 5})


def test_head_has_headers_only(backend: Backend, http: urllib3.PoolManager) -> None:
    """The length is that of the body which GET would have; the connection is in step afterwards."""
    response = http.request("HEAD", f"http://{backend.address}/")
    assert (response.status, response.data) == (200, b"")
    assert int(response.headers["content-length"]) > 0
    assert http.request("GET", f"http://{backend.address}/").status == 200
    assert backend.connections == 1


@pytest.mark.parametrize("size", [0, 1, 70_000])
def test_a_body_comes_back(backend: Backend, http: urllib3.PoolManager, size: int) -> None:
    """/echo returns it as it was, elsewhere it is in the JSON."""
    body = b"x" * size
    assert http.request("POST", f"http://{backend.address}/echo", body=body).data == body
    found = http.request("PUT", f"http://{backend.address}/x", body=body).json()
    assert (found["length"], found["body"]) == (size, body.decode())


def test_a_chunked_body_comes_back(backend: Backend, http: urllib3.PoolManager) -> None:
    """A request body of unknown length is put together."""
    pieces = [b"one ", b"two ", b"three"]
    response = http.request("POST", f"http://{backend.address}/echo", body=iter(pieces), chunked=True)
    assert response.data == b"one two three"


def test_a_client_that_expects_to_continue_is_told_to(backend: Backend) -> None:
    """100 Continue before the body is read."""
    with socket.create_connection((backend.host, backend.port), timeout=3.0) as sock:
        sock.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"hi")
        assert sock.recv(1000).endswith(b"\r\n\r\nhi")


@pytest.mark.parametrize("pieces", [0, 1, 7])
def test_requests_may_come_in_any_pieces(backend: Backend, pieces: int) -> None:
    """Pipelined, with a chunked body between, byte by byte: the same answers."""
    data = (
        b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
        b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n0\r\nTrailer: 1\r\n\r\n"
        b"GET /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    received = raw(backend, data, pieces=pieces)
    assert received.count(b"HTTP/1.1 200 OK") == 3
    assert b"\r\n\r\nabcHTTP/1.1" in received
    assert received.index(b'"/a"') < received.index(b"abcHTTP") < received.index(b'"/b"')


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: close\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
    ],
)
def test_when_a_connection_is_kept(backend: Backend, head: bytes, kept: bool) -> None:
    """By the version and the Connection header, and by nothing that looks like it."""
    with socket.create_connection((backend.host, backend.port), timeout=3.0) as sock:
        sock.sendall(head)
        sock.recv(65536)
        sock.settimeout(0.1)
        if kept:
            with pytest.raises(TimeoutError):
                sock.recv(1)
        else:
            assert sock.recv(1) == b""


@pytest.mark.parametrize(
    "data", [b"nonsense\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"GET / HTTP/2\r\n\r\n"]
)
def test_nonsense_is_answered_400(backend: Backend, data: bytes) -> None:
    """And the connection is closed."""
    assert raw(backend, data).startswith(b"HTTP/1.1 400 ")


def test_a_stream_comes_in_chunks(backend: Backend, http: urllib3.PoolManager) -> None:
    """/stream sends so many lines with a pause between."""
    began = time.monotonic()
    response = http.request("GET", f"http://{backend.address}/stream?chunks=3&delay=0.03&size=20")
    assert [line[:11] for line in response.data.split(b"\n")] == [b"reviews-0 0", b"reviews-0 1", b"reviews-0 2", b""]
    assert len(response.data) == 60
    assert time.monotonic() - began >= 0.09


def test_the_log_keeps_the_requests(backend: Backend, http: urllib3.PoolManager) -> None:
    """With headers and bodies, so that a test can look at what was sent."""
    http.request("POST", f"http://{backend.address}/x?a=1&a=2", body=b"hi", headers={"Host": "reviews.prod"})
    (seen,) = backend.log
    assert (seen.method, seen.path, seen.target, seen.body) == ("POST", "/x", "/x?a=1&a=2", b"hi")
    assert (seen.headers["host"], seen.query) == ("reviews.prod", {"a": "1"})
    backend.clear()
    assert (backend.requests, backend.by_path, list(backend.log), backend.connections) == (0, {}, [], 1)


def test_a_handler_takes_the_place_of_the_answer(cluster: LocalCluster, http: urllib3.PoolManager) -> None:
    """A function of the user's own; what it raises is a 500."""

    def handler(request: Received) -> Reply:
        if request.path == "/boom":
            raise RuntimeError("boom")
        return Reply(201, f"you sent {request.method}", {"x-mine": "1"})

    backend = cluster.service("mine.prod", handler=handler)[0]
    response = http.request("GET", f"http://{backend.address}/")
    assert (response.status, response.data, response.headers["x-mine"]) == (201, b"you sent GET", "1")
    assert http.request("GET", f"http://{backend.address}/boom").status == 500
    backend.fail(503, times=1)
    assert http.request("GET", f"http://{backend.address}/").status == 503
    assert http.request("GET", f"http://{backend.address}/").status == 201


def test_in_flight_is_zero_once_the_answer_is_there(backend: Backend, http: urllib3.PoolManager) -> None:
    """Whoever has read the answer finds no request in flight, without waiting."""
    for _ in range(200):
        http.request("GET", f"http://{backend.address}/")
        assert backend.in_flight == 0


def test_a_client_that_leaves_is_noticed(backend: Backend) -> None:
    """The connection count falls."""
    with socket.create_connection((backend.host, backend.port)):
        until(lambda: backend.connections == 1)
    until(lambda: backend.connections == 0)
