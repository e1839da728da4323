"""The control plane that the other tests stand on does what a real one does, and its faults are real faults."""

from __future__ import annotations

import json
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
import urllib3

from .access import Access, may, reads_slices
from .api import Api, ApiError, Json
from .cluster import Cluster
from .controlplane import ControlPlane
from .processes import wait_for

SLICES = "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices"


def conditions(cluster: Cluster, ns: str, service: str, address: str) -> Json:
    """The conditions of one endpoint; empty while there is none of that address."""
    found: Json = cluster.endpoints(ns, service).get(address, {}).get("conditions", {})
    return found


# The controller's slices.


def test_slices_hold_the_running_pods(cluster: Cluster, ns: str) -> None:
    """The real controller writes address, node, zone, port and pod of each running pod that the selector matches."""
    cluster.service(ns, "web", {"http": 8080})
    cluster.pod(ns, "web-0", "10.244.0.7", {"app": "web"}, "node-a")
    cluster.pod(ns, "web-1", "10.244.0.8", {"app": "web"}, "node-b")
    cluster.pod(ns, "other", "10.244.0.9", {"app": "other"}, "node-b")
    cluster.wait_ready(ns, "web", "10.244.0.7", "10.244.0.8")

    (piece,) = cluster.slices(ns, "web")
    assert piece["addressType"] == "IPv4"
    assert piece["ports"] == [{"name": "http", "protocol": "TCP", "port": 8080}]
    first = cluster.endpoints(ns, "web")["10.244.0.7"]
    assert (first["nodeName"], first["zone"], first["targetRef"]["name"]) == ("node-a", "zone-a", "web-0")


def test_a_failing_probe_takes_a_pod_out_and_a_passing_one_brings_it_back(cluster: Cluster, ns: str) -> None:
    """A pod that is not ready stays in the slices, neither ready nor serving."""
    cluster.service(ns, "web", {"http": 8080})
    cluster.pod(ns, "web-0", "10.244.0.7", {"app": "web"}, "node-a", ready=False)
    wait_for(lambda: "10.244.0.7" in cluster.endpoints(ns, "web"))
    assert conditions(cluster, ns, "web", "10.244.0.7") == {"ready": False, "serving": False, "terminating": False}
    cluster.set_ready(ns, "web-0", True)
    cluster.wait_ready(ns, "web", "10.244.0.7")
    cluster.set_ready(ns, "web-0", False)
    cluster.wait_ready(ns, "web")


def test_a_terminating_pod_still_serves_until_it_is_gone(cluster: Cluster, ns: str) -> None:
    """During its grace period a pod is serving and terminating but not ready; then the slices forget it."""
    cluster.service(ns, "web", {"http": 8080})
    cluster.pod(ns, "web-0", "10.244.0.7", {"app": "web"}, "node-a")
    cluster.wait_ready(ns, "web", "10.244.0.7")
    cluster.terminate(ns, "web-0")
    wait_for(lambda: conditions(cluster, ns, "web", "10.244.0.7").get("terminating"))
    assert conditions(cluster, ns, "web", "10.244.0.7") == {"ready": False, "serving": True, "terminating": True}
    cluster.delete_pod(ns, "web-0")
    wait_for(lambda: not cluster.endpoints(ns, "web"))


def test_unready_pods_are_published_where_the_service_wants_them(cluster: Cluster, ns: str) -> None:
    """publishNotReadyAddresses makes `ready` true for a pod that is not."""
    cluster.service(ns, "db", {"sql": 5432}, headless=True, publish_not_ready=True)
    cluster.pod(ns, "db-0", "10.244.0.7", {"app": "db"}, "node-a", ready=False)
    cluster.wait_ready(ns, "db", "10.244.0.7")


def test_dual_stack_gives_a_set_of_slices_for_each_family(cluster: Cluster, ns: str) -> None:
    """A pod with two addresses is in one IPv4 slice and in one IPv6 slice."""
    cluster.service(ns, "web", {"http": 8080}, dual_stack=True)
    cluster.pod(ns, "web-0", ("10.244.0.7", "fd00:10:244::7"), {"app": "web"}, "node-a")
    cluster.wait_ready(ns, "web", "10.244.0.7", "fd00:10:244::7")
    assert {piece["addressType"] for piece in cluster.slices(ns, "web")} == {"IPv4", "IPv6"}


