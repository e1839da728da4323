"""The sync channel as a whole: its connections, its state, endpoints that come and go, its end, forks."""

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.adapters_grpc.conftest import connected, in_flight, until
from tests.adapters_grpc.servers import free_port
from tests.spelled import spelled

import kubelb
from kubelb.adapters import grpc as balanced
from kubelb.service import service_of
from kubelb.testing import LocalCluster

READY = grpc.ChannelConnectivity.READY
ECHO = "/kubelb.testing.Echo/Unary"
STREAM = "/kubelb.testing.Echo/ServerStream"


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as cluster:
        yield cluster


@pytest.fixture
def reviews_service(cluster: LocalCluster) -> Iterator[Any]:
    """Three gRPC pods."""
    service = cluster.service("reviews.prod:grpc", replicas=3, grpc=True)
    yield service
    cluster.delete_service(service)


@pytest.fixture
def channel(cluster: LocalCluster, reviews_service: Any) -> Iterator[Any]:
    """A channel over them, by way of EndpointSlices."""
    options = {"policy": "round_robin", "ready_timeout": 20}
    with (
        kubelb.LoadBalancer("reviews.prod:grpc", **spelled(options, kubeconfig=cluster.kubeconfig)) as lb,
        balanced.insecure_channel(lb) as channel,
    ):
        yield channel
        gc.collect()
        assert until(lambda: in_flight(lb) == 0)


def test_the_first_call_finds_the_pods(channel: Any, reviews_service: Any) -> None:
    """Discovery, connecting and the call itself; then every pod gets its share."""
    echo = channel.unary_unary(ECHO)
    assert echo(b"x", timeout=20) == b"x"
    assert until(lambda: all_ready(channel, 3))
    reviews_service_clear(reviews_service)
    for _ in range(30):
        assert echo(b"x") == b"x"
    assert [pod.requests for pod in reviews_service] == [10, 10, 10]
    assert [pod.connections for pod in reviews_service] == [1, 1, 1]


def all_ready(channel: Any, count: int) -> bool:
    subs = tuple(channel.subs._subs.values())
    return len(subs) == count and all(sub.check(False) == READY.value[0] for sub in subs)


def reviews_service_clear(service: Any) -> None:
    for pod in service:
        pod.clear()


def test_nothing_is_connected_before_it_is_wanted(cluster: LocalCluster, reviews_service: Any) -> None:
    """Neither by the constructor nor by asking for the state without `try_to_connect`."""
    with (
        kubelb.LoadBalancer(
            "reviews.prod:grpc", discovery=kubelb.DiscoveryOptions(kubeconfig=cluster.kubeconfig), ready_timeout=20
        ) as lb,
        balanced.insecure_channel(lb) as channel,
    ):
        told: list[Any] = []
        channel.subscribe(told.append)
        assert until(lambda: told == [grpc.ChannelConnectivity.IDLE])
        time.sleep(0.1)
        assert [pod.connections for pod in reviews_service] == [0, 0, 0]
        assert service_of(lb).balancer.version is None
        channel.subscribe(told.append, try_to_connect=True)
        assert until(lambda: told[-1] is READY)
        assert until(lambda: [pod.connections for pod in reviews_service] == [1, 1, 1])


@pytest.mark.slow
def test_new_pods_are_connected_before_they_are_picked(channel: Any, reviews_service: Any) -> None:
    """Once they are in a slice; a pod that leaves is let go when its work is done."""
    channel.unary_unary(ECHO)(b"x", timeout=20)
    reviews_service.scale(5)
    assert until(lambda: all_ready(channel, 5))
    leaving = reviews_service[0]
    leaving.slow(0.4)
    before = leaving.requests
    streams = [channel.unary_stream(STREAM)(b"x" * 10, timeout=30) for _ in range(5)]
    assert until(lambda: leaving.requests > before)
    leaving.drain(grace=2.0)
    assert until(lambda: len(channel.lb.endpoints()) == 5)
    assert until(lambda: leaving.state == "terminating")
    assert [b"".join(stream) for stream in streams] == [b"x" * 30] * 5
    assert until(lambda: len(channel.subs) == 4)
    assert not channel.subs.leaving
    for calling in channel._kept.values():
        assert len(calling.bound) <= 4


