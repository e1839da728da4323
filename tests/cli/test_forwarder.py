"""The kube-proxy of the demo: random per connection, then faithful; it follows readiness."""

import contextlib
import random
import socket
import threading
import time
from collections import Counter

import httpx
import pytest

from kubelb.cli.demo.forwarder import Forwarder, ready_addresses
from kubelb.testing import LocalCluster


@pytest.fixture
def cluster():
    with LocalCluster(lag=0.05) as running:
        yield running


@pytest.fixture
def service(cluster):
    return cluster.service("reviews.prod", replicas=3)


@pytest.fixture
def forwarder(cluster, service):
    addresses = lambda: ready_addresses(cluster.slices("prod", "reviews"))  # noqa: E731
    with Forwarder(addresses, random.Random(7)) as running:
        yield running


def once(forwarder: Forwarder) -> str:
    """Who answers on a connection of its own."""
    return httpx.get(forwarder.url, trust_env=False).headers["x-backend"]


@pytest.mark.slow
def test_each_connection_goes_to_a_random_pod(forwarder):
    """90 connections over three pods: about 30 each (a bound that fair chance breaks once in 10 000 times)."""
    counts = Counter(once(forwarder) for _ in range(90))
    assert set(counts) == {"reviews-0", "reviews-1", "reviews-2"}
    assert min(counts.values()) >= 12


def test_a_connection_stays_on_its_pod(forwarder):
    """Twenty requests on one connection have one pod."""
    with httpx.Client(base_url=forwarder.url, trust_env=False) as client:
        assert len({client.get("/").headers["x-backend"] for _ in range(20)}) == 1


@pytest.mark.slow
def test_new_connections_follow_readiness_and_old_ones_stay(forwarder, service):
    """A pod that is not ready gets no new connection; the connection that it has goes on."""
    with httpx.Client(base_url=forwarder.url, trust_env=False) as client:
        mine = client.get("/").headers["x-backend"]
        (pod,) = (backend for backend in service if backend.name == mine)
        pod.not_ready()
        assert mine not in {once(forwarder) for _ in range(30)}
        assert client.get("/").headers["x-backend"] == mine
        pod.ready()
        assert mine in {once(forwarder) for _ in range(60)}


def test_a_terminating_pod_keeps_its_connections(forwarder, service):
    """Existing connections are not moved: the drained pod itself has to end them."""
    with httpx.Client(base_url=forwarder.url, trust_env=False) as client:
        mine = client.get("/").headers["x-backend"]
        (pod,) = (backend for backend in service if backend.name == mine)
        pod.drain(grace=1.0)
        last = client.get("/")
        assert last.headers["x-backend"] == mine
        assert last.headers["connection"] == "close"
        assert client.get("/").headers["x-backend"] != mine


def test_serving_terminating_pods_where_none_is_ready(forwarder, service):
    """KEP-1669: pods that still serve are better than none."""
    for pod in service:
        pod.drain(grace=2.0)
    assert once(forwarder).startswith("reviews-")


def test_a_killed_pod_resets_its_connections(forwarder, service):
    """What the pod's end does to its connection, the client sees on its own."""
    with httpx.Client(base_url=forwarder.url, trust_env=False) as client:
        mine = client.get("/").headers["x-backend"]
        (pod,) = (backend for backend in service if backend.name == mine)
        pod.hang()
        threading.Timer(0.3, pod.kill).start()
        with pytest.raises(httpx.TransportError):
            client.get("/")


@pytest.mark.parametrize("dead", ["refused", "nobody"])
def test_nobody_to_forward_to(dead):
    """A pod that refuses, or none at all: the client's connection is reset at once."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        addresses = [unused.getsockname()] if dead == "refused" else []
        with Forwarder(lambda: addresses, random.Random(1)) as forwarder:
            began = time.monotonic()
            with pytest.raises(httpx.TransportError):
                httpx.get(forwarder.url, trust_env=False)
            assert time.monotonic() - began < 4.0


def test_it_carries_large_bodies_both_ways(forwarder):
    """Megabytes each way arrive as they were sent."""
    body = random.Random(3).randbytes(3_000_000)
    answer = httpx.post(f"{forwarder.url}/echo", content=body, trust_env=False)
    assert answer.content == body


def test_closing_ends_its_connections(cluster, service):
    """A connection that is open when it closes ends at once."""
    with (
        Forwarder(lambda: ready_addresses(cluster.slices("prod", "reviews")), random.Random(1)) as forwarder,
        socket.create_connection(("127.0.0.1", forwarder.port), timeout=1.0) as sock,
    ):
        sock.sendall(b"GET / HTTP/1.1\r\nhost: reviews.prod\r\n\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 200")
        forwarder.close()
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", forwarder.port), timeout=1.0)
