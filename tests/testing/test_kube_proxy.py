"""The ClusterIP of a Service in a LocalCluster: on loopback, and it leads to the pods.

Kind: an address that a test makes a client dial, and that is not this machine's. ClusterIPs were 10.96.x.y.
"""

from __future__ import annotations

import errno
import http.client
import ipaddress
import socket
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest
from tests.guard import loopback
from tests.spelled import spelled

from kubelb import LoadBalancer
from kubelb.adapters.httpx import Transport
from kubelb.testing import LocalCluster
from kubelb.testing import kube_proxy as kube_proxy_module
from kubelb.testing.kube_proxy import ready_addresses

from .helpers import until


def get(address: str, *, count: int = 1) -> list[str]:
    """The name of the pod that answered each of so many requests, over a connection for each."""
    names = []
    for _ in range(count):
        with closing(http.client.HTTPConnection(address, timeout=5)) as connection:
            connection.request("GET", "/", headers={"Connection": "close"})
            names.append(connection.getresponse().headers["x-backend"])
    return names


@pytest.fixture
def services() -> Iterator[LocalCluster]:
    with LocalCluster() as cluster:
        yield cluster


def test_every_connection_goes_to_a_ready_pod(services: LocalCluster) -> None:
    """All get some; one that is killed gets none once its slice says so; a connection stays on its pod."""
    svc = services.service("reviews.prod", replicas=3)
    assert set(get(svc.cluster_address, count=60)) == {backend.name for backend in svc}
    connection = http.client.HTTPConnection(svc.cluster_address, timeout=5)
    seen = set()
    for _ in range(10):
        connection.request("GET", "/")
        answer = connection.getresponse()
        seen.add(answer.headers["x-backend"])
        answer.read()
    connection.close()
    assert len(seen) == 1
    svc[0].kill()
    until(lambda: len(ready_addresses(services.slices("prod", "reviews"))) == 2)
    assert svc[0].name not in get(svc.cluster_address, count=30)


def test_a_service_without_pods_resets(services: LocalCluster) -> None:
    """kube-proxy would refuse; what has accepted can only reset."""
    svc = services.service("reviews.prod", replicas=0)
    with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
        get(svc.cluster_address)


def test_every_service_has_an_address_of_its_own_on_loopback(services: LocalCluster) -> None:
    """As the API, DNS and `cluster_address` say; a headless one has none, and one on paper refuses."""
    made = [services.service(f"reviews-{number}.prod", replicas=1) for number in range(5)]
    addresses = [svc.cluster_address for svc in made]
    assert len(set(addresses)) == 5
    for svc in made:
        found = services._find_service("prod", svc.name)
        assert found is not None
        host, _, port = svc.cluster_address.partition(":")
        assert found["spec"]["clusterIP"] == host
        assert found["spec"]["ports"][0]["port"] == int(port)
        assert ipaddress.ip_address(host).is_loopback
    assert services.service("pods.prod", headless=True).cluster_address == ""
    paper = services.service("paper.prod", replicas=2, listen=False, port=31999)
    with pytest.raises(ConnectionRefusedError):
        get(paper.cluster_address)


def test_it_ends_with_its_service(services: LocalCluster) -> None:
    """A deleted Service's address refuses."""
    svc = services.service("reviews.prod", replicas=1)
    services.delete_service(svc)
    with pytest.raises(ConnectionRefusedError):
        get(svc.cluster_address)


