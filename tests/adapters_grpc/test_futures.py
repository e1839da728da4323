"""Futures: their whole interface, cancelling in every state, the context they run in, and many at once."""

import contextvars
import random
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


def test_an_error_that_nobody_foresaw_ends_a_call(server: Any, balance: Any, monkeypatch: Any) -> None:
    """It is what comes out, and knows no status; whoever asks for one all the same is told UNKNOWN."""

    def broken(*args: Any) -> bool:
        raise LookupError("a mistake")

    alone = server()
    alone.behave = aborts(grpc.StatusCode.UNAVAILABLE)
    told: list[Any] = []
    monkeypatch.setattr("kubelb.core.flow.worth_repeating", broken)
    with balanced.insecure_channel(balance(alone), idempotent=True) as channel:
        future = channel.unary_unary("/test.Echo/UU").future(b"x")
        future.add_done_callback(lambda done: told.append(done.code()))
        with pytest.raises(LookupError):
            future.result(timeout=10)
        assert until(lambda: told == [grpc.StatusCode.UNKNOWN])
        assert (future.details(), future.debug_error_string()) == ("", "")
        assert (future.initial_metadata(), future.trailing_metadata()) == ((), ())
        assert not future.cancelled()


def test_callbacks(server: Any, balance: Any) -> None:
    """Once each, with the future; at once where it has ended; one that raises harms nobody."""
    alone, go_on = server(), threading.Event()
    alone.behave = lambda method, context: go_on.wait(20)
    lb = balance(alone)
    told: list[Any] = []
    raised = threading.Event()
    before, threading.excepthook = threading.excepthook, lambda args: raised.set()
    try:
        with balanced.insecure_channel(lb) as channel:
            echo = channel.unary_unary("/test.Echo/UU")
            future = echo.future(b"x")
            future.add_done_callback(lambda done: 1 / 0)
            future.add_done_callback(told.append)
            go_on.set()
            assert future.result(timeout=10)
            assert until(lambda: told == [future])
            future.add_done_callback(told.append)
            assert told == [future, future]
            assert not future.add_callback(lambda: None)
            assert not future.cancel()
            assert echo(b"y")
            assert until(raised.is_set)
    finally:
        threading.excepthook = before


def test_timeouts_of_the_waiter(server: Any, balance: Any) -> None:
    """FutureTimeoutError says nothing of the call, which goes on."""
    release = threading.Event()
    alone = server()
    alone.behave = lambda method, context: release.wait(20)
    with balanced.insecure_channel(balance(alone)) as channel:
        future = channel.unary_unary("/test.Echo/UU").future(b"x")
        for ask in (future.result, future.exception, future.traceback):
            with pytest.raises(grpc.FutureTimeoutError):
                ask(timeout=0.01)
        assert future.running()
        release.set()
        assert future.result(timeout=10)


@pytest.mark.parametrize("moment", ["running", "waiting"])
@pytest.mark.parametrize("kind", ["future", "stream"])
def test_cancel_is_told_at_once(server: Any, balance: Any, kind: str, moment: str) -> None:
    """Kind: an answer that comes true later. What has been cancelled says so from then on, as with grpcio, whatever
    its RPC comes to; a second cancel has nothing to end."""
    alone, hold = server(), threading.Event()
    alone.behave = lambda method, context: hold.wait(20)
    address = f"127.0.0.1:{free_port()}" if moment == "waiting" else alone
    with balanced.insecure_channel(balance(address)) as channel:
        if kind == "future":
            call = channel.unary_unary("/test.Echo/UU").future(b"x", wait_for_ready=True)
        else:
            call = channel.unary_stream("/test.Echo/US")(b"x", wait_for_ready=True)
        if moment == "running":
            assert until(lambda: alone.active == 1)
        assert call.cancel()
        assert (call.cancelled(), call.done(), call.running(), call.is_active()) == (True, True, False, False)
        assert not call.cancel()
        with pytest.raises(grpc.FutureCancelledError):
            call.result(timeout=20)
        assert call.code() is grpc.StatusCode.CANCELLED
        assert call.details() == "Locally cancelled by application!"
        hold.set()


