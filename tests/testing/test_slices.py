"""The slices of a service are packed as the EndpointSlice controller packs them."""

from __future__ import annotations

import random

from kubelb.testing import LocalCluster


def sizes(cluster: LocalCluster) -> list[int]:
    return sorted(len(piece["endpoints"]) for piece in cluster.slices("prod", "big"))


def test_a_slice_holds_a_hundred() -> None:
    """Full ones first, the rest in one more; scaling down empties slices and never rebalances them."""
    with LocalCluster() as cluster:
        svc = cluster.service("big.prod", replicas=250, listen=False)
        assert sizes(cluster) == [50, 100, 100]
        names = {piece["metadata"]["name"] for piece in cluster.slices()}
        svc.scale(150, grace=0.0)
        assert sizes(cluster) == [50, 100]
        assert {piece["metadata"]["name"] for piece in cluster.slices()} < names


def test_newcomers_fill_the_fullest_slice_with_room() -> None:
    """So that as few slices as possible change."""
    with LocalCluster(max_endpoints_per_slice=4, lag=0.0) as cluster:
        svc = cluster.service("big.prod", replicas=8, listen=False)
        for index in (0, 1, 2, 4):
            svc[index].kill()
        assert sizes(cluster) == [1, 3]
        svc.scale(5)
        assert sizes(cluster) == [1, 4]


def test_one_pod_changes_one_slice() -> None:
    """The other slices keep their version."""
    with LocalCluster() as cluster:
        svc = cluster.service("big.prod", replicas=1000, listen=False)
        before = {p["metadata"]["name"]: p["metadata"]["resourceVersion"] for p in cluster.slices()}
        svc[500].not_ready()
        after = {p["metadata"]["name"]: p["metadata"]["resourceVersion"] for p in cluster.slices()}
        assert sum(before[name] != after[name] for name in before) == 1


def test_labels_and_owner(cluster: LocalCluster) -> None:
    """The Service's labels are copied, the controller's own added; names are generated."""
    cluster.service("web.prod", labels={"team": "a"}, headless=True, app_protocol="kubernetes.io/h2c")
    (piece,) = cluster.slices("prod", "web")
    assert piece["metadata"]["labels"] == {
        "team": "a",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        "service.kubernetes.io/headless": "",
    }
    assert piece["metadata"]["name"].startswith(piece["metadata"]["generateName"])
    assert piece["metadata"]["ownerReferences"][0]["name"] == "web"
    assert piece["ports"] == [{"name": "http", "protocol": "TCP", "port": 8080, "appProtocol": "kubernetes.io/h2c"}]


def test_the_placeholder_becomes_the_first_slice(cluster: LocalCluster) -> None:
    """By name; a service that begins with pods never had one."""
    svc = cluster.service("web.prod", replicas=0)
    (placeholder,) = cluster.slices("prod", "web")
    assert (placeholder["endpoints"], placeholder["ports"]) == (None, None)
    svc.scale(1)
    (first,) = cluster.slices("prod", "web")
    assert first["metadata"]["name"] == placeholder["metadata"]["name"]
    cluster.service("other.prod", replicas=1)
    assert cluster.slices("prod", "other")[0]["metadata"]["generation"] == 1


def test_where_one_address_must_do_each_pod_has_a_port() -> None:
    """And so a slice of its own, since ports belong to slices."""
    with LocalCluster(single_address=True) as cluster:
        svc = cluster.service("big.prod", replicas=3)
        assert {backend.host for backend in svc} == {"127.0.0.1"}
        assert {p["ports"][0]["port"] for p in cluster.slices()} == {backend.port for backend in svc}
        assert sizes(cluster) == [1, 1, 1]
        svc.wait_ready()


def test_slices_equal_the_pods_after_any_history() -> None:
    """A thousand random events: every pod that should be in a slice is in exactly one, as it is now."""
    chance = random.Random(7)
    with LocalCluster(max_endpoints_per_slice=5, lag=0.0) as cluster:
        svc = cluster.service("big.prod", replicas=10, listen=False)
        for _ in range(1000):
            backend = chance.choice(list(svc) or [None])
            match chance.randrange(7):
                case 0:
                    svc.scale(chance.randrange(20), grace=0.0)
                case 1 if backend:
                    backend.kill()
                case 2 if backend:
                    backend.heal()
                case 3 if backend:
                    backend.not_ready()
                case 4 if backend:
                    backend.ready()
                case 5 if backend:
                    backend.restart()
                case 6 if backend:
                    backend.drain(grace=0.0)
        found = [e for piece in cluster.slices("prod", "big") for e in piece["endpoints"] or []]
        expected = [backend.endpoint() for backend in svc if backend.state != "gone"]
        key = str
        assert sorted(found, key=key) == sorted(expected, key=key)
        assert all(len(piece["endpoints"] or []) <= 5 for piece in cluster.slices())
