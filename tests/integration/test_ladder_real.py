"""A bare `SVC.NS:PORT` with a real API server and a real CoreDNS: down the ladder and up, with calls all the while."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import kubernetes.client  # noqa: F401  on a busy machine that takes seconds, in which DNS would be ahead
import pytest

from kubelb import Attempt
from kubelb.core.events import SourceChanged
from kubelb.discovery.ladder.choice import PATIENCE
from kubelb.service import service_of

from .access import Access
from .backends import Backends
from .balancers import Balancer, Balancers
from .cluster import Cluster
from .controlplane import ControlPlane
from .processes import wait_for

WEB = {"app": "web"}
ONE, TWO, THREE = "10.244.0.1", "10.244.0.2", "10.244.0.3"


@pytest.fixture
def web(cluster: Cluster, control_plane: ControlPlane, backends: Backends, ns: str) -> str:
    """A headless Service of two pods that listen, known to CoreDNS; its name as a target."""
    cluster.service(ns, "web", {"http": 8080}, headless=True)
    for number, address in enumerate((ONE, TWO), 1):
        backends(f"web-{number}", address)
        cluster.pod(ns, f"web-{number}", address, WEB, "node-a")
    cluster.wait_ready(ns, "web", ONE, TWO)
    wait_for(lambda: len(control_plane.dns.query(f"web.{ns}.svc.cluster.local.", "A").answer) > 0)
    return f"web.{ns}:http"


@pytest.fixture
def ladder(balancers: Balancers, control_plane: ControlPlane) -> Callable[..., Balancer]:
    """Load balancers whose DNS rungs ask this CoreDNS."""
    nameserver = f"{control_plane.dns.host}:{control_plane.dns.port}"
    return lambda target, **options: balancers(target, nameserver=nameserver, **options)


def ask(attempt: Attempt) -> None:
    socket.create_connection((attempt.endpoint.ip, attempt.endpoint.port), timeout=2.0).close()


@contextmanager
def calls(lb: Balancer) -> Iterator[list[BaseException]]:
    """Calls without a pause; the errors that callers saw."""
    errors: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        while not done.is_set():
            try:
                lb.call(ask)
            except Exception as error:
                errors.append(error)
            time.sleep(0.002)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield errors
    finally:
        done.set()
        thread.join()


def steps(lb: Balancer) -> list[tuple[str, str, str]]:
    return [(event.source, event.before, event.kind) for event in lb.events if isinstance(event, SourceChanged)]


def test_api_server_gone_at_the_start(
    ladder: Callable[..., Balancer], control_plane: ControlPlane, cluster: Cluster, web: str
) -> None:
    """DNS takes over without an error; when the API server is there, slices do, and the endpoints are the same."""
    control_plane.kill_api_server()
    lb = ladder(web)
    with calls(lb) as errors:
        lb.wait_ready(10.0)
        assert (lb.used, lb.health().source) == ({ONE, TWO}, "dns+srv")
        before = {state.endpoint.address: state for state in service_of(lb).balancer.states()}
        control_plane.restart_api_server()
        lb.resync_now()
        wait_for(lambda: lb.health().source == "endpointslices", 60.0)
        lb.wait_well(60.0)
    assert not errors
    assert steps(lb) == [("dns+srv", "endpointslices", "unreachable"), ("endpointslices", "dns+srv", "recovered")]
    after = {state.endpoint.address: state for state in service_of(lb).balancer.states()}
    assert after == before
    assert {state.endpoint.zone for state in after.values()} == {"zone-a"}


def test_api_server_gone_later(
    ladder: Callable[..., Balancer], control_plane: ControlPlane, cluster: Cluster, ns: str, web: str
) -> None:
    """After ten seconds DNS takes over: no error, the same endpoints, all that was known of them; and slices again."""
    lb = ladder(web)
    lb.wait_ready(30.0)
    lb.wait_used(ONE, TWO)
    before = {state.endpoint.address: state for state in service_of(lb).balancer.states()}
    with calls(lb) as errors:
        control_plane.kill_api_server()
        lb.wait_told("refused")
        wait_for(lambda: lb.health().source == "dns+srv", PATIENCE + 20.0)
        assert lb.health().fallback.startswith("unreachable: ")
        assert {state.endpoint.address: state for state in service_of(lb).balancer.states()} == before
        assert {view.pod for view in lb.endpoints()} == {"web-1", "web-2"}
        control_plane.restart_api_server()
        lb.resync_now()
        wait_for(lambda: lb.health().source == "endpointslices", 60.0)
        lb.wait_well(60.0)
        assert lb.health().fallback == ""
    assert not errors
    assert steps(lb) == [("dns+srv", "endpointslices", "unreachable"), ("endpointslices", "dns+srv", "recovered")]
    assert {state.endpoint.address: state for state in service_of(lb).balancer.states()} == before


def test_no_permission_but_dns(
    ladder: Callable[..., Balancer],
    control_plane: ControlPlane,
    cluster: Cluster,
    access: Access,
    backends: Backends,
    ns: str,
    web: str,
    tmp_path: Path,
) -> None:
    """A ServiceAccount without a Role: DNS alone, followed as pods come and go, and the Role named as the cure."""
    access.service_account(ns, "nobody")
    kubeconfig = control_plane.kubeconfig(tmp_path / "nobody", token=access.token(ns, "nobody"))
    lb = ladder(web, kubeconfig=kubeconfig)
    lb.wait_ready(10.0)
    assert steps(lb) == [("dns+srv", "endpointslices", "forbidden")]
    assert '["list", "watch"]' in lb.health().cure
    lb.wait_used(ONE, TWO)
    backends("web-3", THREE)
    cluster.pod(ns, "web-3", THREE, WEB, "node-b")
    cluster.delete_pod(ns, "web-1")
    lb.wait_used(TWO, THREE)
    lb.call(ask)


def test_a_cluster_ip_at_the_start(
    ladder: Callable[..., Balancer], control_plane: ControlPlane, cluster: Cluster, ns: str
) -> None:
    """Where nothing else is known, the Service's own address is used: kube-proxy would choose. By A records, too."""
    body = cluster.service(ns, "web", {"http": 8080})
    virtual = body["spec"]["clusterIP"]
    wait_for(lambda: len(control_plane.dns.query(f"web.{ns}.svc.cluster.local.", "A").answer) > 0)
    control_plane.kill_api_server()
    srv, number = ladder(f"web.{ns}:http"), ladder(f"web.{ns}:8080", fallback_port=8080)
    for lb, source in ((srv, "dns+srv"), (number, "dns")):
        lb.wait_ready(10.0)
        assert (lb.authorities, lb.health().source) == ({f"{virtual}:8080"}, source)
    assert "a VIP), not to pods" in srv.health().error
