"""Streams of responses: one endpoint each, its first message, its end, and the ways in which it is given up."""

import gc
import threading
import time
from typing import Any

import grpc
import pytest
from tests.adapters_grpc.conftest import in_flight, until
from tests.adapters_grpc.servers import free_port
from tests.adapters_grpc.test_failures import aborts

import kubelb
from kubelb.adapters import grpc as balanced
from kubelb.service import service_of

KINDS = ["unary_stream", "stream_stream"]


def begin(channel: Any, kind: str, count: int = 3, **options: Any) -> Any:
    if kind == "unary_stream":
        return channel.unary_stream("/test.Echo/US")(b"r", **options)
    return channel.stream_stream("/test.Echo/SS")((b"r" for _ in range(count)), **options)


@pytest.mark.parametrize("kind", KINDS)
def test_in_flight_until_the_end(server: Any, balance: Any, kind: str) -> None:
    """From the call to its status, wherever the caller is in between."""
    lb = balance(server())
    with balanced.insecure_channel(lb) as channel:
        call = begin(channel, kind, timeout=20)
        next(call)
        assert in_flight(lb) == 1
        for _ in call:
            pass
        assert until(lambda: in_flight(lb) == 0)
        state = service_of(lb).balancer.states()[0]
        assert (state.successes, state.failures) == (1, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_what_breaks_after_the_first_message_is_the_callers(server: Any, balance: Any, kind: str) -> None:
    """Nothing is repeated, the endpoint has failed, the error is gRPC's own."""
    servers = [server() for _ in range(2)]

    def between(number: int) -> None:
        if number == 1:
            raise RuntimeError("in the middle")

    for each in servers:
        each.between = between
    lb = balance(*servers)
    with balanced.insecure_channel(lb, idempotent=True) as channel:
        call = begin(channel, kind)
        assert next(call).startswith(b"r")
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
        assert caught.value.code() is grpc.StatusCode.UNKNOWN
        assert until(lambda: in_flight(lb) == 0)
    assert sum(each.total for each in servers) == 1
    assert sum(state.failures for state in service_of(lb).balancer.states()) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["cancel", "drop", "break", "deadline", "close"])
def test_given_up_half_way(server: Any, balance: Any, kind: str, way: str) -> None:
    """Cancelled, dropped, left by a `break`, out of time, or the channel closed: the server sees it."""
    alone = server()
    hold = threading.Event()
    alone.between = lambda number: hold.wait(20) if number else None
    lb = balance(alone)
    channel = balanced.insecure_channel(lb)
    call = begin(channel, kind, timeout=0.3 if way == "deadline" else 20)
    if way == "break":
        for _ in call:
            break
    else:
        next(call)
    assert in_flight(lb) == 1
    if way == "cancel":
        call.cancel()
        assert call.code() is grpc.StatusCode.CANCELLED
        assert call.cancelled()
    elif way == "close":
        channel.close()
    if way in {"drop", "break"}:
        del call
        gc.collect()
    assert until(lambda: in_flight(lb) == 0)
    hold.set()
    assert until(lambda: alone.active == 0)
    assert service_of(lb).balancer.states()[0].failures == 0
    channel.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_hundred_dropped_streams(server: Any, balance: Any, kind: str) -> None:
    """Nothing is in flight, here and at the servers, and the next calls are served."""
    servers = [server(), server()]
    lb = balance(*servers)
    with balanced.insecure_channel(lb) as channel:
        for _ in range(200):
            next(begin(channel, kind, 50))
        gc.collect()
        assert until(lambda: in_flight(lb) == 0)
        assert until(lambda: sum(each.active for each in servers) == 0)
        assert list(begin(channel, "unary_stream")) == [b"r0", b"r1", b"r2"]


