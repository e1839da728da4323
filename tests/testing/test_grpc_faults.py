"""Each fault of a gRPC backend is what it says, as a plain gRPC client sees it; `test_grpc_wire` has the bytes."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from kubelb.testing import Backend, LocalCluster

from .helpers import conditions, until

ECHO = "/kubelb.testing.Echo"
# Connections of its own for each channel, which tries again soon after it was refused.
OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 10),
    ("grpc.max_reconnect_backoff_ms", 20),
)


@pytest.fixture
def backend(cluster: LocalCluster) -> Backend:
    return cluster.service("reviews.prod", replicas=2, grpc=True)[0]


@pytest.fixture
def channel(backend: Backend) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(backend.address, OPTIONS) as channel:
        yield channel


def unary(channel: grpc.Channel, message: bytes = b"hi", **options: object) -> bytes:
    reply: bytes = channel.unary_unary(f"{ECHO}/Unary")(message, **{"timeout": 10.0, **options})
    return reply


def stream(channel: grpc.Channel, messages: int = 3, delay: float = 0.0, **options: object) -> Iterator[bytes]:
    asked = [("x-messages", str(messages)), ("x-delay", str(delay))]
    call: Iterator[bytes] = channel.unary_stream(f"{ECHO}/ServerStream")(
        b"hi", metadata=asked, **{"timeout": 10.0, **options}
    )
    return call


def bidi(channel: grpc.Channel) -> list[bytes]:
    return list(channel.stream_stream(f"{ECHO}/BidiStream")(iter([b"a", b"b"]), timeout=10.0))


@contextlib.contextmanager
def lost() -> Iterator[pytest.ExceptionInfo[grpc.RpcError]]:
    """Inside, a call ends with UNAVAILABLE, because its connection did: nobody said it, and none was refused."""
    with pytest.raises(grpc.RpcError) as caught:
        yield caught
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert dict(caught.value.trailing_metadata() or ()) == {}
    assert "failed to connect" not in caught.value.details()


def again(channel: grpc.Channel) -> None:
    """Over a new connection, all is well; a client may still try the old one for a moment."""

    def answered() -> bool:
        try:
            return unary(channel, wait_for_ready=True) == b"hi"
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            return False

    until(answered)


def test_slow_waits_before_the_first_message(backend: Backend, channel: grpc.Channel) -> None:
    """By a number, or by a function that is called for each call; a stream waits once."""
    backend.slow(0.05)
    for call in (lambda: unary(channel), lambda: list(stream(channel))):
        began = time.monotonic()
        call()
        assert time.monotonic() - began >= 0.05
    delays = [0.0, 0.3, 0.0]
    backend.slow(lambda: delays.pop())
    unary(channel)
    began = time.monotonic()
    list(stream(channel))
    assert time.monotonic() - began >= 0.3
    assert delays == [0.0]


def test_healing_wakes_the_slow(backend: Backend, channel: grpc.Channel) -> None:
    """Whoever sleeps gets its answer at once."""
    backend.slow(60.0)
    pending = channel.unary_unary(f"{ECHO}/Unary").future(b"hi", timeout=10.0)
    until(lambda: backend.in_flight == 1)
    backend.heal()
    assert pending.result() == b"hi"


def test_fail_answers_with_a_code(backend: Backend, channel: grpc.Channel) -> None:
    """UNAVAILABLE or another one, for so many calls or until it heals, with trailing metadata and no initial ones."""
    backend.fail(grpc.StatusCode.RESOURCE_EXHAUSTED, headers={"grpc-retry-pushback-ms": "40"}, times=2)
    for call in (unary, lambda channel: list(stream(channel))):
        with pytest.raises(grpc.RpcError) as caught:
            call(channel)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert dict(caught.value.initial_metadata()) == {}
        trailing = dict(caught.value.trailing_metadata())
        assert trailing == {"grpc-retry-pushback-ms": "40", "x-backend": "reviews-0"}
    assert unary(channel) == b"hi"
    backend.fail()
    with pytest.raises(grpc.RpcError) as caught:
        bidi(channel)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, "reviews-0 was told to fail")
    backend.heal()
    assert bidi(channel) == [b"a", b"b"]
    assert (backend.requests, backend.in_flight) == (5, 0)


def test_a_status_belongs_to_its_protocol(cluster: LocalCluster, backend: Backend) -> None:
    """A number is HTTP's, a code is gRPC's, and OK is no failure."""
    for wrong in (503, grpc.StatusCode.OK):
        with pytest.raises(TypeError, match=r"a gRPC backend fails with a grpc\.StatusCode that is not OK, not with"):
            backend.fail(wrong)
    with pytest.raises(TypeError, match=r"such as 503, not with <StatusCode\.UNAVAILABLE"):
        cluster.service("web.prod")[0].fail(grpc.StatusCode.UNAVAILABLE)


def test_faults_combine(backend: Backend, channel: grpc.Channel) -> None:
    """Slow and failing at once; when the failures are used up it is still slow."""
    backend.slow(0.03)
    backend.fail(grpc.StatusCode.INTERNAL, times=1)
    began = time.monotonic()
    with pytest.raises(grpc.RpcError):
        unary(channel)
    assert time.monotonic() - began >= 0.03
    unary(channel)
    assert time.monotonic() - began >= 0.06


def test_a_client_sees_pushback(backend: Backend) -> None:
    """gRPC's own retries wait as the trailing metadata of a failure say: it is a failure that they may repeat."""
    config = (
        '{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 3, "initialBackoff": "60s",'
        '"maxBackoff": "60s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}'
    )
    backend.fail(headers={"grpc-retry-pushback-ms": "30"}, times=2)
    with grpc.insecure_channel(backend.address, (*OPTIONS, ("grpc.service_config", config))) as channel:
        began = time.monotonic()
        assert unary(channel) == b"hi"
        assert 0.06 <= time.monotonic() - began < 9.0
    assert [call.headers.get("grpc-previous-rpc-attempts") for call in backend.log] == [None, "1", "2"]


