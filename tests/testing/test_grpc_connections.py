"""What happens to connections of gRPC pods while the pods live on: GOAWAY with an open port, client certificates."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import kubelb
from kubelb.adapters import grpc as balanced
from kubelb.testing import Backend, LocalCluster, Service

from .helpers import until
from .test_grpc_faults import OPTIONS, unary

ECHO = "/kubelb.testing.Echo/Unary"
GONE = {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}


def again(channel: grpc.Channel) -> None:
    """Call until it is answered, over a new connection: the old one may cancel what it has not begun."""

    def answered() -> bool:
        try:
            return unary(channel) == b"hi"
        except grpc.RpcError as error:
            assert error.code() in GONE
            return False

    until(answered)


@pytest.fixture
def svc(cluster: LocalCluster) -> Service:
    return cluster.service("reviews.prod", replicas=3, grpc=True)


@pytest.fixture
def channel(svc: Service) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(svc[0].address, OPTIONS) as channel:
        yield channel


def test_goaway_ends_connections_and_nothing_else(svc: Service, channel: grpc.Channel) -> None:
    """What runs goes on, over the old connection; what comes next makes a new one to the same pod."""
    pod, uid = svc[0], svc[0].uid
    held, entered = threading.Event(), threading.Event()

    def wait() -> float:
        entered.set()
        held.wait(30.0)
        return 0.0

    pod.slow(wait)
    running = channel.unary_unary(ECHO).future(b"old", timeout=30)
    assert entered.wait(10)
    pod.heal()
    for _ in range(2):
        pod.goaway()
        again(channel)
    assert (pod.state, pod.uid, pod.in_flight) == ("ready", uid, 1)
    held.set()
    assert running.result(timeout=10) == b"old"
    until(lambda: pod.connections == 1)
    assert unary(channel) == b"hi"


def test_goaway_has_an_end(svc: Service, channel: grpc.Channel) -> None:
    """Of its grace: calls that are still under way then are cancelled."""
    svc[0].hang(times=1)
    running = channel.unary_unary(ECHO).future(b"x", timeout=30)
    until(lambda: svc[0].in_flight == 1)
    svc[0].goaway(grace=0.05)
    assert running.exception(timeout=10).code() in GONE
    until(lambda: svc[0].in_flight == 0)
    again(channel)


def test_servicers_live_on(cluster: LocalCluster) -> None:
    """What they know is kept, as it is in one process; also where generated code has registered the methods."""
    made: list[Counting] = []

    class Counting:
        def __init__(self) -> None:
            self.count = 0
            made.append(self)

        def add(self, request: bytes, context: grpc.ServicerContext) -> bytes:
            self.count += 1
            return b"%d" % self.count

    def register(server: grpc.Server, backend: Backend) -> None:
        methods: Any = {"Add": grpc.unary_unary_rpc_method_handler(Counting().add)}
        server.add_generic_rpc_handlers(iter((grpc.method_handlers_generic_handler("shop.Counter", methods),)))
        server.add_registered_method_handlers("shop.Counter", methods)

    svc = cluster.service("counter.prod", grpc=register)
    with grpc.insecure_channel(svc[0].address, OPTIONS) as channel:
        for registered in (False, True):
            add = channel.unary_unary("/shop.Counter/Add", _registered_method=registered)
            first = int(add(b"", wait_for_ready=True, timeout=10))
            svc[0].goaway()
            until(lambda: svc[0].connections == 0)
            assert int(add(b"", wait_for_ready=True, timeout=10)) == first + 1
    assert len(made) == 1
    svc[0].kill()
    svc[0].goaway()
    svc[0].heal()
    assert len(made) == 2


def test_a_cluster_closes_in_the_middle_of_it(cluster: LocalCluster, svc: Service, channel: grpc.Channel) -> None:
    """Nobody waits for the grace."""
    svc[0].hang()
    running = channel.unary_unary(ECHO).future(b"x", timeout=30)
    until(lambda: svc[0].in_flight == 1)
    svc[0].goaway(grace=3600.0)
    cluster.close()
    assert running.exception(timeout=10).code() in GONE


def test_http_has_no_word_for_it(cluster: LocalCluster) -> None:
    """The error names what there is instead."""
    with pytest.raises(TypeError, match=r"HTTP/1.1 has no GOAWAY; use close_idle\(\) or drain\(\)"):
        cluster.service("pages.prod")[0].goaway()


@pytest.mark.slow
def test_kubelb_goes_round_a_goaway(cluster: LocalCluster, svc: Service) -> None:
    """Under load, each pod in turn: nothing of it is seen by calls that may be repeated, and all pods stay in use."""
    lb = kubelb.LoadBalancer(
        "reviews.prod:grpc", discovery=kubelb.DiscoveryOptions(kubeconfig=cluster.kubeconfig), policy="round_robin"
    )
    with lb, balanced.insecure_channel(lb, idempotent=True) as channel:
        echo = channel.unary_unary(ECHO)
        for number in range(30):
            if number % 5 == 4:
                svc[number % 3].goaway()
            assert echo(b"x", timeout=20) == b"x"
        for pod in svc:
            pod.clear()
        until(lambda: echo(b"x", timeout=20) == b"x" and all(pod.requests for pod in svc))


@pytest.mark.slow
@pytest.mark.parametrize("grpc_", [True, False])
def test_client_certificates(cluster: LocalCluster, grpc_: bool) -> None:
    """`mtls=True` wants one of the cluster's authority, which lies in `client_cert`."""
    pytest.importorskip("trustme")
    svc = cluster.service("reviews.prod", replicas=2, mtls=True, grpc=grpc_)
    cert, key = cluster.client_cert
    assert (cert, key) == cluster.client_cert
    assert Path(key).stat().st_mode & 0o077 == 0
    if not grpc_:
        import httpx

        from kubelb.adapters.httpx import Transport

        lb = kubelb.LoadBalancer("reviews.prod:http", discovery=kubelb.DiscoveryOptions(kubeconfig=cluster.kubeconfig))
        with lb, httpx.Client(transport=Transport(lb, verify=cluster.ca_file, cert=(cert, key))) as client:
            assert client.get("https://reviews.prod/").status_code == 200
        with httpx.Client(transport=Transport(lb, verify=cluster.ca_file)) as client, pytest.raises(httpx.HTTPError):
            client.get("https://reviews.prod/")
        return
    lb = kubelb.LoadBalancer("reviews.prod:grpc", discovery=kubelb.DiscoveryOptions(kubeconfig=cluster.kubeconfig))
    files = balanced.TlsFiles(ca=cluster.ca_file, cert=cert, key=key)
    with lb, balanced.secure_channel(lb, files, idempotent=True) as channel:
        for pod in svc:
            assert channel.unary_unary(ECHO)(b"x", timeout=20) == b"x"
            pod.goaway()
    lb = kubelb.LoadBalancer("reviews.prod:grpc", discovery=kubelb.DiscoveryOptions(kubeconfig=cluster.kubeconfig))
    files = balanced.TlsFiles(ca=cluster.ca_file)
    with lb, balanced.secure_channel(lb, files) as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary(ECHO)(b"x", timeout=5)
    assert sum(pod.requests for pod in svc) == 2
