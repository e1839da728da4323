"""What the real endpointslice controller writes is what a LoadBalancer picks from."""

from __future__ import annotations

import pytest

from kubelb import NoEndpoints, UnknownService
from kubelb.service import service_of

from .balancers import Balancers, threads
from .cluster import SERVICE_LABEL, Cluster
from .processes import wait_for

WEB = {"app": "web"}
ONE, TWO, THREE = "10.244.0.1", "10.244.0.2", "10.244.0.3"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices"


@pytest.fixture
def web(cluster: Cluster, ns: str) -> str:
    """A Service of two ready pods, one in each zone; its name as a target."""
    cluster.service(ns, "web", {"http": 8080})
    cluster.pod(ns, "web-1", ONE, WEB, "node-a")
    cluster.pod(ns, "web-2", TWO, WEB, "node-b")
    cluster.wait_ready(ns, "web", ONE, TWO)
    return f"web.{ns}:http"


def collect_garbage(cluster: Cluster, ns: str, service: str) -> None:
    """Delete the slices of a Service that is gone: what the garbage collector does, which is not here.

    The controller makes them anew if it has not heard yet that the Service is gone.
    """
    cluster.wait_controller(ns)
    for piece in cluster.slices(ns, service):
        cluster.api.delete(f"{SLICES.format(ns)}/{piece['metadata']['name']}")


# What is known.


def test_the_first_sync_knows_every_pod_with_its_place(balancers: Balancers, web: str) -> None:
    """Ready at once, with address, zone, node and pod of each endpoint, and in good health."""
    lb = balancers.ready(web, ONE, TWO)
    assert {(view.address, view.zone, view.node, view.pod) for view in lb.endpoints()} == {
        (f"{ONE}:8080", "zone-a", "node-a", "web-1"),
        (f"{TWO}:8080", "zone-b", "node-b", "web-2"),
    }
    health = lb.health()
    assert (health.source, health.synced, health.stale, health.error) == ("endpointslices", True, False, "")
    assert health.age is not None
    assert health.age < 5.0
    assert not lb.failures


def test_pods_come_and_go(balancers: Balancers, cluster: Cluster, ns: str, web: str) -> None:
    """Scaled up, the newcomers are used; scaled down to nothing, the Service is known and empty; and up again."""
    lb = balancers.ready(web, ONE, TWO)
    cluster.pod(ns, "web-3", THREE, WEB, "node-a")
    lb.wait_used(ONE, TWO, THREE)
    for name in ("web-1", "web-2", "web-3"):
        cluster.delete_pod(ns, name)
    lb.wait_used()
    with pytest.raises(NoEndpoints):
        lb.wait_ready()
    cluster.pod(ns, "web-4", ONE, WEB, "node-a")
    lb.wait_used(ONE)
    lb.wait_ready()


def test_a_pod_that_returns_on_the_same_address_is_another_endpoint(
    balancers: Balancers, cluster: Cluster, ns: str, web: str
) -> None:
    """An address that is given to a new pod starts with a clean record, because the uid differs."""
    lb = balancers.ready(web, ONE, TWO)
    before = {endpoint.uid for endpoint in service_of(lb).balancer.snapshot.endpoints}  # type: ignore[union-attr]
    cluster.delete_pod(ns, "web-1")
    cluster.pod(ns, "web-1", ONE, WEB, "node-a")

    def after() -> set[str]:
        return {endpoint.uid for endpoint in service_of(lb).balancer.snapshot.endpoints}  # type: ignore[union-attr]

    wait_for(lambda: lb.used == {ONE, TWO} and len(before & after()) == 1)
    assert [view.state for view in lb.endpoints() if view.address == f"{ONE}:8080"] == ["warming"]


def test_balancers_of_one_service_share_one_stream(balancers: Balancers, cluster: Cluster, ns: str) -> None:
    """Two ports of a Service, each its own target: both dial their own port, and one thread watches for both."""
    cluster.service(ns, "web", {"http": 8080, "admin": 9090})
    cluster.pod(ns, "web-1", ONE, WEB, "node-a")
    cluster.wait_ready(ns, "web", ONE)
    http, admin = (balancers.ready(f"web.{ns}:{port}", ONE) for port in ("http", "admin"))
    number = balancers.ready(f"web.{ns}:9090", ONE)
    assert (http.authorities, admin.authorities) == ({f"{ONE}:8080"}, {f"{ONE}:9090"})
    assert number.authorities == admin.authorities
    assert len(threads("kubelb-watch-")) == 1
    cluster.pod(ns, "web-2", TWO, WEB, "node-b")
    for lb in (http, admin, number):
        lb.wait_used(ONE, TWO)


