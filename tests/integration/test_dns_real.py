"""What a real CoreDNS answers from a real API server is what a LoadBalancer picks from."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import dns.flags
import dns.message
import dns.query
import pytest

from kubelb import NoEndpoints
from kubelb.core.events import DiscoveryRecovered, Skipped
from kubelb.service import service_of

from .balancers import Balancer, Balancers
from .cluster import SERVICE_LABEL, Cluster
from .controlplane import ControlPlane
from .processes import wait_for

WEB = {"app": "web"}
ONE, TWO, THREE = "10.244.0.1", "10.244.0.2", "10.244.0.3"
ONE_6, TWO_6 = "fd00:10:244::1", "fd00:10:244::2"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices"


class Names:
    """The targets of a namespace, asked of this CoreDNS."""

    def __init__(self, plane: ControlPlane, ns: str) -> None:
        self.server = f"{plane.dns.host}:{plane.dns.port}"
        self.ns = ns

    def srv(self, service: str, port: str = "http") -> str:
        return f"dns+srv://{self.server}/_{port}._tcp.{service}.{self.ns}.svc.cluster.local"

    def a(self, service: str, port: int = 8080) -> str:
        return f"dns://{self.server}/{service}.{self.ns}.svc.cluster.local:{port}"


@pytest.fixture
def names(control_plane: ControlPlane, ns: str) -> Names:
    return Names(control_plane, ns)


@pytest.fixture
def web(cluster: Cluster, ns: str) -> str:
    """A headless Service of two ready pods, and one that is not."""
    cluster.service(ns, "web", {"http": 8080}, headless=True)
    cluster.pod(ns, "web-1", ONE, WEB, "node-a")
    cluster.pod(ns, "web-2", TWO, WEB, "node-b")
    cluster.pod(ns, "web-3", THREE, WEB, "node-b", ready=False)
    cluster.wait_ready(ns, "web", ONE, TWO)
    return "web"


@pytest.fixture
def ready(balancers: Balancers) -> Callable[..., Balancer]:
    """A load balancer that uses exactly these addresses: CoreDNS may be behind the slices by a moment."""

    def make(target: str, *addresses: str, **options: object) -> Balancer:
        made = balancers(target, **options)
        service_of(made).feed()
        made.wait_used(*addresses)
        return made

    return make


# Headless: pods.


def test_srv_and_a_records_give_the_ready_pods(ready: Callable[..., Balancer], names: Names, web: str) -> None:
    """Address and port by SRV, with the pod's name; by A the address, and the port of the target."""
    by_srv, by_a = ready(names.srv(web), ONE, TWO), ready(names.a(web, 9090), ONE, TWO)
    assert by_srv.authorities == {f"{ONE}:8080", f"{TWO}:8080"}
    assert {endpoint.hostname for endpoint in service_of(by_srv).balancer.snapshot.endpoints} == {"web-1", "web-2"}  # type: ignore[union-attr]
    assert {endpoint.weight for endpoint in service_of(by_srv).balancer.snapshot.endpoints} == {1.0}  # type: ignore[union-attr]
    assert by_a.authorities == {f"{ONE}:9090", f"{TWO}:9090"}
    for lb, source in ((by_srv, "dns+srv"), (by_a, "dns")):
        assert (lb.health().source, lb.health().synced, lb.health().error) == (source, True, "")
        assert not lb.failures


def test_dns_and_slices_give_the_same_endpoints(
    ready: Callable[..., Balancer], cluster: Cluster, names: Names, ns: str, web: str
) -> None:
    """One Service, two sources, one set; also while pods come, go, and fail their probes."""
    slices, srv = ready(f"kube:///web.{ns}:http", ONE, TWO), ready(names.srv(web), ONE, TWO)
    cluster.set_ready(ns, "web-3", True)
    cluster.delete_pod(ns, "web-1")
    for lb in (slices, srv):
        lb.wait_used(TWO, THREE)
    cluster.set_ready(ns, "web-2", False)
    for lb in (slices, srv):
        lb.wait_used(THREE)
    assert slices.authorities == srv.authorities == {f"{THREE}:8080"}