def test_a_cancel_beside_the_end(server: Any, balance: Any) -> None:
    """Either it was in time and the call is cancelled, or it says no and the response is there."""
    rng = random.Random(5)
    with balanced.insecure_channel(balance(server())) as channel:
        echo = channel.unary_unary("/test.Echo/UU")
        assert echo(b"x", timeout=20)
        for _ in range(100):
            future, told = echo.future(b"x", timeout=20), []
            future.add_done_callback(told.append)
            time.sleep(rng.random() * 0.002)
            if future.cancel():
                assert future.cancelled()
                with pytest.raises(grpc.FutureCancelledError):
                    future.result(timeout=20)
            else:
                assert future.result(timeout=20)
                assert future.code() is grpc.StatusCode.OK
            assert until(lambda told=told, future=future: told == [future])


@pytest.mark.parametrize("moment", ["running", "waiting", "between"])
def test_cancel(server: Any, balance: Any, moment: str) -> None:
    """While the RPC runs, while a connection is waited for, between two tries: ended at once, nothing in flight."""
    alone = server()
    hold = threading.Event()
    if moment == "running":
        alone.behave = lambda method, context: hold.wait(20)
    else:
        alone.behave = aborts(grpc.StatusCode.UNAVAILABLE, 9)
    address = f"127.0.0.1:{free_port()}" if moment == "waiting" else alone
    lb = balance(address, retry=kubelb.Retry(wait=kubelb.FullJitter(5, 5, rng=Full())))
    with balanced.insecure_channel(lb, idempotent=True) as channel:
        future = channel.unary_unary("/test.Echo/UU").future(b"x", wait_for_ready=moment == "waiting")
        if moment != "waiting":
            assert until(lambda: alone.total == 1)
        time.sleep(0.05)
        assert not future.done()
        assert future.cancel()
        with pytest.raises(grpc.FutureCancelledError):
            future.result(timeout=5)
        with pytest.raises(grpc.FutureCancelledError):
            future.exception()
        assert future.cancelled()
        assert future.code() is grpc.StatusCode.CANCELLED
        assert "ancelled" in future.details()
        assert not future.cancel()
        assert until(lambda: in_flight(lb) == 0)
        hold.set()
        assert service_of(lb).balancer.states()[0].failures == (moment == "between")


def test_cancelled_while_a_try_cannot_begin(server: Any, balance: Any) -> None:
    """Kind: an end that an earlier failure hides. The serializer of a second try cancels the call and raises, so that
    the cancel is met before the try's outcome: callbacks are told, and nothing is in flight."""
    alone = server()
    alone.behave = aborts(grpc.StatusCode.UNAVAILABLE)
    futures: list[Any] = []
    tries: list[bytes] = []
    made, told = threading.Event(), threading.Event()

    def serialize(message: bytes) -> bytes:
        tries.append(message)
        if len(tries) == 1:
            return message
        assert made.wait(20)
        futures[0].cancel()
        raise ValueError("no message")

    lb = balance(alone, retry=kubelb.Retry(wait=kubelb.FullJitter(0.05, 0.05, rng=Full())))
    with balanced.insecure_channel(lb, idempotent=True) as channel:
        future = channel.unary_unary("/test.Echo/UU", serialize).future(b"x", timeout=20)
        futures.append(future)
        future.add_done_callback(lambda done: told.set())
        made.set()
        assert told.wait(20)
        assert future.cancelled()
        assert until(lambda: in_flight(lb) == 0)


class Full(random.Random):
    """Chance that always draws the most."""

    def random(self) -> float:
        return 1.0


