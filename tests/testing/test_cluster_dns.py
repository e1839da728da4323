"""`cluster.dns`: load balancers find a cluster's pods by name, and a test decides how well."""

from __future__ import annotations

import os
import socket

import dns.exception
import pytest

from kubelb import LoadBalancer, NoEndpoints
from kubelb.service import service_of
from kubelb.testing import Dns, LocalCluster

from .helpers import until


def used(lb: LoadBalancer) -> set[str]:
    return {view.address for view in lb.endpoints()}


@pytest.mark.slow
@pytest.mark.parametrize("port", ["http", 8080])
def test_pods_by_name(cluster: LocalCluster, port: str | int) -> None:
    """SRV for a port's name, A records for its number; scale, drain and death are followed."""
    svc = cluster.service("reviews.prod", replicas=3, headless=True)
    with LoadBalancer(cluster.dns.target("reviews.prod", port if isinstance(port, str) else svc[0].port)) as lb:
        lb.wait_ready()
        assert used(lb) == {backend.address for backend in svc}
        svc.scale(4)
        svc[0].kill()
        until(lambda: used(lb) == {backend.address for backend in svc if backend.alive})
        assert len(used(lb)) == 3


def test_a_cluster_ip_has_no_pods(cluster: LocalCluster) -> None:
    """It is what it is in life: one address, which nobody balances here."""
    cluster.service("reviews.prod", replicas=3)
    with LoadBalancer(cluster.dns.target("reviews.prod", "http")) as lb:
        lb.wait_ready()
        assert len(used(lb)) == 1
        until(lambda: "a VIP), not to pods" in lb.health().error)


def test_dual_stack_by_hand(cluster: LocalCluster) -> None:
    """Slices of IPv6 are told as AAAA records; of two families IPv4 is used."""
    cluster.service("reviews.prod", replicas=0, headless=True)
    labels = {"kubernetes.io/service-name": "reviews"}
    for kind, addresses in (("IPv6", ["fd00::"]), ("IPv4", ["10.0.0.1"])):
        cluster.apply_slice(
            {
                "metadata": {"name": f"reviews-{kind.lower()}", "namespace": "prod", "labels": labels},
                "addressType": kind,
                "endpoints": [{"addresses": addresses, "hostname": "a" if kind == "IPv4" else None}],
                "ports": [{"name": "http", "port": 8080}],
            }
        )
        with LoadBalancer(cluster.dns.target("reviews.prod", "http")) as lb:
            lb.wait_ready()
            assert used(lb) == {"[fd00::]:8080" if kind == "IPv6" else "10.0.0.1:8080"}
            (endpoint,) = service_of(lb).balancer.snapshot.endpoints  # type: ignore[union-attr]
            assert endpoint.hostname == ("" if kind == "IPv6" else "a")


@pytest.mark.slow
def test_down_and_up(cluster: LocalCluster) -> None:
    """Refused, over UDP and TCP, with the port kept; then it is back."""
    cluster.service("reviews.prod", replicas=1, headless=True)
    with LoadBalancer(cluster.dns.target("reviews.prod", "http")) as lb:
        lb.wait_ready()
        address = cluster.dns.address
        cluster.dns.down()
        cluster.dns.down()
        assert "down" in repr(cluster.dns)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(address.partition(":")[2])))
        until(lambda: "connection refused over UDP" in lb.health().error)
        assert len(used(lb)) == 1
        cluster.dns.up()
        cluster.dns.up()
        assert cluster.dns.address == address
        lb.resync_now()
        until(lambda: not lb.health().error)
        assert repr(cluster.dns) == f"<Dns {address} up>"


@pytest.mark.slow
def test_silence_and_failures(cluster: LocalCluster) -> None:
    """What comes while it is frozen is never answered; codes come so many times, or until all is healed."""
    cluster.service("reviews.prod", replicas=1, headless=True)
    target = cluster.dns.target("reviews.prod", "http")
    cluster.dns.freeze()
    with LoadBalancer(target, ready_timeout=10.0) as lb:
        service_of(lb).feed()
        until(lambda: cluster.dns.questions)
        assert "silent" in repr(cluster.dns)
        cluster.dns.thaw()
        lb.wait_ready()
    cluster.dns.fail("REFUSED", times=1)
    with LoadBalancer(target) as lb:
        service_of(lb).feed()
        until(lambda: "REFUSED" in lb.health().error)
        lb.wait_ready()
        cluster.dns.fail()
        lb.resync_now()
        until(lambda: "SERVFAIL" in lb.health().error)
        cluster.dns.heal()
        lb.resync_now()
        until(lambda: not lb.health().error)
    assert set(cluster.dns.questions) == {"SRV _http._tcp.reviews.prod.svc.cluster.local."}
    with pytest.raises(dns.exception.DNSException, match="unknown"):
        cluster.dns.fail("NO SUCH CODE")


def test_unknown_names_and_rubbish(cluster: LocalCluster) -> None:
    """Names that there are not are told as such; what is no question is dropped, and hurts nobody."""
    cluster.service("reviews.prod", replicas=1, headless=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rubbish:
        for data in (b"", b"rubbish", b"\x00" * 12):
            rubbish.sendto(data, ("127.0.0.1", int(cluster.dns.address.partition(":")[2])))
    for name, port in (("nothing.prod", "http"), ("reviews.prod", "grpc"), ("reviews.stage", 80)):
        with LoadBalancer(cluster.dns.target(name, port)) as lb, pytest.raises(NoEndpoints, match="NXDOMAIN"):
            lb.wait_ready()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_holds_no_port(cluster: LocalCluster) -> None:
    """While a forked child lives, `down` still means refused."""
    server: Dns = cluster.dns
    leave, stay = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(stay)
        os.read(leave, 1)
        os._exit(0)
    os.close(leave)
    try:
        server.down()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(0.1)
            asking.connect(("127.0.0.1", int(server.address.partition(":")[2])))

            def refused() -> bool:
                try:
                    asking.send(b"anybody?")
                    asking.recv(1)
                except ConnectionRefusedError:
                    return True
                except TimeoutError:  # the child has not come so far
                    return False
                return False

            until(refused)
    finally:
        os.close(stay)
        os.waitpid(pid, 0)


def test_silence_about_one_family(cluster: LocalCluster) -> None:
    """Questions of one type are taken and not answered; the pods are found all the same."""
    svc = cluster.service("reviews.prod", replicas=1, headless=True)
    cluster.dns.freeze("aaaa")
    with LoadBalancer(cluster.dns.target("reviews.prod", svc[0].port)) as lb:
        lb.wait_ready()
        assert len(used(lb)) == 1
    with pytest.raises(dns.exception.DNSException):
        cluster.dns.freeze("nonsense")
