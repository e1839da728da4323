"""Each fault of a backend is what it says, on the wire."""

from __future__ import annotations

import socket
import threading
import time

import pytest
import urllib3
from urllib3.exceptions import NewConnectionError, ProtocolError, ReadTimeoutError

from kubelb.testing import Backend, LocalCluster

from .helpers import conditions, until


@pytest.fixture
def backend(cluster: LocalCluster) -> Backend:
    return cluster.service("reviews.prod", replicas=2)[0]


def get(http: urllib3.PoolManager, backend: Backend, path: str = "/", **options: object) -> urllib3.BaseHTTPResponse:
    return http.request("GET", f"http://{backend.address}{path}", **options)


def reset_seen(backend: Backend, *, read: int = 0) -> bool:
    """Whether a request at this backend ends in a reset, after reading `read` bytes of the answer."""
    with socket.create_connection((backend.host, backend.port), timeout=3.0) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            while sock.recv(read or 65536):
                pass
        except ConnectionResetError:
            return True
        return False


@pytest.mark.slow
def test_slow_waits_before_the_answer(backend: Backend, http: urllib3.PoolManager) -> None:
    """By a number, or by a function that is called for each request."""
    backend.slow(0.05)
    began = time.monotonic()
    get(http, backend)
    assert 0.05 <= time.monotonic() - began < 2.0
    delays = iter([0.0, 1.0])
    backend.slow(lambda: next(delays))
    began = time.monotonic()
    get(http, backend)
    assert time.monotonic() - began < 0.9
    get(http, backend)
    assert time.monotonic() - began >= 1.0


def test_fail_answers_with_a_status(backend: Backend, http: urllib3.PoolManager) -> None:
    """With headers; for so many requests, or until it heals."""
    backend.fail(429, headers={"Retry-After": "2"}, times=2)
    answers = [get(http, backend) for _ in range(3)]
    assert [answer.status for answer in answers] == [429, 429, 200]
    assert answers[0].headers["retry-after"] == "2"
    backend.fail()
    assert {get(http, backend).status for _ in range(3)} == {503}
    backend.heal()
    assert get(http, backend).status == 200


def test_faults_combine(backend: Backend, http: urllib3.PoolManager) -> None:
    """Slow and failing at once; when the failures are used up it is still slow."""
    backend.slow(0.03)
    backend.fail(500, times=1)
    for status in (500, 200):
        began = time.monotonic()
        assert get(http, backend).status == status
        assert time.monotonic() - began >= 0.03


def test_hang_never_answers(backend: Backend, http: urllib3.PoolManager) -> None:
    """The request has been read and is in flight until the client gives up; healed, it answers others."""
    backend.hang()
    with pytest.raises(ReadTimeoutError):
        get(http, backend, timeout=0.05)
    assert backend.requests == 1
    until(lambda: backend.in_flight == 0)
    backend.heal()
    assert get(http, backend).status == 200


def test_reset_resets_after_the_request(backend: Backend, http: urllib3.PoolManager) -> None:
    """RST, not FIN, and no byte of an answer."""
    backend.reset(times=2)
    with pytest.raises(ProtocolError, match="reset by peer"):
        get(http, backend)
    assert reset_seen(backend)
    assert backend.requests == 2
    assert get(http, backend).status == 200


def test_refuse_closes_the_port_and_nothing_else(
    cluster: LocalCluster, backend: Backend, http: urllib3.PoolManager
) -> None:
    """Open connections go on, new ones are refused, the slice says ready; healed, it listens on the same port."""
    get(http, backend)
    port = backend.port
    backend.refuse()
    assert get(http, backend).status == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((backend.host, port), timeout=1.0)
    fresh = urllib3.PoolManager(retries=False)
    with pytest.raises(NewConnectionError):
        get(fresh, backend)
    assert conditions(cluster)[backend.name] == (True, True, False)
    uid = backend.uid
    backend.heal()
    assert (backend.port, backend.uid) == (port, uid)
    assert get(fresh, backend).status == 200
    fresh.clear()


