"""What pods become is what slices say, in Kubernetes' order and with its delays."""

from __future__ import annotations

import socket
import threading
import time

import pytest
import urllib3

from kubelb.testing import LocalCluster, Service

from .helpers import conditions, until

READY, NOT_READY, DRAINING = (True, True, False), (False, False, False), (False, True, True)


@pytest.fixture
def svc(cluster: LocalCluster) -> Service:
    return cluster.service("reviews.prod", replicas=3)


def test_a_killed_pod_leaves_its_slice_late(cluster: LocalCluster, svc: Service) -> None:
    """First the port, after the lag not ready, after twice the lag gone."""
    cluster.lag = 0.1
    svc[0].kill()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((svc[0].host, svc[0].port), timeout=1.0)
    assert conditions(cluster)["reviews-0"] == READY
    assert not svc[0].alive
    until(lambda: conditions(cluster)["reviews-0"] == NOT_READY)
    until(lambda: "reviews-0" not in conditions(cluster))
    assert (svc[0].state, len(svc)) == ("gone", 3)


def test_a_killed_pod_heals_as_another_one(cluster: LocalCluster, svc: Service, http: urllib3.PoolManager) -> None:
    """Same address, new uid, at once; what was due for the old one does not happen to it."""
    cluster.lag = 0.03
    uid, address = svc[0].uid, svc[0].address
    svc[0].kill()
    svc[0].heal()
    assert (svc[0].address, svc[0].uid != uid) == (address, True)
    time.sleep(0.1)
    assert conditions(cluster)["reviews-0"] == READY
    assert http.request("GET", f"http://{address}/").status == 200


def test_restart_is_a_new_uid_on_the_same_address(cluster: LocalCluster, svc: Service) -> None:
    """In one step of the slice."""
    before = cluster.slices("prod")[0]
    svc[1].restart()
    (after,) = cluster.slices("prod")
    uids = [[endpoint["targetRef"]["uid"] for endpoint in piece["endpoints"]] for piece in (before, after)]
    assert [a == b for a, b in zip(*uids, strict=True)] == [True, False, True]
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1


def test_a_drained_pod_serves_until_its_grace_is_over(
    cluster: LocalCluster, svc: Service, http: urllib3.PoolManager
) -> None:
    """Terminating and serving at once, `Connection: close` on every answer, then the port closes and it is gone."""
    address = svc[0].address
    http.request("GET", f"http://{address}/")
    svc[0].drain(grace=0.15)
    assert conditions(cluster)["reviews-0"] == DRAINING
    answer = http.request("GET", f"http://{address}/")
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    until(lambda: "reviews-0" not in conditions(cluster))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((svc[0].host, svc[0].port), timeout=1.0)


def test_a_request_that_outlives_the_grace_is_finished(cluster: LocalCluster, svc: Service) -> None:
    """The pod leaves its slice on time; the request under way has a second more."""
    svc[0].slow(0.2)
    answers: list[int] = []

    def ask() -> None:
        pool = urllib3.PoolManager(retries=False)
        answers.append(pool.request("GET", f"http://{svc[0].address}/").status)
        pool.clear()

    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: svc[0].in_flight == 1)
    svc[0].drain(grace=0.05)
    until(lambda: svc[0].state == "gone")
    assert answers == []
    thread.join()
    assert answers == [200]


def test_readiness_is_the_slices_business(cluster: LocalCluster, svc: Service, http: urllib3.PoolManager) -> None:
    """The server goes on, the slice says what the probe says."""
    svc[2].not_ready()
    assert conditions(cluster)["reviews-2"] == NOT_READY
    assert http.request("GET", f"http://{svc[2].address}/").status == 200
    svc[2].ready()
    assert conditions(cluster)["reviews-2"] == READY


def test_publish_not_ready_says_ready_of_all(cluster: LocalCluster) -> None:
    """`ready` is true whatever the probe says and while terminating; `serving` tells the truth."""
    svc = cluster.service("peers.prod", replicas=2, publish_not_ready=True)
    svc[0].not_ready()
    svc[1].drain()
    assert conditions(cluster, "peers") == {"peers-0": (True, False, False), "peers-1": (True, True, True)}