def test_a_named_target_port_may_differ_by_pod(balancers: Balancers, cluster: Cluster, ns: str) -> None:
    """Each pod is dialled at the number that its own container gives the name."""
    cluster.service(ns, "web", [{"name": "http", "port": 80, "targetPort": "serve"}])
    cluster.pod(ns, "web-1", ONE, WEB, "node-a", ports={"serve": 8080})
    cluster.pod(ns, "web-2", TWO, WEB, "node-b", ports={"serve": 9090})
    lb = balancers.ready(f"web.{ns}:http", ONE, TWO)
    assert lb.authorities == {f"{ONE}:8080", f"{TWO}:9090"}


def test_a_dual_stack_pod_counts_once(balancers: Balancers, cluster: Cluster, ns: str) -> None:
    """Of two families IPv4 is used; where a Service has IPv6 alone, that is, in brackets."""
    both = (ONE, "fd00:10:244::1")
    cluster.pod(ns, "web-1", both, WEB, "node-a")
    cluster.service(ns, "web", {"http": 8080}, dual_stack=True)
    cluster.service(ns, "six", {"http": 8080}, WEB, ipFamilies=["IPv6"], ipFamilyPolicy="SingleStack")
    cluster.wait_ready(ns, "web", *both)
    cluster.wait_ready(ns, "six", both[1])
    assert balancers.ready(f"web.{ns}:http", ONE).authorities == {f"{ONE}:8080"}
    assert balancers.ready(f"six.{ns}:http", both[1]).authorities == {"[fd00:10:244::1]:8080"}


def test_slices_made_by_hand_count(balancers: Balancers, cluster: Cluster, ns: str) -> None:
    """A Service without a selector is served by slices that somebody else writes, changes and deletes."""
    cluster.service(ns, "db", {"sql": 5432}, selector={})
    body = {
        "metadata": {"name": "db-by-hand", "labels": {SERVICE_LABEL: "db"}},
        "addressType": "IPv4",
        "ports": [{"name": "sql", "port": 6543}],
        "endpoints": [{"addresses": [ONE]}],
    }
    cluster.api.create(SLICES.format(ns), body)
    lb = balancers.ready(f"db.{ns}:sql", ONE)
    assert lb.authorities == {f"{ONE}:6543"}
    changed = {"endpoints": [{"addresses": [TWO]}, {"addresses": [THREE], "conditions": {"ready": False}}]}
    cluster.api.patch(f"{SLICES.format(ns)}/db-by-hand", changed)
    lb.wait_used(TWO)
    assert lb.parked == {THREE}
    cluster.api.delete(f"{SLICES.format(ns)}/db-by-hand")
    lb.wait_used()


# What is missing.


def test_an_unknown_service_is_not_an_empty_one(balancers: Balancers, cluster: Cluster, ns: str) -> None:
    """Nothing of that name, and nothing behind it, are two errors; both end as soon as there is something."""
    cluster.service(ns, "empty", {"http": 8080})
    wait_for(lambda: cluster.slices(ns, "empty"))
    unknown, empty = balancers(f"web.{ns}:http"), balancers(f"empty.{ns}:http")
    with pytest.raises(UnknownService, match=f"no Service web in namespace {ns}"):
        unknown.wait_ready(20.0)
    with pytest.raises(NoEndpoints, match=f"Service empty in namespace {ns} has no endpoints"):
        empty.wait_ready(20.0)
    cluster.service(ns, "web", {"http": 8080})
    cluster.pod(ns, "web-1", ONE, WEB, "node-a")
    cluster.pod(ns, "empty-1", TWO, {"app": "empty"}, "node-a")
    unknown.wait_used(ONE)
    empty.wait_used(TWO)


def test_an_unknown_port_is_answered_with_those_there_are(balancers: Balancers, cluster: Cluster, ns: str) -> None:
    """A name or a number that no slice has is told with the names and numbers of all."""
    cluster.service(ns, "web", {"http": 8080, "admin": 9090})
    cluster.pod(ns, "web-1", ONE, WEB, "node-a")
    cluster.wait_ready(ns, "web", ONE)
    for port in ("grpc", "80"):
        with pytest.raises(NoEndpoints, match=rf"has the port '?{port}'?; .*: admin:9090, http:8080"):
            balancers(f"web.{ns}:{port}").wait_ready(20.0)


def test_a_service_may_be_deleted_and_come_back(balancers: Balancers, cluster: Cluster, ns: str, web: str) -> None:
    """With its slices a Service becomes unknown; created anew, under slices of other names, it is used again."""
    lb = balancers.ready(web, ONE, TWO)
    cluster.delete_service(ns, "web")
    collect_garbage(cluster, ns, "web")
    lb.wait_used()
    with pytest.raises(UnknownService):
        lb.wait_ready()
    cluster.service(ns, "web", {"http": 9090})
    lb.wait_used(ONE, TWO)
    assert lb.authorities == {f"{ONE}:9090", f"{TWO}:9090"}
    assert not lb.failures