def test_hang_never_answers(backend: Backend, channel: grpc.Channel) -> None:
    """The call is in flight until its client gives up; healed, the backend answers others."""
    backend.hang()
    with pytest.raises(grpc.RpcError) as caught:
        unary(channel, timeout=0.5)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    until(lambda: backend.in_flight == 0)
    pending = stream(channel)
    until(lambda: backend.in_flight == 1)
    backend.heal()
    assert unary(channel) == b"hi"
    assert backend.in_flight == 1
    pending.cancel()  # type: ignore[attr-defined]
    until(lambda: backend.in_flight == 0)
    assert unary(channel) == b"hi"


def test_reset_resets_when_the_call_has_been_read(backend: Backend, channel: grpc.Channel) -> None:
    """RST, nothing of an answer; other calls on the same connection die with it."""
    assert unary(channel) == b"hi"
    other = stream(channel, messages=2, delay=30.0)
    until(lambda: backend.in_flight == 1)
    backend.reset(times=1)
    with lost() as caught:
        unary(channel, b"lost")
    assert dict(caught.value.initial_metadata() or ()) == {}
    with lost():
        next(other)
    assert [call.body for call in backend.log] == [b"hi", b"hi", b"lost"]
    again(channel)
    until(lambda: backend.in_flight == 0)


def test_reset_after_headers(backend: Backend, channel: grpc.Channel) -> None:
    """The initial metadata come, then RST: a call that no retry policy may repeat."""
    backend.reset_after_headers(times=1)
    with lost() as caught:
        unary(channel)
    assert dict(caught.value.initial_metadata()) == {"x-backend": "reviews-0"}
    again(channel)
    assert backend.requests == 2


def test_reset_after_headers_of_a_stream(backend: Backend, channel: grpc.Channel) -> None:
    """Likewise, and no message comes."""
    backend.reset_after_headers(times=1)
    call = stream(channel)
    with lost():
        next(call)
    assert dict(call.initial_metadata()) == {"x-backend": "reviews-0"}  # type: ignore[attr-defined]
    again(channel)


@pytest.mark.parametrize("messages", [1, 2, 5])
def test_truncate_cuts_a_stream(backend: Backend, channel: grpc.Channel, messages: int) -> None:
    """One message comes, then the end of the connection: a stream with no status."""
    backend.truncate(times=1)
    call = stream(channel, messages)
    assert next(call) == b"hi"
    with lost():
        next(call)
    again(channel)


def test_truncate_cuts_a_message(backend: Backend, channel: grpc.Channel) -> None:
    """Of a single answer come the initial metadata and some of its bytes."""
    backend.truncate(times=1)
    with lost() as caught:
        unary(channel, b"x" * 10_000)
    assert dict(caught.value.initial_metadata()) == {"x-backend": "reviews-0"}
    again(channel)


def test_drip_sends_a_stream_slowly(backend: Backend, channel: grpc.Channel) -> None:
    """The initial metadata at once, `delay` seconds before each `size` messages; whole in the end."""
    backend.drip(2, 0.1)
    began = time.monotonic()
    call = stream(channel, 6)
    call.initial_metadata()  # type: ignore[attr-defined]
    headers = time.monotonic() - began
    assert list(call) == [b"hi"] * 6
    took = time.monotonic() - began
    assert took >= 0.3
    assert headers <= took - 0.1
    began = time.monotonic()
    assert unary(channel) == b"hi"
    assert time.monotonic() - began >= 0.1