def test_a_loopback_address_is_refused(cluster: Cluster, ns: str) -> None:
    """The reason for the network namespace: the API server takes no slice with a loopback address."""
    body = {
        "metadata": {"name": "mine", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["127.0.0.1"]}],
    }
    with pytest.raises(ApiError, match="may not be in the loopback range") as caught:
        cluster.api.create(SLICES.format(ns), body)
    assert caught.value.status == 422


# Faults.


def test_a_killed_api_server_returns_on_its_port_with_its_memory(control_plane: ControlPlane, ns: str) -> None:
    """Dead, it refuses connections; started again, it knows what it knew, and the controller works on."""
    cluster = control_plane.cluster
    cluster.service(ns, "web", {"http": 8080})
    cluster.pod(ns, "web-0", "10.244.0.7", {"app": "web"}, "node-a")
    cluster.wait_ready(ns, "web", "10.244.0.7")
    control_plane.kill_api_server()
    with pytest.raises(urllib3.exceptions.HTTPError):
        cluster.slices(ns, "web")
    control_plane.restart_api_server()
    control_plane.wait_controllers()
    cluster.wait_ready(ns, "web", "10.244.0.7")
    cluster.pod(ns, "web-1", "10.244.0.8", {"app": "web"}, "node-b")
    cluster.wait_ready(ns, "web", "10.244.0.7", "10.244.0.8")


def test_a_watch_from_before_a_compaction_ends_with_410(control_plane: ControlPlane, ns: str) -> None:
    """Without its watch cache, the server answers 200 and then says in an event that the version is gone."""
    control_plane.restart_api_server("--watch-cache=false")
    assert control_plane.compact() > 1
    events = list(control_plane.api.watch(SLICES.format(ns), resourceVersion=1, timeoutSeconds=5))
    assert [(event["type"], event["object"]["code"]) for event in events] == [("ERROR", 410)]
    assert events[0]["object"]["reason"] == "Expired"


def test_flags_of_a_restart_hold_until_the_next(control_plane: ControlPlane, ns: str) -> None:
    """A server with WatchList switched off refuses such a watch; healed, it takes it."""
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    control_plane.restart_api_server("--feature-gates=WatchList=false")
    with pytest.raises(ApiError, match="sendInitialEvents"):
        next(control_plane.api.watch(SLICES.format(ns), **query, timeoutSeconds=5))
    control_plane.heal()
    event = next(control_plane.api.watch(SLICES.format(ns), **query, timeoutSeconds=5))
    assert event["type"] == "BOOKMARK"
    assert event["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_a_frozen_api_server_accepts_and_is_silent_while_another_one_writes(
    control_plane: ControlPlane, ns: str
) -> None:
    """What was written through a second server during the freeze is there after the thaw."""
    port = int(control_plane.url.rpartition(":")[2])
    with control_plane.second_api_server() as second:
        control_plane.freeze_api_server()
        with socket.create_connection(("127.0.0.1", port), timeout=2.0) as connection:
            connection.settimeout(0.3)
            context = ssl.create_default_context(cafile=str(control_plane.ca_file))
            with pytest.raises(TimeoutError):
                context.wrap_socket(connection, server_hostname="127.0.0.1")
        Cluster(second.api).service(ns, "written-meanwhile", {"http": 8080})
        control_plane.thaw_api_server()
    assert control_plane.api.get(f"/api/v1/namespaces/{ns}/services/written-meanwhile")["spec"]["ports"]


def test_a_watch_tells_of_changes_as_they_happen(cluster: Cluster, ns: str) -> None:
    """A pod that is created during a watch is seen by it, and leaving the watch early leaves nothing behind."""
    cluster.service(ns, "web", {"http": 8080})
    wait_for(lambda: cluster.slices(ns, "web"))
    version = cluster.api.get(SLICES.format(ns))["metadata"]["resourceVersion"]
    cluster.pod(ns, "web-0", "10.244.0.7", {"app": "web"}, "node-a")
    for event in cluster.api.watch(SLICES.format(ns), resourceVersion=version, timeoutSeconds=20):
        if event["object"]["endpoints"] and event["object"]["endpoints"][0]["conditions"]["ready"]:
            break
    else:
        pytest.fail("the watch ended without the pod")


# Who may do what.


