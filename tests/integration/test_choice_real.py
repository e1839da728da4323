"""Which of the known endpoints are used: readiness, termination and topology as the real controller tells them."""

from __future__ import annotations

import pytest

from kubelb import NoEndpoints
from kubelb.service import service_of

from .balancers import Balancers
from .cluster import Cluster
from .processes import wait_for

WEB = {"app": "web"}
ONE, TWO, THREE = "10.244.0.1", "10.244.0.2", "10.244.0.3"


def pods(cluster: Cluster, ns: str, **service: object) -> str:
    """Two pods in zone a and one in zone b, all ready, behind a Service with these options; its name as a target."""
    cluster.service(ns, "web", {"http": 8080}, **service)  # type: ignore[arg-type]
    for number, (address, node) in enumerate(((ONE, "node-a"), (TWO, "node-a"), (THREE, "node-b")), 1):
        cluster.pod(ns, f"web-{number}", address, WEB, node)
    cluster.wait_ready(ns, "web", ONE, TWO, THREE)
    return f"web.{ns}:http"


# Readiness and termination.


def test_readiness_decides(balancers: Balancers, cluster: Cluster, ns: str) -> None:
    """A pod whose probe fails is parked; one whose probe passes is used; where none passes, an error says so."""
    lb = balancers.ready(pods(cluster, ns), ONE, TWO, THREE)
    cluster.set_ready(ns, "web-1", False)
    lb.wait_used(TWO, THREE)
    assert lb.parked == {ONE}
    assert [view.state for view in lb.endpoints() if view.pod == "web-1"] == ["not ready"]
    for name in ("web-2", "web-3"):
        cluster.set_ready(ns, name, False)
    lb.wait_used()
    with pytest.raises(NoEndpoints, match="none of the 3 endpoints") as caught:
        lb.wait_ready()
    assert caught.value.counts == {"known": 3, "not ready": 3}
    cluster.set_ready(ns, "web-1", True)
    lb.wait_used(ONE)


def test_terminating_pods_are_used_only_when_nothing_else_is_left(
    balancers: Balancers, cluster: Cluster, ns: str
) -> None:
    """KEP-1669: draining pods are parked beside ready ones, used alone when none is ready, parked again after that."""
    lb = balancers.ready(pods(cluster, ns), ONE, TWO, THREE)
    cluster.terminate(ns, "web-1")
    lb.wait_used(TWO, THREE)
    assert [view.state for view in lb.endpoints() if view.pod == "web-1"] == ["terminating"]
    cluster.terminate(ns, "web-2")
    cluster.set_ready(ns, "web-3", False)
    lb.wait_used(ONE, TWO)
    cluster.set_ready(ns, "web-3", True)
    lb.wait_used(THREE)
    cluster.set_ready(ns, "web-3", False)
    lb.wait_used(ONE, TWO)
    cluster.set_ready(ns, "web-1", False)  # terminates and serves no more: never used, even if it were alone
    lb.wait_used(TWO)
    cluster.delete_pod(ns, "web-2")
    lb.wait_used()


def test_unready_pods_are_used_where_the_service_publishes_them(
    balancers: Balancers, cluster: Cluster, ns: str
) -> None:
    """With publishNotReadyAddresses they are endpoints as any other, unless require_serving asks for more."""
    target = pods(cluster, ns, publish_not_ready=True)
    plain = balancers.ready(target, ONE, TWO, THREE)
    strict = balancers.ready(target, ONE, TWO, THREE, require_serving=True)
    cluster.set_ready(ns, "web-1", False)
    strict.wait_used(TWO, THREE)
    assert plain.used == {ONE, TWO, THREE}
    for name in ("web-2", "web-3"):
        cluster.set_ready(ns, name, False)
    strict.wait_used()
    with pytest.raises(NoEndpoints, match="require_serving"):
        strict.wait_ready()
    assert plain.used == {ONE, TWO, THREE}


# Topology.


def test_hints_keep_traffic_in_the_zone_that_was_given(balancers: Balancers, cluster: Cluster, ns: str) -> None:
    """With trafficDistribution: PreferSameZone each caller uses its own zone, or all where it has none."""
    target = pods(cluster, ns, trafficDistribution="PreferSameZone")
    wait_for(lambda: all(endpoint.get("hints") for endpoint in cluster.endpoints(ns, "web").values()))
    a = balancers.ready(target, ONE, TWO, zone="zone-a")
    b = balancers.ready(target, THREE, zone="zone-b")
    elsewhere = balancers.ready(target, ONE, TWO, THREE, zone="zone-c")
    balancers.ready(target, ONE, TWO, THREE)  # its zone is unknown
    assert [view.state for view in b.endpoints() if view.pod == "web-1"] == ["elsewhere"]
    cluster.set_ready(ns, "web-3", False)
    b.wait_used(ONE, TWO)
    elsewhere.wait_used(ONE, TWO)
    assert a.used == {ONE, TWO}
    cluster.set_ready(ns, "web-3", True)
    b.wait_used(THREE)


def test_the_zone_is_learnt_from_the_own_node(
    balancers: Balancers, cluster: Cluster, ns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who knows its node finds its zone in the slices, whether the node was given or is in NODE_NAME."""
    target = pods(cluster, ns, trafficDistribution="PreferSameZone")
    wait_for(lambda: all(endpoint.get("hints") for endpoint in cluster.endpoints(ns, "web").values()))
    balancers.ready(target, ONE, TWO, node="node-a")
    monkeypatch.setenv("NODE_NAME", "node-b")
    lb = balancers.ready(target, THREE)
    cluster.delete_pod(ns, "web-3")  # the last one on the node: its zone is still known
    lb.wait_used(ONE, TWO)
    cluster.node("node-b2", "zone-b")
    cluster.pod(ns, "web-4", "10.244.0.4", WEB, "node-b2")
    lb.wait_used("10.244.0.4")


def test_local_traffic_stays_on_the_node(balancers: Balancers, cluster: Cluster, ns: str) -> None:
    """traffic_policy="Local" uses the own node's pods, draining ones if need be, and no others ever."""
    lb = balancers.ready(pods(cluster, ns), ONE, TWO, node="node-a", traffic_policy="Local")
    cluster.set_ready(ns, "web-1", False)
    lb.wait_used(TWO)
    cluster.terminate(ns, "web-2")
    wait_for(lambda: any(endpoint.terminating for endpoint in service_of(lb).balancer.snapshot.endpoints))  # type: ignore[union-attr]
    assert lb.used == {TWO}
    cluster.delete_pod(ns, "web-2")
    lb.wait_used()
    with pytest.raises(NoEndpoints, match=r"no usable endpoint on node node-a .* the 1 ready on other nodes"):
        lb.wait_ready()