def test_an_error_is_the_last_tries_own(server: Any, balance: Any) -> None:
    """With notes on those before it, and a traceback."""
    servers = [server() for _ in range(3)]
    for each in servers:
        each.behave = aborts(grpc.StatusCode.UNAVAILABLE)
    lb = balance(*servers, policy="round_robin")
    with balanced.insecure_channel(lb, idempotent=True) as channel:
        future = channel.unary_unary("/test.Echo/UU").future(b"x")
        error = future.exception(timeout=10)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert len(error.__notes__) == 2
        assert future.code() is grpc.StatusCode.UNAVAILABLE
        assert future.details() == "as told"
        assert future.debug_error_string()
        assert future.traceback() is not None
        with pytest.raises(grpc.RpcError):
            future.result()
        assert not future.cancelled()


def test_a_server_that_says_cancelled_is_no_cancelled_future(server: Any, balance: Any) -> None:
    """CANCELLED by the server is an error, not something that the caller did."""
    alone = server()
    alone.behave = aborts(grpc.StatusCode.CANCELLED)
    with balanced.insecure_channel(balance(alone)) as channel:
        future = channel.unary_unary("/test.Echo/UU").future(b"x")
        assert future.exception(timeout=10).code() is grpc.StatusCode.CANCELLED
        assert not future.cancelled()


def test_tries_are_made_in_the_callers_context(server: Any, balance: Any) -> None:
    """Serializers of later tries run in other threads, and see the caller's context variables all the same."""
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")
    seen: list[str] = []
    servers = [server(), server()]
    for each in servers:
        each.behave = aborts(grpc.StatusCode.UNAVAILABLE)

    def serialize(message: bytes) -> bytes:
        seen.append(tenant.get())
        return message

    lb = balance(*servers, policy="round_robin")
    with balanced.insecure_channel(lb, idempotent=True) as channel:
        tenant.set("blue")
        assert channel.unary_unary("/test.Echo/UU", serialize).future(b"x").result(timeout=10)
    assert seen == ["blue"] * 3


@pytest.mark.slow
def test_a_thousand_at_once(server: Any, balance: Any) -> None:
    """Spread over three endpoints, all answered, a third of them cancelled from other threads; nothing is left."""
    servers = [server() for _ in range(3)]
    lb = balance(*servers, policy="least_request")
    with balanced.insecure_channel(lb) as channel:
        echo = channel.unary_unary("/test.Echo/UU")
        echo(b"warm")
        futures = [echo.future(b"x", timeout=30) for _ in range(1000)]
        threads = [
            threading.Thread(target=lambda part=part: [future.cancel() for future in futures[part::9]])
            for part in (0, 3, 6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ends = {"done": 0, "cancelled": 0}
        for future in futures:
            try:
                assert future.result(timeout=30)
                ends["done"] += 1
            except grpc.FutureCancelledError:
                ends["cancelled"] += 1
        assert ends["done"] >= 660
        assert until(lambda: in_flight(lb) == 0)
        assert sum(ends.values()) == 1000


def test_dropped_futures_go_on(server: Any, balance: Any) -> None:
    """As with grpcio, dropping one does not cancel it; it ends by itself."""
    alone = server()
    lb = balance(alone)
    with balanced.insecure_channel(lb) as channel:
        for _ in range(50):
            channel.unary_unary("/test.Echo/UU").future(b"x")
        assert until(lambda: alone.total == 50)
        assert until(lambda: in_flight(lb) == 0)
        assert service_of(lb).balancer.states()[0].successes == 50


def test_no_thread_is_left(server: Any, balance: Any) -> None:
    """The background worker helped with waiting and tries, and has gone."""
    lb = balance(server(), f"127.0.0.1:{free_port()}")
    with balanced.insecure_channel(lb) as channel:
        for _ in range(20):
            assert channel.unary_unary("/test.Echo/UU").future(b"x").result(timeout=10)
    lb.close()
    assert until(
        lambda: not [thread for thread in threading.enumerate() if thread.name in {"kubelb-timer", "kubelb-runner"}]
    )