@pytest.mark.parametrize("kind", ["srv", "a"])
def test_scaled_to_nothing_and_back(
    ready: Callable[..., Balancer], cluster: Cluster, names: Names, ns: str, web: str, kind: str
) -> None:
    """The last set stays for the hold, as CoreDNS has no word for "empty"; then there is nothing; then pods again."""
    lb = ready(getattr(names, kind)(web), ONE, TWO, hold=3.0)
    for name in ("web-1", "web-2", "web-3"):
        cluster.delete_pod(ns, name)
    lb.wait_told("DNS has no ")
    assert lb.used == {ONE, TWO}
    lb.wait_used()
    with pytest.raises(NoEndpoints, match="NXDOMAIN"):
        lb.wait_ready()
    cluster.pod(ns, "web-4", ONE, WEB, "node-a")
    lb.wait_used(ONE)
    lb.wait_ready()


def test_ports_by_name(ready: Callable[..., Balancer], cluster: Cluster, names: Names, ns: str) -> None:
    """Each name its own port; numbers may differ between pods."""
    ports = [{"name": "http", "port": 80, "targetPort": "serve"}, {"name": "admin", "port": 81, "targetPort": 9090}]
    cluster.service(ns, "web", ports, headless=True)
    cluster.pod(ns, "web-1", ONE, WEB, "node-a", ports={"serve": 8080})
    cluster.pod(ns, "web-2", TWO, WEB, "node-a", ports={"serve": 8081})
    assert ready(names.srv("web"), ONE, TWO).authorities == {f"{ONE}:8080", f"{TWO}:8081"}
    assert ready(names.srv("web", "admin"), ONE, TWO).authorities == {f"{ONE}:9090", f"{TWO}:9090"}


def test_dual_stack(ready: Callable[..., Balancer], cluster: Cluster, names: Names, ns: str) -> None:
    """Of a pod's two addresses one is used, IPv4; a Service of IPv6 alone is used by that."""
    for number, addresses in enumerate(((ONE, ONE_6), (TWO, TWO_6)), 1):
        cluster.pod(ns, f"web-{number}", addresses, WEB, "node-a")
    cluster.service(ns, "web", {"http": 8080}, headless=True, dual_stack=True)
    cluster.service(ns, "six", {"http": 8080}, WEB, headless=True, ipFamilies=["IPv6"], ipFamilyPolicy="SingleStack")
    for kind in (names.srv, names.a):
        assert ready(kind("web"), ONE, TWO).authorities == {f"{ONE}:8080", f"{TWO}:8080"}
        assert ready(kind("six"), ONE_6, TWO_6).authorities == {f"[{ONE_6}]:8080", f"[{TWO_6}]:8080"}


# A ClusterIP: not pods.


def test_a_cluster_ip_is_reported_as_one(
    ready: Callable[..., Balancer], cluster: Cluster, names: Names, ns: str
) -> None:
    """SRV leads to the Service's own address: one backend, and health says what that means and what would help."""
    body = cluster.service(ns, "web", {"http": 80})
    cluster.pod(ns, "web-1", ONE, WEB, "node-a")
    virtual = body["spec"]["clusterIP"]
    lb = ready(names.srv("web"), virtual)
    assert lb.authorities == {f"{virtual}:80"}
    assert "a VIP), not to pods" in lb.health().error
    assert "headless" in lb.health().cure
    assert [event.what for event in lb.events if isinstance(event, Skipped)] == ["the choice of pods"]
    assert ready(names.a("web", 80), virtual).authorities == {f"{virtual}:80"}


# What is missing.


def test_what_dns_does_not_know(balancers: Balancers, cluster: Cluster, names: Names, ns: str, web: str) -> None:
    """No Service, no pods, no such port: told at once, and as far as CoreDNS tells them apart."""
    cluster.service(ns, "empty", {"http": 8080}, headless=True)
    for target in (names.srv("nothing"), names.srv("empty")):
        with pytest.raises(NoEndpoints, match="a wrong name or port name, no such Service, or a headless one without"):
            balancers(target).wait_ready(5.0)
    with pytest.raises(NoEndpoints, match=rf"web.{ns}.svc.cluster.local, but no port 'grpc' .* tell their names: 8080"):
        balancers(names.srv(web, "grpc")).wait_ready(5.0)
    with pytest.raises(NoEndpoints, match=r"no address for nothing\..*NXDOMAIN"):
        balancers(names.a("nothing")).wait_ready(5.0)
    # And it is found when it comes.
    lb = balancers(names.srv("late"))
    with pytest.raises(NoEndpoints):
        lb.wait_ready(5.0)
    cluster.service(ns, "late", {"http": 8080}, {"app": "web"}, headless=True)
    lb.wait_used(ONE, TWO)