def test_the_least_role_reads_slices_in_its_namespace_and_nothing_else(
    control_plane: ControlPlane, access: Access, ns: str
) -> None:
    """A pod's token with list and watch on endpointslices does both here, and is refused elsewhere."""
    elsewhere = control_plane.cluster.namespace(f"{ns}-elsewhere")
    access.service_account(ns, "client")
    view = control_plane.client(access.token(ns, "client"))
    assert not reads_slices(view, ns)
    access.bind(ns, access.role(ns, "reads-slices"), "client")
    wait_for(lambda: reads_slices(view, ns))

    assert list(view.watch(SLICES.format(ns), timeoutSeconds=1)) == []
    for path in (SLICES.format(elsewhere), f"/api/v1/namespaces/{ns}/pods", f"{SLICES.format(ns)}/by-name"):
        with pytest.raises(ApiError, match=r"cannot (list|get) resource") as caught:
            view.get(path)
        assert caught.value.status == 403


def test_a_review_names_the_binding_that_allows(control_plane: ControlPlane, access: Access, ns: str) -> None:
    """SelfSubjectAccessReview answers before and after a binding is revoked."""
    access.service_account(ns, "client")
    view = control_plane.client(access.token(ns, "client"))
    binding = access.bind(ns, access.role(ns, "reads-slices"), "client")
    wait_for(lambda: may(view, ns, "watch")["allowed"])
    assert binding in may(view, ns, "watch")["reason"]
    assert not may(view, ns, "get")["allowed"]
    access.revoke(ns, binding)
    wait_for(lambda: not may(view, ns, "watch")["allowed"])
    assert not reads_slices(view, ns)


def test_an_unknown_token_is_401(control_plane: ControlPlane, ns: str) -> None:
    """Nobody's token is refused as unauthorized, not as forbidden."""
    with pytest.raises(ApiError) as caught:
        control_plane.client("nobody-gave-this-out").get(SLICES.format(ns))
    assert caught.value.status == 401


def test_a_kubeconfig_carries_server_ca_and_token(control_plane: ControlPlane, tmp_path: Path) -> None:
    """What is written leads back to the same server, for anyone who reads kubeconfigs."""
    config = json.loads(control_plane.kubeconfig(tmp_path / "config", namespace="shop").read_text())
    server = config["clusters"][0]["cluster"]
    token = config["users"][0]["user"]["token"]
    assert config["contexts"][0]["context"]["namespace"] == "shop"
    view = Api(server["server"], Path(server["certificate-authority"]), token)
    assert view.get("/version")["major"] == "1"


# DNS.


def test_coredns_answers_srv_for_the_ready_pods_of_a_headless_service(control_plane: ControlPlane, ns: str) -> None:
    """One SRV record a ready pod, with its port, its name and its address, and with a life of one second."""
    cluster = control_plane.cluster
    cluster.service(ns, "db", {"sql": 5432}, headless=True)
    cluster.pod(ns, "db-0", "10.244.0.7", {"app": "db"}, "node-a")
    cluster.pod(ns, "db-1", "10.244.0.8", {"app": "db"}, "node-b")
    cluster.pod(ns, "db-2", "10.244.0.9", {"app": "db"}, "node-b", ready=False)
    cluster.wait_ready(ns, "db", "10.244.0.7", "10.244.0.8")
    name = f"_sql._tcp.db.{ns}.svc.cluster.local."

    def records() -> list[dns.rrset.RRset]:
        answer = control_plane.dns.query(name, "SRV").answer
        return answer if answer and len(answer[0]) == 2 else []

    (srv,) = wait_for(records)
    assert srv.rdtype == dns.rdatatype.SRV
    assert {record.port for record in srv} == {5432}
    assert {str(record.target).split(".")[0] for record in srv} == {"db-0", "db-1"}
    assert srv.ttl == 1
    missing = control_plane.dns.query(f"_sql._tcp.nothing.{ns}.svc.cluster.local.", "SRV")
    assert missing.rcode() == dns.rcode.NXDOMAIN


# The log of a process that did not start.


def test_a_server_that_cannot_start_shows_its_log(control_plane: ControlPlane) -> None:
    """A wrong flag is an error that holds the server's own words, and heals."""
    with pytest.raises(RuntimeError, match="unknown flag: --no-such-flag"):
        control_plane.restart_api_server("--no-such-flag")
    control_plane.heal()
    assert control_plane.api.ready()


def test_children_started_by_a_thread_outlive_it(control_plane: ControlPlane) -> None:
    """What a short-lived thread starts runs on when the thread is gone."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        pool.submit(control_plane.restart_api_server).result()
    assert control_plane.api_server.alive
    assert control_plane.api.ready()