def test_refuse_closes_the_port_and_nothing_else(
    cluster: LocalCluster, backend: Backend, channel: grpc.Channel
) -> None:
    """Open connections go on, new ones are refused, the slice says ready; healed, it listens on the same port."""
    unary(channel)
    backend.refuse()
    assert unary(channel) == b"hi"
    with grpc.insecure_channel(backend.address, OPTIONS) as fresh:
        with pytest.raises(grpc.RpcError, match="failed to connect to all addresses"):
            unary(fresh)
        assert conditions(cluster)[backend.name] == (True, True, False)
        address, uid = backend.address, backend.uid
        backend.heal()
        assert (backend.address, backend.uid) == (address, uid)
        again(fresh)
    assert unary(channel) == b"hi"


def test_close_idle_leaves_busy_connections(backend: Backend, channel: grpc.Channel) -> None:
    """Only where no call is under way, and no answer on its way."""
    done = threading.Event()

    def messages() -> Iterator[bytes]:
        yield b"first"
        done.wait(10.0)

    call = channel.stream_unary(f"{ECHO}/ClientStream").future(messages())
    until(lambda: backend.in_flight == 1)
    for _ in range(20):
        with grpc.insecure_channel(backend.address, OPTIONS) as idle:
            assert unary(idle) == b"hi"
            assert backend.connections == 2
            backend.close_idle()
            until(lambda: backend.connections == 1)
    done.set()
    assert call.result(10.0) == b"first"


@pytest.mark.parametrize("reset", [True, False])
def test_close_connections_cuts_all(backend: Backend, channel: grpc.Channel, reset: bool) -> None:
    """By RST or by FIN; the port stays open."""
    call = stream(channel, 2, 30.0)
    until(lambda: backend.in_flight == 1)
    backend.close_connections(reset=reset)
    with lost():
        next(call)
    until(lambda: backend.in_flight == 0)
    again(channel)


@pytest.mark.parametrize("fault", ["idle", "slow", "hang", "drip", "stream"])
def test_kill_ends_whatever_is_under_way(backend: Backend, channel: grpc.Channel, fault: str) -> None:
    """Idle, sleeping, hanging, in the middle of a stream: a reset, soon, and nothing left of it."""
    if fault == "slow":
        backend.slow(30.0)
    elif fault == "hang":
        backend.hang()
    elif fault == "drip":
        backend.drip(1, 30.0)
    if fault == "idle":
        with socket.create_connection((backend.host, backend.port), timeout=10.0) as sock:
            sock.recv(65536)  # its settings
            backend.kill()
            with pytest.raises(ConnectionResetError):
                sock.recv(65536)
    else:
        call = stream(channel, 100, 30.0 if fault == "stream" else 0.0)
        until(lambda: backend.in_flight == 1)
        began = time.monotonic()
        backend.kill()
        with lost():
            next(call)
        assert time.monotonic() - began < 9.0
    assert backend.in_flight == 0
    until(lambda: backend.connections == 0)


def test_kill_ends_a_write_that_nobody_reads(backend: Backend, channel: grpc.Channel) -> None:
    """A stream that its client does not read is freed, too."""
    call = channel.unary_stream(f"{ECHO}/ServerStream")(b"x" * 1_000_000, metadata=[("x-messages", "100")])
    until(lambda: backend.in_flight == 1)
    time.sleep(0.05)
    backend.kill()
    until(lambda: backend.in_flight == 0 and backend.connections == 0)
    call.cancel()


def test_a_hundred_calls_may_hang_at_once(backend: Backend, channel: grpc.Channel) -> None:
    """None waits behind another, and another backend answers meanwhile."""
    backend.hang()
    method = channel.unary_unary(f"{ECHO}/Unary")
    pending = [method.future(b"") for _ in range(100)]
    until(lambda: backend.in_flight == 100)
    backend.heal()
    assert unary(channel) == b"hi"
    for call in pending:
        call.cancel()
    until(lambda: backend.in_flight == 0)
    assert backend.requests == 101


def test_faults_from_many_threads(backend: Backend) -> None:
    """A count is used up exactly, however many ask at once."""
    backend.fail(grpc.StatusCode.INTERNAL, times=25)
    codes: list[grpc.StatusCode] = []

    def ask() -> None:
        with grpc.insecure_channel(backend.address, OPTIONS) as channel:
            for _ in range(10):
                try:
                    unary(channel)
                    codes.append(grpc.StatusCode.OK)
                except grpc.RpcError as error:
                    codes.append(error.code())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (codes.count(grpc.StatusCode.INTERNAL), codes.count(grpc.StatusCode.OK)) == (25, 55)
    assert (backend.requests, backend.in_flight) == (80, 0)
