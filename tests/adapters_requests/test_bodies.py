"""Response bodies: a request is in flight until its body has ended, however."""

import contextlib
import gc

import pytest
import requests
from tests.adapters.raw import serve
from tests.adapters_requests.conftest import URL, in_flight, state, until

STREAM = "http://reviews.prod/stream?chunks=5&delay=0.005"
READERS = {
    "content": lambda response: response.content,
    "text": lambda response: response.text,
    "iter_content": lambda response: list(response.iter_content(7)),
    "iter_lines": lambda response: list(response.iter_lines()),
    "raw.read": lambda response: response.raw.read(),
    "raw.stream": lambda response: list(response.raw.stream(7)),
    "raw.read1": lambda response: list(iter(lambda: response.raw.read1(3), b"")),
    "raw.data": lambda response: response.raw.data,
    "raw.drain_conn": lambda response: response.raw.drain_conn(),
    "raw.readinto": lambda response: list(iter(lambda: response.raw.readinto(bytearray(8)), 0)),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("path", ["/", "/stream?chunks=5&delay=0.002"])
def test_in_flight_until_the_body_was_read(session, service, balance, reader, path):
    """Open at the headers, over with the last piece, whoever reads it; the connection is used again."""
    (backend,) = svc = service(1)
    lb = balance(*svc)
    client = session(lb)
    for _ in range(2):
        response = client.get("http://reviews.prod" + path, stream=True)
        assert in_flight(lb) == 1
        READERS[reader](response)
        assert in_flight(lb) == 0
    assert state(lb, backend).successes == 2
    assert backend.connections == 1


@pytest.mark.parametrize("way", ["close", "break", "with", "drop", "break and drop", "raise"])
def test_a_body_that_is_not_read(session, service, balance, way):
    """Closed, abandoned or lost: not in flight any more, no failure, and the connection does not stay open."""
    backends = service(1)
    lb = balance(*backends)
    client = session(lb)
    response = client.get(STREAM, stream=True)
    assert in_flight(lb) == 1
    if way == "close":
        response.close()
    elif way == "with":
        with response:
            pass
    elif way == "raise":
        with contextlib.suppress(KeyError), response:
            raise KeyError
    elif "break" in way:
        for _part in response.iter_content(3):
            break
        if way == "break":
            response.close()
    del response
    gc.collect()
    assert in_flight(lb) == 0
    assert state(lb, backends[0]).failures == 0
    assert client.get(URL).status_code == 200
    assert until(lambda: backends[0].connections <= 1)


def test_the_answer_of_a_second_try_can_be_dropped(session, service, balance):
    """The exception of the first one keeps no frame, and so nothing alive: its end needs no collection."""
    svc = service(2)
    lb = balance(*svc)
    svc[0].reset()
    client = session(lb)
    gc.collect()
    gc.disable()
    try:
        responses = [client.get(STREAM, stream=True) for _ in range(2)]
        assert [response.headers["x-backend"] for response in responses] == [svc[1].name] * 2
        assert in_flight(lb) == 2
        responses.clear()
        del client
        assert in_flight(lb) == 0
        assert until(lambda: svc[1].in_flight == 0)
    finally:
        gc.enable()


@pytest.mark.parametrize(("method", "stream"), [("HEAD", True), ("HEAD", False), ("GET", False)])
def test_answers_without_a_body_are_over_at_once(session, service, balance, method, stream):
    """HEAD, streaming or not: nothing is left to read, the connection is free, the response need not be closed."""
    svc = service(1)
    lb = balance(*svc)
    client = session(lb)
    kept = []
    for _ in range(3):
        kept.append(client.request(method, URL, stream=stream))
        assert in_flight(lb) == 0
    assert svc[0].connections == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", ["101 Switching Protocols", "103 Early Hints"])
def test_a_connection_after_a_1xx_is_nobody_elses(session, raw, balance, status, stream):
    """101: it speaks another protocol. 103: the answer is still to come, and the next request would take it."""

    def informs(peer):
        peer.request()
        peer.send(f"HTTP/1.1 {status}\r\nUpgrade: chat\r\nConnection: upgrade\r\n\r\n".encode())
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst")

    server = raw(informs, serve)
    lb = balance(server)
    client = session(lb)
    first = client.get(URL, stream=stream)
    assert first.status_code == int(status[:3])
    assert in_flight(lb) == stream
    assert client.get(URL).text == "ok"
    assert server.accepted == 2
    first.close()
    assert in_flight(lb) == 0


def test_no_content(session, raw, balance):
    """204, 304 and an empty body end with their headers."""

    def empty(peer):
        for head in (b"204 No Content\r\n", b"304 Not Modified\r\n", b"200 OK\r\nContent-Length: 0\r\n"):
            peer.request()
            peer.send(b"HTTP/1.1 " + head + b"\r\n")

    server = raw(empty)
    lb = balance(server)
    client = session(lb)
    kept = [client.get(URL, stream=True) for _ in range(3)]
    assert [response.status_code for response in kept] == [204, 304, 200]
    assert (in_flight(lb), server.accepted) == (0, 1)
    assert kept[2].content == b""


@pytest.mark.parametrize("cut", ["length", "chunked", "close"])
def test_a_broken_body_is_the_endpoints_fault(session, raw, balance, cut):
    """The caller gets requests' own error, no retry, and the endpoint a failure."""
    head = b"Transfer-Encoding: chunked\r\n\r\n5\r\nha" if cut == "chunked" else b"Content-Length: 10\r\n\r\nhalf"

    def truncate(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n" + head)
        if cut != "close":
            peer.reset()

    server = raw(truncate)
    lb = balance(server)
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
        session(lb).get(URL)
    assert (server.delivered, state(lb, server).failures, in_flight(lb)) == (1, 1, 0)


def test_bad_gzip_is_no_fault_of_the_connection(session, raw, balance):
    """What cannot be decoded was delivered all the same."""

    def nonsense(peer):
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope")

    server = raw(nonsense)
    lb = balance(server)
    with pytest.raises(requests.exceptions.ContentDecodingError):
        session(lb).get(URL)
    gc.collect()
    assert (state(lb, server).failures, in_flight(lb)) == (0, 0)


def test_an_interrupt_leaves_nothing_behind(session, raw, balance):
    """Ctrl-C while a request is written, or while its answer is read."""

    def produce():
        yield b"some"
        raise KeyboardInterrupt

    server = raw()
    lb = balance(server)
    client = session(lb)
    with pytest.raises(KeyboardInterrupt):
        client.put(URL, data=produce())
    assert in_flight(lb) == 0
    response = client.get(URL, stream=True)
    with pytest.raises(KeyboardInterrupt):
        for _part in response.iter_content(1):
            raise KeyboardInterrupt
    response.close()
    assert in_flight(lb) == 0
    assert until(lambda: server.open == 0)