@pytest.mark.slow
def test_rolling_restarts_are_invisible(channel: Any, reviews_service: Any) -> None:
    """Every pod replaced under load, with calls that must not be repeated: no error."""
    echo = channel.unary_unary(ECHO)
    echo(b"x", timeout=20)
    errors: list[BaseException] = []
    counts = [0]
    over = threading.Event()

    def load() -> None:
        while not over.is_set():
            try:
                assert echo(b"x", timeout=10) == b"x"
                counts[0] += 1
            except BaseException as error:
                errors.append(error)
            time.sleep(0.001)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    reviews_service.rolling_restart(grace=0.3)
    over.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert counts[0] > 50


def test_the_state_of_the_whole(server: Any, balance: Any) -> None:
    """CONNECTING, READY while any is, TRANSIENT_FAILURE when all are gone, READY again, SHUTDOWN."""
    servers = [server(), server()]
    lb = balance(*servers)
    channel = balanced.insecure_channel(lb)
    told: list[Any] = []
    channel.subscribe(told.append, try_to_connect=True)
    assert until(lambda: told and told[-1] is READY)
    servers[0].stop(0)
    time.sleep(0.15)
    assert told[-1] is READY
    servers[1].stop(0)
    assert until(lambda: grpc.ChannelConnectivity.TRANSIENT_FAILURE in told)
    servers[1].start()
    assert until(lambda: told[-1] is READY)
    channel.unsubscribe(told.append)
    told.clear()
    channel.subscribe(told.append)
    assert until(lambda: told == [READY])
    channel.close()
    assert told == [READY, grpc.ChannelConnectivity.SHUTDOWN]
    assert until(
        lambda: not [thread for thread in threading.enumerate() if thread.name in {"kubelb-timer", "kubelb-runner"}]
    )


def test_a_subscriber_that_raises(server: Any, balance: Any) -> None:
    """It is reported, and the others are told."""
    raised = threading.Event()
    before, threading.excepthook = threading.excepthook, lambda args: raised.set()
    try:
        with balanced.insecure_channel(balance(server())) as channel:
            told: list[Any] = []
            channel.subscribe(lambda state: 1 / 0, try_to_connect=True)
            channel.subscribe(told.append)
            assert until(lambda: told and told[-1] is READY)
            assert raised.is_set()
    finally:
        threading.excepthook = before


def test_a_lost_connection_is_made_again(server: Any, balance: Any) -> None:
    """Passed over while it is down; the pick that passes it over has it connect."""
    comes_back, other = server(), server()
    lb = balance(comes_back, other, policy="round_robin")
    with balanced.insecure_channel(lb) as channel:
        echo = channel.unary_unary("/test.Echo/UU")
        echo(b"x")
        assert until(lambda: all_ready(channel, 2))
        comes_back.stop(0)
        assert until(lambda: connected(channel) == 1)
        for _ in range(10):
            assert echo(b"x") == b"x@" + other.name
        comes_back.start()
        assert until(lambda: echo(b"x") == b"x@" + comes_back.name)


def test_ejected_endpoints_do_not_make_the_whole_ready(server: Any, balance: Any) -> None:
    """One is connected and ejected, the other cannot be reached: a call fails at once and says so."""
    alone = server()
    lb = balance(alone, f"127.0.0.1:{free_port()}", outliers=kubelb.OutlierDetection(1, base_ejection=60.0))
    with balanced.insecure_channel(lb) as channel:
        echo = channel.unary_unary("/test.Echo/UU")
        assert echo(b"x")
        lb.call(lambda attempt: None)
        state = next(state for state in service_of(lb).balancer.states() if state.endpoint.port == alone.port)
        lease = kubelb.core.Lease(state, service_of(lb).balancer.clock())
        lease.release(kubelb.Outcome(kubelb.Verdict.FAILED))
        assert [view.state for view in lb.endpoints()].count("ejected") == 1
        began = time.monotonic()
        with pytest.raises(kubelb.Unusable):
            echo(b"x", timeout=20)
        assert time.monotonic() - began < 3


