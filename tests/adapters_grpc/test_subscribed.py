"""A grpcio without the quick question: states are learnt by subscribing, and are as old as it takes a thread to tell.

The kind: a connection that is gone and believed in all the same. A call there has an end that a server can write, and a
connection may have come and gone unseen: nothing shows that it was never sent. What may not be repeated fails with it.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from tests.adapters_grpc.conftest import connected, until
from tests.adapters_grpc.servers import EchoServer, free_port

import kubelb
from kubelb.adapters import grpc as balanced
from kubelb.adapters._grpc.shared import watch

# grpcio closes a channel under the thread that it has made for a subscriber, which then says so.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture
def news(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """There is no quick question. While this is not set, no subscriber is told anything."""
    told, flows = watch._Subscription._told, threading.Event()

    def late(subscription: Any, state: grpc.ChannelConnectivity) -> None:
        assert flows.wait(30)
        told(subscription, state)

    flows.set()
    monkeypatch.setattr("kubelb.adapters._grpc.sync.channel.quick_check", lambda channel: None)
    monkeypatch.setattr(watch._Subscription, "_told", late)
    yield flows
    flows.set()


Pair = tuple[Any, EchoServer, EchoServer, Callable[[], bytes]]


@pytest.fixture
def pair(server: Any, balance: Any, news: threading.Event) -> Iterator[Pair]:
    """A channel to two servers and to nothing, both connected; and a call that may not be repeated."""
    one, other = server(), server()
    lb = balance(one, other, f"127.0.0.1:{free_port()}", policy="round_robin")
    with balanced.insecure_channel(lb) as channel:
        echo = channel.unary_unary("/test.Echo/UU")

        def call() -> bytes:
            return bytes(echo(b"x", timeout=20).partition(b"@")[2])

        assert until(lambda: call() and connected(channel) == 2, 20)
        yield channel, one, other, call
        news.set()


def repeatable(call: Callable[[], bytes]) -> bytes:
    with kubelb.hints(idempotent=True):
        return call()


def ends(call: Callable[[], bytes]) -> bytes | grpc.StatusCode:
    try:
        return call()
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()  # type: ignore[attr-defined]
        return code


def test_losses_and_returns(pair: Pair) -> None:
    """As with it: what may be repeated sees nothing of a loss, and the rest nothing once it was told."""
    channel, comes_back, other, call = pair
    assert {call() for _ in range(4)} == {comes_back.name, other.name}
    comes_back.stop(0)
    assert [repeatable(call) for _ in range(4)] == [other.name] * 4
    assert until(lambda: connected(channel) == 1)
    assert [call() for _ in range(10)] == [other.name] * 10
    comes_back.start()
    assert until(lambda: len({call() for _ in range(4)}) == 2, 20)


def test_a_loss_that_is_told_late(pair: Pair, news: threading.Event) -> None:
    """However late: no call runs twice, what may be repeated is answered, the others end UNAVAILABLE until then."""
    channel, gone, other, call = pair
    news.clear()
    gone.stop(0)
    gone.delivered.clear()
    other.delivered.clear()
    found = Counter(ends(call) for _ in range(10))
    assert found == {other.name: 5, grpc.StatusCode.UNAVAILABLE: 5}
    assert (gone.total, other.total) == (0, 5)
    assert [repeatable(call) for _ in range(4)] == [other.name] * 4
    assert other.total == 9
    news.set()
    assert until(lambda: connected(channel) == 1)
    assert [ends(call) for _ in range(10)] == [other.name] * 10


def test_the_quick_question_is_found_below_interceptors() -> None:
    """Instrumentations wrap every channel that is made."""

    class Nothing(grpc.UnaryUnaryClientInterceptor):
        def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            return continuation(details, request)

    with grpc.insecure_channel("ipv4:127.0.0.1:9") as bare:
        check = watch.quick_check(grpc.intercept_channel(bare, Nothing(), Nothing()))
        assert check is not None
        assert check(False) == grpc.ChannelConnectivity.IDLE.value[0]
    assert watch.quick_check(object()) is None