@pytest.mark.parametrize("kind", KINDS)
def test_cancelled_before_anything_was_sent(balance: Any, kind: str) -> None:
    """From another thread, while the first `next` waits for a connection."""
    lb = balance(f"127.0.0.1:{free_port()}")
    with balanced.insecure_channel(lb) as channel:
        call = begin(channel, kind, wait_for_ready=True)
        timer = threading.Timer(0.1, call.cancel)
        timer.start()
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        assert caught.value.code() is grpc.StatusCode.CANCELLED
        assert call.code() is grpc.StatusCode.CANCELLED
        assert call.done()
        timer.join()


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_is_told_of_an_attempt_that_is_replaced(server: Any, balance: Any, kind: str) -> None:
    """Callbacks come once, at the end of the call that counts; then `add_callback` says that it is too late."""
    servers = [server(), server()]
    for each in servers:
        each.behave = aborts(grpc.StatusCode.UNAVAILABLE)
    lb = balance(*servers, policy="round_robin")
    told: list[Any] = []
    with balanced.insecure_channel(lb, idempotent=True) as channel:
        call = begin(channel, kind)
        assert call.add_callback(lambda: told.append("callback"))
        call.add_done_callback(told.append)
        assert until(lambda: sum(each.total for each in servers) == 1)
        time.sleep(0.05)
        assert told == []
        assert len(list(call)) == 3
        assert until(lambda: len(told) == 2)
        assert told == ["callback", call]
        assert not call.add_callback(lambda: None)
        call.add_done_callback(told.append)
        assert told[2:] == [call]
    assert sum(each.total for each in servers) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_asked_for_its_code_before_it_is_read(server: Any, balance: Any, kind: str) -> None:
    """Also where there was nothing to pick from yet; nothing is lost by it."""
    alone = server()
    lb = balance(alone)
    with balanced.insecure_channel(lb) as channel:
        call = begin(channel, kind)
        assert call.initial_metadata() is not None
        assert len(list(call)) == 3
        assert call.result() is None or isinstance(call.result(), bytes)
        assert call.exception() is None
        assert call.traceback() is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_without_messages(server: Any, balance: Any, kind: str, reviews: Any) -> None:
    """An end at once is an answer like any other."""
    from concurrent import futures

    pb2, pb2_grpc = reviews.pb2, reviews.pb2_grpc

    class Empty(pb2_grpc.ReviewsServicer):
        def List(self, request: Any, context: Any) -> Any:
            return iter(())

        def Chat(self, requests: Any, context: Any) -> Any:
            return iter(())

    bare = grpc.server(futures.ThreadPoolExecutor(4))
    pb2_grpc.add_ReviewsServicer_to_server(Empty(), bare)
    port = bare.add_insecure_port("127.0.0.1:0")
    bare.start()
    lb = balance(f"127.0.0.1:{port}")
    with balanced.insecure_channel(lb) as channel:
        stub = pb2_grpc.ReviewsStub(channel)
        call = stub.List(pb2.Query()) if kind == "unary_stream" else stub.Chat(iter([pb2.Query()]))
        assert list(call) == []
        assert call.code() is grpc.StatusCode.OK
    bare.stop(0)


def test_an_unserializable_request_is_refused_at_once(server: Any, balance: Any) -> None:
    """As grpcio does: by the call, not by its first message."""
    lb = balance(server())

    def serialize(message: bytes) -> bytes:
        raise TypeError("no")

    with balanced.insecure_channel(lb) as channel:
        assert channel.unary_unary("/test.Echo/UU")(b"x")
        with pytest.raises(grpc.RpcError):
            channel.unary_stream("/test.Echo/US", serialize)(b"r")
        with pytest.raises(grpc.RpcError):
            channel.unary_unary("/test.Echo/UU", serialize).future(b"r")
        assert in_flight(lb) == 0