def test_one_address_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no more than 127.0.0.1 services differ by port; one asked for twice refuses the second time."""
    with LocalCluster(single_address=True) as cluster:
        one, two = (cluster.service(f"{name}.prod", replicas=1) for name in ("one", "two"))
        assert one.cluster_address != two.cluster_address
        assert get(one.cluster_address) == [one[0].name]
        assert get(two.cluster_address) == [two[0].name]
        port = int(one.cluster_address.rpartition(":")[2])
        again = cluster.service("again.prod", replicas=1, port=port)
        assert again.cluster_address != one.cluster_address
        with pytest.raises(ConnectionRefusedError):
            get(again.cluster_address)


@pytest.mark.parametrize("given", [None, 80])
def test_a_port_that_may_not_be_had(given: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user may not listen on port 80: another one where none was asked for, else it refuses."""
    opened = kube_proxy_module.Server

    def server(doorman, host, port, *args, **kw):
        if port == 80:
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(doorman, host, port, *args, **kw)

    monkeypatch.setattr(kube_proxy_module, "Server", server)
    with LocalCluster() as cluster:
        svc = cluster.service("reviews.prod", replicas=1, port=given)
        if given is None:
            assert get(svc.cluster_address) == [svc[0].name]
        else:
            assert svc.cluster_address.endswith(":80")
            assert svc.cluster_address.startswith("127.")


def test_a_port_that_others_have_everywhere(services: LocalCluster) -> None:
    """It would lead to a server of somebody else's: the one that asks is told."""
    with socket.create_server(("0.0.0.0", 0)) as other, pytest.raises(RuntimeError, match="give another one"):
        services.service("reviews.prod", port=other.getsockname()[1])


def test_a_slice_by_hand_leads_nowhere_else(services: LocalCluster) -> None:
    """A slice may name any address; what plays kube-proxy dials none beyond loopback."""
    svc = services.service("reviews.prod", replicas=0)
    services.apply_slice(
        {
            "metadata": {"name": "x", "namespace": "prod", "labels": {"kubernetes.io/service-name": "reviews"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.1"]}],
            "ports": [{"name": "http", "port": 8080}],
        }
    )
    assert ready_addresses(services.slices("prod", "reviews")) == []
    with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
        get(svc.cluster_address)


@pytest.mark.parametrize("target", ["reviews.prod:http", "srv", "a"])
def test_a_fallback_on_the_cluster_ip_reaches_a_pod(services: LocalCluster, target: str) -> None:
    """By the ladder's SRV rung, by dns+srv:// and by dns:// of a Service that is not headless."""
    svc = services.service("reviews.prod:http", replicas=3)
    services.api.forbid("list")
    port = int(svc.cluster_address.rpartition(":")[2])
    if target != "reviews.prod:http":
        target = services.dns.target("reviews.prod", "http" if target == "srv" else port)
    options = {"kubeconfig": services.kubeconfig, "nameserver": services.dns.address}
    with (
        LoadBalancer(target, ready_timeout=20.0, **spelled(options)) as lb,
        httpx.Client(transport=Transport(lb, hosts=["reviews.prod"])) as client,
    ):
        answered = client.get("http://reviews.prod/")
        assert answered.headers["x-backend"] in {backend.name for backend in svc}
        assert [view.address for view in lb.endpoints()] == [svc.cluster_address]


def test_the_guard_refuses_and_notes(stays_on_loopback, tmp_path) -> None:
    """What every test runs under: a dial beyond loopback never leaves, whoever makes it, and fails the test."""
    with socket.socket() as sock, pytest.raises(OSError, match="not on loopback"):
        sock.connect(("10.96.0.2", 80))
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock, pytest.raises(OSError, match="not on loopback"):
        sock.sendto(b"?", ("fd00::1", 53))
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("kubelb.dev", 80)
    grpc = pytest.importorskip("grpc")
    loopback.watch_grpc()
    with pytest.raises(OSError, match="not on loopback"):
        grpc.insecure_channel("ipv4:10.0.0.1:80")
    assert len(stays_on_loopback.read_text().splitlines()) == 4
    stays_on_loopback.unlink()
    for name in ("reviews.prod.svc.cluster.local", "nothing.invalid"):  # unknown, and nothing to be blamed for
        with pytest.raises(socket.gaierror):
            socket.getaddrinfo(name, 80)
    for fine in ("127.8.8.8", "::1", "::ffff:127.0.0.1", "localhost"):
        assert loopback.on_loopback(fine)