def test_reset_after_headers(backend: Backend) -> None:
    """The headers come, then RST."""
    backend.reset_after_headers()
    with socket.create_connection((backend.host, backend.port), timeout=3.0) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(65536).endswith(b"\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            sock.recv(65536)


def test_truncate_cuts_the_body(backend: Backend, http: urllib3.PoolManager) -> None:
    """Fewer bytes than Content-Length promised."""
    backend.truncate()
    with pytest.raises(ProtocolError, match=r"IncompleteRead\(\d+ bytes read, \d+ more expected\)"):
        get(http, backend)


def test_drip_sends_the_body_slowly(backend: Backend, http: urllib3.PoolManager) -> None:
    """In pieces, the headers at once; whole in the end."""
    backend.drip(10, 0.02)
    began = time.monotonic()
    response = get(http, backend, preload_content=False)
    headers = time.monotonic() - began
    data = response.read()
    assert time.monotonic() - began >= 0.02 * (len(data) // 10)
    assert headers < time.monotonic() - began - 0.02 * (len(data) // 10 - 1)
    assert b'"backend"' in data


def test_close_idle_leaves_busy_connections(backend: Backend, http: urllib3.PoolManager) -> None:
    """Only where no request is under way."""
    get(http, backend)
    with socket.create_connection((backend.host, backend.port), timeout=3.0) as busy:
        busy.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n")
        until(lambda: backend.connections == 2)
        time.sleep(0.02)
        backend.close_idle()
        assert backend.connections == 1
        busy.sendall(b"hi")
        assert busy.recv(65536).endswith(b"hi")


@pytest.mark.parametrize("reset", [True, False])
def test_close_connections_cuts_all(backend: Backend, reset: bool) -> None:
    """By RST or by FIN; the port stays open."""
    with socket.create_connection((backend.host, backend.port), timeout=3.0) as sock:
        until(lambda: backend.connections == 1)
        backend.close_connections(reset=reset)
        if reset:
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        else:
            assert sock.recv(1) == b""
    assert not reset_seen_after_connect(backend)


def reset_seen_after_connect(backend: Backend) -> bool:
    with socket.create_connection((backend.host, backend.port), timeout=3.0) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return not sock.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("fault", ["idle", "slow", "hang", "drip", "stream"])
def test_kill_ends_whatever_is_under_way(backend: Backend, fault: str) -> None:
    """Idle, sleeping, hanging, in the middle of a body: a reset, within a tenth of a second."""
    path = "/stream?chunks=100&delay=5" if fault == "stream" else "/"
    if fault == "slow":
        backend.slow(30.0)
    elif fault == "hang":
        backend.hang()
    elif fault == "drip":
        backend.drip(1, 30.0)
    with socket.create_connection((backend.host, backend.port), timeout=3.0) as sock:
        if fault != "idle":
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            until(lambda: backend.in_flight == 1)
        else:
            until(lambda: backend.connections == 1)
        began = time.monotonic()
        backend.kill()
        with pytest.raises(ConnectionResetError):
            while sock.recv(65536):
                pass
        assert time.monotonic() - began < 2.0
    assert (backend.in_flight, backend.connections) == (0, 0)


def test_kill_ends_a_write_that_nobody_reads(cluster: LocalCluster, http: urllib3.PoolManager) -> None:
    """A thread that is stuck in `send` is freed too."""
    backend = cluster.service("big.prod")[0]
    with socket.create_connection((backend.host, backend.port), timeout=3.0) as sock:
        sock.sendall(b"GET /stream?chunks=100&size=1000000 HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: backend.in_flight == 1)
        time.sleep(0.05)
        backend.kill()
        until(lambda: backend.in_flight == 0 and backend.connections == 0)


def test_faults_from_many_threads(backend: Backend, http: urllib3.PoolManager) -> None:
    """A count is used up exactly, however many ask at once."""
    backend.fail(500, times=25)
    statuses: list[int] = []

    def ask() -> None:
        pool = urllib3.PoolManager(retries=False)
        statuses.extend(get(pool, backend).status for _ in range(10))
        pool.clear()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (statuses.count(500), statuses.count(200)) == (25, 55)
    assert (backend.requests, backend.in_flight) == (80, 0)
