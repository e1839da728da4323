"""The faults of a gRPC backend as frames and as the end of a TCP connection, where a gRPC client's errors are vague."""

from __future__ import annotations

import grpc
import pytest

from kubelb.testing import Backend, LocalCluster

from .helpers import until
from .http2 import DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Heard, Http2

UNARY, STREAM = "/kubelb.testing.Echo/Unary", "/kubelb.testing.Echo/ServerStream"
INITIAL, MESSAGE, TRAILERS = (HEADERS, END_HEADERS), (DATA, 0), (HEADERS, END_HEADERS | END_STREAM)


@pytest.fixture
def backend(cluster: LocalCluster) -> Backend:
    return cluster.service("reviews.prod", grpc=True)[0]


def call(backend: Backend, method: str, message: bytes = b"hi") -> Heard:
    """What a call at this backend brings, until the connection ends."""
    with Http2(backend) as client:
        client.call(method, message)
        return client.hear()


def test_a_healthy_answer(backend: Backend) -> None:
    """Initial metadata, message, trailing metadata; the connection stays until somebody ends it."""
    with Http2(backend) as client:
        client.call(UNARY)
        heard = [client.hear(HEADERS), client.hear(HEADERS)]
        assert [frame for each in heard for frame in each.of(HEADERS, DATA)] == [INITIAL, MESSAGE, TRAILERS]
        backend.close_connections()
        assert client.hear().end == "closed"


def test_fail_is_trailers_only(backend: Backend) -> None:
    """A single frame of headers, which ends the stream."""
    backend.fail(grpc.StatusCode.UNAVAILABLE)
    with Http2(backend) as client:
        client.call(UNARY)
        assert client.hear(HEADERS).of(HEADERS, DATA) == [TRAILERS]


@pytest.mark.parametrize("method", [UNARY, STREAM])
def test_reset(backend: Backend, method: str) -> None:
    """RST, and no frame of an answer; the call had been read."""
    backend.reset()
    heard = call(backend, method)
    assert (heard.end, heard.rest, heard.of(HEADERS, DATA)) == ("reset", b"", [])
    assert backend.log[-1].body == b"hi"


@pytest.mark.parametrize("method", [UNARY, STREAM])
def test_reset_after_headers(backend: Backend, method: str) -> None:
    """Initial metadata, RST."""
    backend.reset_after_headers()
    heard = call(backend, method)
    assert (heard.end, heard.rest, heard.of(HEADERS, DATA)) == ("reset", b"", [INITIAL])


def test_truncate_within_a_message(backend: Backend) -> None:
    """Initial metadata, half of the bytes of a message, FIN."""
    backend.truncate()
    heard = call(backend, UNARY, b"x" * 10_000)
    assert (heard.end, heard.of(HEADERS, DATA)) == ("closed", [INITIAL])
    assert 1000 < len(heard.rest) < 9000


def test_truncate_between_messages(backend: Backend) -> None:
    """Initial metadata, a message, FIN."""
    backend.truncate()
    heard = call(backend, STREAM)
    assert (heard.end, heard.rest, heard.of(HEADERS, DATA)) == ("closed", b"", [INITIAL, MESSAGE])


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("busy", [True, False])
def test_kill_and_close(backend: Backend, reset: bool, busy: bool) -> None:
    """By RST or by FIN, with a call under way or without."""
    backend.hang()
    for end in (lambda: backend.close_connections(reset=reset), lambda: backend.kill(reset=reset)):
        with Http2(backend) as client:
            if busy:
                client.call(UNARY)
                until(lambda: backend.in_flight == 1)
            until(lambda: backend.connections == 1)
            end()
            heard = client.hear()
            assert (heard.end, heard.of(HEADERS, DATA, GOAWAY)) == ("reset" if reset else "closed", [])
        until(lambda: (backend.in_flight, backend.connections) == (0, 0))


def test_goaway_when_a_grace_is_over(backend: Backend) -> None:
    """Not by the end of the connection, but as a frame, so that no call is lost that was not read."""
    with Http2(backend) as client:
        client.call(UNARY)
        client.hear(HEADERS)
        backend.drain(grace=0.0)
        assert client.hear(GOAWAY).frames[-1][2][:8] == b"\x7f\xff\xff\xff" + bytes(4)  # any stream so far, no error
