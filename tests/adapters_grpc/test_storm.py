"""A storm of sync calls of every kind and end, over endpoints that fail, hang and die: nothing is left of it."""

import gc
import random
import threading
import time
from typing import Any

import grpc
import pytest
from tests.adapters_grpc.conftest import in_flight, until

import kubelb
from kubelb.adapters import grpc as balanced
from kubelb.service import service_of

CALLS = 250
CREW = 8


@pytest.mark.slow
def test_whatever_ends_how_nothing_is_left(server: Any, balance: Any) -> None:
    """2000 calls in eight threads: cancelled, out of time, dropped, failed, refused; one server dies and returns."""
    servers = [server() for _ in range(4)]
    chance = random.Random(11)

    def behave(method: str, context: Any) -> None:
        draw = chance.random()
        if draw < 0.1:
            context.abort(chance.choice(list(grpc.StatusCode)[1:]), "as it happens")
        elif draw < 0.2:
            time.sleep(0.02)

    for each in servers:
        each.behave = behave
    lb = balance(*servers, outliers=kubelb.OutlierDetection(base_ejection=0.1))
    channel = balanced.insecure_channel(lb, idempotent=True)
    ends: list[str] = []

    def call(rng: random.Random) -> str:
        timeout = rng.choice([15, 5, 0.01])  # a server that stops may leave a call without an answer
        way = rng.randrange(6)
        if way == 0:
            channel.unary_unary("/test.Echo/UU")(b"x", timeout=timeout)
        elif way == 1:
            future = channel.unary_unary("/test.Echo/UU").future(b"x", timeout=timeout)
            if rng.random() < 0.5:
                future.cancel()
            if rng.random() < 0.7:
                future.result(timeout=30)
        elif way == 2:
            stream = channel.unary_stream("/test.Echo/US")(b"x", timeout=timeout)
            for number, _ in enumerate(stream):
                if rng.random() < 0.3:
                    break
                if rng.random() < 0.1 and number:
                    stream.cancel()
        elif way == 3:
            channel.stream_unary("/test.Echo/SU")(iter([b"x"] * 3), timeout=timeout)
        elif way == 4:
            stream = channel.stream_stream("/test.Echo/SS")(iter([b"x"] * 3), timeout=timeout)
            if rng.random() < 0.7:
                next(stream)
        else:
            channel.unary_stream("/test.Echo/US")(b"x", timeout=timeout).cancel()
        return "ok"

    def crew(number: int) -> None:
        rng = random.Random(number)
        for _ in range(CALLS):
            try:
                ends.append(call(rng))
            except (grpc.RpcError, grpc.FutureCancelledError, StopIteration) as error:
                ends.append(type(error).__name__)

    threads = [threading.Thread(target=crew, args=(number,)) for number in range(CREW)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    servers[0].stop(0)
    time.sleep(0.1)
    servers[0].start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert len(ends) == CALLS * CREW
    assert ends.count("ok") > CALLS * CREW / 3
    assert until(lambda: in_flight(lb) == 0), service_of(lb).balancer.states()
    assert until(lambda: sum(each.active for each in servers) == 0)
    for each in servers:
        each.behave = lambda method, context: None
    assert channel.unary_unary("/test.Echo/UU")(b"after", timeout=20, wait_for_ready=True).startswith(b"after@")
    channel.close()
    lb.close()
    assert until(
        lambda: not [thread for thread in threading.enumerate() if thread.name in {"kubelb-timer", "kubelb-runner"}]
    )


@pytest.mark.slow
def test_servers_that_stop_and_return_under_load(server: Any, balance: Any) -> None:
    """A plain `stop()` of each by turns, which cancels what it has not begun: no idempotent call sees any of it."""
    servers = [server() for _ in range(3)]
    lb = balance(*servers, policy="round_robin", retry=kubelb.Retry(budget=None))
    ends: list[Any] = []
    over = threading.Event()
    with balanced.insecure_channel(lb, idempotent=True) as channel:
        echo = channel.unary_unary("/test.Echo/UU")

        def load() -> None:
            while not over.is_set():
                flying = [echo.future(b"x", timeout=30) for _ in range(20)]
                ends.extend(future.exception() for future in flying)

        threads = [threading.Thread(target=load) for _ in range(2)]
        for thread in threads:
            thread.start()
        for number in range(12):
            each = servers[number % 3]
            assert until(lambda: ready(channel) == 3)
            each.delivered.clear()
            assert until(lambda each=each: each.total > 20)
            each.stop(1.0)
            each.start()
        over.set()
        for thread in threads:
            thread.join(30)
        assert [error for error in ends if error is not None] == []


def ready(channel: Any) -> int:
    """How many sub-channels have a connection."""
    subs = tuple(channel.subs._subs.values())
    return sum(sub.check(True) == grpc.ChannelConnectivity.READY.value[0] for sub in subs)