def test_a_long_stream_is_not_held_in_memory(server: Any, balance: Any) -> None:
    """Once the first response is here requests are let go as they are sent."""
    lb = balance(server())
    alive = 0
    peak = 0
    lock = threading.Lock()

    class Message(bytes):
        def __del__(self) -> None:
            nonlocal alive
            with lock:
                alive -= 1

    def requests() -> Any:
        nonlocal alive, peak
        for _ in range(3000):
            with lock:
                alive += 1
                peak = max(peak, alive)
            yield Message(b"x" * 1000)

    with balanced.insecure_channel(lb) as channel:
        assert sum(1 for _ in channel.stream_stream("/test.Echo/SS", bytes)(requests())) == 3000
    gc.collect()
    assert alive == 0
    assert peak < 1500


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_speaks_for_the_call(balance: Any, kind: str) -> None:
    """Where nothing could be picked everything that is asked of the call is answered by the refusal."""
    lb = balance(f"127.0.0.1:{free_port()}")
    lb.close()
    with balanced.insecure_channel(lb) as channel:
        call = begin(channel, kind)
        assert not call.is_active()
        assert call.done()
        assert not call.running()
        assert not call.cancelled()
        assert call.code() is grpc.StatusCode.UNAVAILABLE
        assert "closed" in call.details()
        assert call.debug_error_string() == ""
        assert call.trailing_metadata() == ()
        assert isinstance(call.exception(), kubelb.Closed)
        with pytest.raises(kubelb.Closed):
            call.result()
        with pytest.raises(kubelb.Closed):
            next(call)
        told: list[Any] = []
        call.add_done_callback(told.append)
        assert told == [call]


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_after_a_wait_is_told_to_callbacks(balance: Any, kind: str) -> None:
    """A stream that nobody reads ends too, once its wait for a connection is over."""
    told: list[Any] = []
    with balanced.insecure_channel(balance(f"127.0.0.1:{free_port()}")) as channel:
        call = begin(channel, kind, timeout=0.1, wait_for_ready=True)
        call.add_done_callback(lambda ended: told.append((ended is call, ended.code())))
        assert until(lambda: told)
        assert told == [(True, grpc.StatusCode.DEADLINE_EXCEEDED)]
        for _ in range(2):
            with pytest.raises(kubelb.DeadlineExceeded):
                next(call)
        assert len(told) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_begun_after_a_wait(server: Any, balance: Any, kind: str) -> None:
    """The caller's mistake is raised to whoever reads, and the call's end is told."""
    port, told = free_port(), []
    with balanced.insecure_channel(balance(f"127.0.0.1:{port}")) as channel:
        call = begin(channel, kind, wait_for_ready=True, credentials="none of grpcio's")
        call.add_done_callback(lambda ended: told.append(ended.code()))
        server(port=port)
        with pytest.raises(AttributeError):
            next(call)
        assert until(lambda: told == [grpc.StatusCode.UNKNOWN])
        assert (call.details(), call.debug_error_string()) == ("", "")
        assert (call.initial_metadata(), call.trailing_metadata()) == ((), ())


@pytest.mark.parametrize("kind", KINDS)
def test_dropped_while_it_waits(server: Any, balance: Any, kind: str) -> None:
    """Nobody waits any more: its place is free, its end is told, and no RPC is begun when there is a connection."""
    port, told = free_port(), threading.Event()
    lb = balance(f"127.0.0.1:{port}", limits=kubelb.ConcurrencyLimits(max_pending=1))
    limiter = service_of(lb).balancer.limiter
    with balanced.insecure_channel(lb) as channel:
        call = begin(channel, kind, wait_for_ready=True)
        assert call.add_callback(told.set)
        assert len(limiter.pending) == 1
        del call
        gc.collect()
        assert told.wait(10)
        assert until(lambda: not limiter.pending)
        other = server(port=port)
        assert list(begin(channel, kind, wait_for_ready=True))
        assert other.total == 1


@pytest.mark.parametrize("kind", ["unary_stream", "stream_stream"])
def test_a_callback_may_ask_for_the_status(server: Any, balance: Any, kind: str) -> None:
    """Also in the thread that has only just started a first attempt, which ended at once."""
    asked: list[Any] = []
    with balanced.insecure_channel(balance(server()), [("grpc.max_send_message_length", 10)]) as channel:
        request = b"x" * 100
        method = "/test.Echo/US" if kind == "unary_stream" else "/test.Echo/SS"
        stream = getattr(channel, kind)(method)(request if kind == "unary_stream" else iter([request]), timeout=10)
        stream.add_done_callback(lambda ended: asked.append(ended.code()))
        with pytest.raises(grpc.RpcError):
            list(stream)
    assert until(lambda: asked == [grpc.StatusCode.RESOURCE_EXHAUSTED])