def test_waiting_for_ready_is_not_waiting_for_a_limit_or_a_circuit(server: Any, balance: Any) -> None:
    """As gRFC A32 has it: what they refuse is refused at once, UNAVAILABLE, whoever would wait for connections."""
    for options, refusal in (
        ({"limits": kubelb.ConcurrencyLimits(max_requests=1)}, kubelb.Overloaded),
        ({"limits": kubelb.ConcurrencyLimits(max_requests_per_endpoint=1)}, kubelb.Unusable),
        ({"breaker": kubelb.CircuitBreaker(minimum_calls=1, per_service=False)}, kubelb.Unusable),
        ({"breaker": kubelb.CircuitBreaker(minimum_calls=1, per_endpoint=False)}, kubelb.Unusable),
    ):
        lb = balance(server(), **options)
        with balanced.insecure_channel(lb) as channel:
            echo = channel.unary_unary("/test.Echo/UU")
            assert echo(b"x")
            lease = service_of(lb).balancer.pick()
            if "breaker" in options:
                for _ in range(2):
                    lease.release(kubelb.Outcome(kubelb.Verdict.FAILED))
                    lease = kubelb.core.Lease(lease.state, service_of(lb).balancer.clock())
            for wait in (False, True):
                began = time.monotonic()
                with pytest.raises(grpc.RpcError) as caught:
                    echo(b"x", timeout=20, wait_for_ready=wait)
                assert time.monotonic() - began < 3
                assert isinstance(caught.value, refusal)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
            lease.release(None)


def test_a_dropped_channel_takes_its_connections_along(server: Any, balance: Any) -> None:
    """Nothing holds it but its user."""
    lb = balance(server())
    channel = balanced.insecure_channel(lb)
    channel.unary_unary("/test.Echo/UU")(b"x")
    watched = weakref.ref(channel)
    del channel
    gc.collect()
    assert watched() is None
    assert lb.call(lambda attempt: attempt.number) == 1


def test_closing_leaves_a_given_balancer_open(server: Any, balance: Any) -> None:
    """One made from a target is the channel's own and closes with it."""
    alone = server()
    lb = balance(alone)
    balanced.insecure_channel(lb).close()
    assert lb.call(lambda attempt: attempt.number) == 1
    own = balanced.insecure_channel(f"static:///{alone.address}")
    own.close()
    with pytest.raises(kubelb.Closed):
        own.lb.balancer.pick()
    assert "static" in repr(own)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child(server: Any) -> None:
    """It connects anew; the parent's connections and calls go on."""
    program = Path(__file__).with_name("fork_program.py")
    done = subprocess.run(
        [sys.executable, str(program), server().address], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "both are well\n"


def test_many_serializers_are_not_kept_for_ever(server: Any, balance: Any, monkeypatch: Any) -> None:
    """A method asked for with a new serializer each time works, and is forgotten beyond a bound."""
    monkeypatch.setattr("kubelb.adapters._grpc.shared.common.KEPT", 5)
    with balanced.insecure_channel(balance(server())) as channel:
        for _ in range(20):
            echo = channel.unary_unary("/test.Echo/UU", lambda message: message)
            assert echo(b"x").startswith(b"x@")
        assert len(channel._kept) == 5
        del echo
        gc.collect()
        assert len(channel._callings) == 5


def test_three_hundred_endpoints_of_which_one_answers(server: Any, balance: Any) -> None:
    """The others refuse: found all the same, and quickly once it is connected."""
    alone = server()
    port = free_port()
    dead = [f"127.0.{1 + number // 250}.{1 + number % 250}:{port}" for number in range(300)]
    lb = balance(*dead, alone, policy="least_request")
    with balanced.insecure_channel(lb) as channel:
        echo = channel.unary_unary("/test.Echo/UU")
        for _ in range(5):
            assert echo(b"x", timeout=30) == b"x@" + alone.name