# Many.


def by_hand(cluster: Cluster, ns: str, service: str, addresses: Sequence[str]) -> None:
    """Slices of a headless Service without a selector."""
    cluster.service(ns, service, {"http": 8080}, selector={}, headless=True)
    pieces = itertools.batched(addresses, 1000) if hasattr(itertools, "batched") else _batched(addresses, 1000)
    for number, piece in enumerate(pieces):
        body = {
            "metadata": {"name": f"{service}-{number}", "labels": {SERVICE_LABEL: service}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in piece],
        }
        cluster.api.create(SLICES.format(ns), body)


def _batched(items: Sequence[str], size: int) -> list[Sequence[str]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def addresses(count: int) -> list[str]:
    return [f"10.244.{number // 250}.{number % 250 + 1}" for number in range(1000, 1000 + count)]


def test_a_large_answer_comes_over_tcp(
    ready: Callable[..., Balancer], control_plane: ControlPlane, cluster: Cluster, names: Names, ns: str
) -> None:
    """300 pods do not fit into 1232 bytes of UDP; all of them are used, and nothing is said."""
    every = addresses(300)
    by_hand(cluster, ns, "many", every)
    lb = ready(names.srv("many"), *every)
    assert not lb.failures
    assert not [event for event in lb.events if isinstance(event, Skipped)]
    question = dns.message.make_query(f"_http._tcp.many.{ns}.svc.cluster.local.", "SRV", use_edns=0, payload=1232)
    over_udp = dns.query.udp(question, control_plane.dns.host, port=control_plane.dns.port, timeout=5)
    assert over_udp.flags & dns.flags.TC


def test_more_than_an_answer_can_hold(
    balancers: Balancers, ready: Callable[..., Balancer], cluster: Cluster, names: Names, ns: str
) -> None:
    """1500 SRV records pass 64 KiB. What came is used and what did not is said; A records hold them all."""
    every = addresses(1500)
    by_hand(cluster, ns, "huge", every)
    ready(names.a("huge"), *every)  # CoreDNS knows all of it by now
    lb = balancers(names.srv("huge"))
    lb.wait_ready(10.0)
    wait_for(lambda: len(lb.used) > 300)  # their addresses do not come along, and are asked for 200 at a time
    assert len(lb.used) < 1500
    assert "does not fit into 64 KiB" in next(e.reason for e in lb.events if isinstance(e, Skipped))
    with_port = ready(names.srv("huge"), *every, fallback_port=8080)
    assert len(with_port.authorities) == 1500


# CoreDNS itself.


def test_coredns_killed_and_restarted(
    ready: Callable[..., Balancer], control_plane: ControlPlane, cluster: Cluster, names: Names, ns: str, web: str
) -> None:
    """The set stays in use while nobody answers; when CoreDNS is back, so is the truth."""
    lb = ready(names.srv(web), ONE, TWO)
    control_plane.dns.kill()
    lb.wait_told("no nameserver has an answer")
    cluster.delete_pod(ns, "web-1")
    cluster.set_ready(ns, "web-3", True)
    cluster.wait_ready(ns, web, TWO, THREE)
    lb.stays(ONE, TWO, seconds=1.0)
    lb.wait_ready(0.0)
    assert control_plane.dns.alive  # asking for it starts it
    lb.wait_used(TWO, THREE)
    lb.wait_well()
    assert set(lb.failures) <= {"unreachable", "silent", "server-error"}
    assert [event for event in lb.events if isinstance(event, DiscoveryRecovered)]


def test_asked_while_nobody_is_there(balancers: Balancers, control_plane: ControlPlane, names: Names, web: str) -> None:
    """Started while CoreDNS is away: NotReady names the server and the cure; it is used as soon as it is there."""
    control_plane.dns.kill()
    lb = balancers(names.srv(web))
    service_of(lb).feed()
    lb.wait_told(f"{names.server}: connection refused")
    assert "NetworkPolicy" in lb.health().cure
    assert control_plane.dns.alive
    lb.wait_used(ONE, TWO)