def test_scale_adds_and_drains(cluster: LocalCluster, svc: Service) -> None:
    """New ones serve when it returns; surplus ones are drained from the end; zero leaves the placeholder."""
    svc.scale(5)
    assert list(conditions(cluster)) == [f"reviews-{n}" for n in range(5)]
    assert all(backend.answers() for backend in svc)
    svc.scale(2, grace=0.05)
    assert [backend.name for backend in svc] == ["reviews-0", "reviews-1"]
    assert conditions(cluster)["reviews-4"] == DRAINING
    until(lambda: len(conditions(cluster)) == 2)
    svc.scale(0, grace=0.0)
    (placeholder,) = cluster.slices("prod", "reviews")
    assert (placeholder["endpoints"], placeholder["ports"]) == (None, None)
    svc.scale(1)
    assert [backend.name for backend in svc] == ["reviews-5"]


def test_scale_counts_the_living(cluster: LocalCluster, svc: Service) -> None:
    """A killed one is replaced, as by a ReplicaSet."""
    svc[0].kill()
    svc.scale(3)
    assert [backend.name for backend in svc] == ["reviews-1", "reviews-2", "reviews-3"]
    with pytest.raises(ValueError, match="negative"):
        svc.scale(-1)


def test_a_rolling_restart_never_has_too_few(cluster: LocalCluster, svc: Service, http: urllib3.PoolManager) -> None:
    """Every pod is another one afterwards; at each version of the slice three or more were ready."""
    start = cluster.api.resource_version
    svc.rolling_restart(grace=0.03)
    assert [backend.name for backend in svc] == ["reviews-3", "reviews-4", "reviews-5"]
    assert list(conditions(cluster)) == ["reviews-3", "reviews-4", "reviews-5"]
    response = http.request(
        "GET",
        f"{cluster.url}/apis/discovery.k8s.io/v1/namespaces/prod/endpointslices?watch=1&timeoutSeconds=1"
        f"&resourceVersion={start}",
        headers={"Authorization": f"Bearer {cluster.token}"},
        preload_content=False,
    )
    import json

    events = [json.loads(line) for line in next(response.stream()).splitlines()]
    response.close()
    assert len(events) == 9
    for event in events:
        assert sum(endpoint["conditions"]["ready"] for endpoint in event["object"]["endpoints"]) >= 3


def test_a_rolling_restart_may_reuse_addresses(cluster: LocalCluster, svc: Service) -> None:
    """As a StatefulSet: same names and addresses, new uids, two at a time."""
    before = [(backend.name, backend.address, backend.uid) for backend in svc]
    svc.rolling_restart(max_unavailable=2, grace=0.02, reuse_addresses=True)
    after = [(backend.name, backend.address, backend.uid) for backend in svc]
    assert [entry[:2] for entry in after] == [entry[:2] for entry in before]
    assert all(new[2] != old[2] for new, old in zip(after, before, strict=True))
    svc.wait_ready()


def test_wait_ready_waits(cluster: LocalCluster, svc: Service) -> None:
    """Until ports answer and slices say ready, or it says that they do not."""
    svc.wait_ready()
    svc[0].not_ready()
    threading.Timer(0.05, svc[0].ready).start()
    svc.wait_ready()
    svc[1].refuse()
    with pytest.raises(TimeoutError, match=r"reviews\.prod:http to be ready"):
        svc.wait_ready(timeout=0.05)


def test_zones_nodes_and_hints(cluster: LocalCluster) -> None:
    """Pods stand in the zones by turns; hints name the own zone, and the node where asked for."""
    svc = cluster.service("near.prod", replicas=2, zones=("x", "y"), hints="node")
    svc.scale(3, zone="z")
    (piece,) = cluster.slices("prod", "near")
    assert [(e["zone"], e["nodeName"], e["hints"]) for e in piece["endpoints"]] == [
        (zone, f"{zone}-node", {"forZones": [{"name": zone}], "forNodes": [{"name": f"{zone}-node"}]})
        for zone in ("x", "y", "z")
    ]
    svc[0].not_ready()
    (piece,) = cluster.slices("prod", "near")
    assert "hints" not in piece["endpoints"][0]


def test_a_deleted_service_leaves_nothing(cluster: LocalCluster, svc: Service) -> None:
    """No slice, no port; its name is free again."""
    old = svc[0]
    cluster.delete_service(svc)
    assert cluster.slices("prod", "reviews") == []
    assert not old.answers()
    old.heal()
    assert cluster.slices("prod", "reviews") == []
    again = cluster.service("reviews.prod")
    assert again[0].answers()
