"""A bare `SVC.NS:PORT` over a LocalCluster: slices first, then its DNS, and back, with real calls all the while."""

import socket
import sys
import threading
import time

import kubernetes.client  # noqa: F401  on a busy machine that takes seconds, in which DNS would be ahead
import pytest
from tests.spelled import spelled
from tests.stalls import elapsed

from kubelb import DiscoveryOptions, LoadBalancer, NotReady, TargetError
from kubelb.clock import monotonic
from kubelb.core.events import SourceChanged
from kubelb.discovery.ladder.choice import PATIENCE
from kubelb.service import service_of
from kubelb.testing import LocalCluster

from .test_stop import AT_ONCE, wait_for


class Balancer(LoadBalancer):
    """One that remembers its steps, and whose clock the test can put forward."""

    def __init__(self, target, cluster, **options):
        self.steps = []
        self.ahead = 0.0
        options = {"kubeconfig": cluster.kubeconfig, "nameserver": cluster.dns.address, **options}
        super().__init__(target, clock=lambda: monotonic() + self.ahead, slow_start=None, **spelled(options))
        self.on_event(self._heard)

    def _heard(self, event):
        if isinstance(event, SourceChanged):
            self.steps.append((event.source, event.before, event.kind))

    @property
    def used(self):
        return {view.address for view in self.endpoints() if view.state != "parked"}

    def ask(self):
        """One call over a connection of its own."""

        def connect(attempt):
            socket.create_connection((attempt.endpoint.ip, attempt.endpoint.port), timeout=2).close()

        self.call(connect)


@pytest.fixture
def cluster():
    with LocalCluster() as running:
        yield running


@pytest.fixture
def svc(cluster):
    return cluster.service("reviews.prod:http", replicas=3, headless=True)


def addresses(svc):
    return {backend.address for backend in svc}


FAULTS = {
    "unreachable": lambda cluster: cluster.api.down(),
    "forbidden": lambda cluster: cluster.api.forbid(),
    "unauthorized": lambda cluster: cluster.api.revoke(cluster.token),
    "server-error": lambda cluster: cluster.api.fail(503),
    "late": lambda cluster: cluster.api.freeze(),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_at_the_start(cluster, svc, kind):
    """DNS takes over without an error, the reason is told and shown; slices take over as soon as they can be read."""
    FAULTS[kind](cluster)
    with Balancer("reviews.prod:http", cluster) as lb:
        lb.wait_ready(10.0)
        lb.ask()
        assert lb.used == addresses(svc)
        assert lb.steps == [("dns+srv", "endpointslices", kind)]
        health = lb.health()
        assert (health.source, health.synced) == ("dns+srv", True)
        assert health.fallback.startswith(f"{kind}: ")
        if kind == "unauthorized":
            return  # that token is dead for good
        cluster.api.allow()
        cluster.api.heal()
        cluster.api.thaw()
        lb.resync_now()
        wait_for(lambda: lb.health().source == "endpointslices")
        assert lb.steps[1:] == [("endpointslices", "dns+srv", "recovered")]
        wait_for(lambda: not lb.health().error)
        assert lb.health().fallback == ""
        assert lb.used == addresses(svc)
        lb.ask()


def test_without_the_extra(cluster, svc, monkeypatch):
    """No package to read a kubeconfig with: a step down, with the pip command as its cure."""
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    monkeypatch.setitem(sys.modules, "kubernetes.client", None)
    with Balancer("reviews.prod:http", cluster) as lb:
        lb.wait_ready()
        assert lb.used == addresses(svc)
        assert lb.steps == [("dns+srv", "endpointslices", "missing-extra")]
        assert "pip install 'kubelb[kubernetes]'" in lb.health().cure


def test_no_kubeconfig_at_all(cluster, svc, tmp_path):
    """Not in a pod, and no file: the same."""
    with Balancer("reviews.prod:http", cluster, kubeconfig=str(tmp_path / "none")) as lb:
        lb.wait_ready()
        assert lb.steps == [("dns+srv", "endpointslices", "credentials")]


@pytest.mark.slow
def test_later_under_traffic(cluster, svc):
    """The API server goes for longer than a restart takes: no call fails on the way down, there, and on the way up."""
    failures, done, calls = [], threading.Event(), [0]

    def traffic(lb):
        while not done.is_set():
            try:
                lb.ask()
                calls[0] += 1
            except Exception as error:
                failures.append(error)
            time.sleep(0.002)

    with Balancer("reviews.prod:http", cluster) as lb:
        lb.wait_ready()
        states = {state.endpoint.address: state for state in service_of(lb).balancer.states()}
        thread = threading.Thread(target=traffic, args=(lb,))
        thread.start()
        try:
            cluster.api.down()
            wait_for(lambda: lb.health().error)
            assert lb.health().source == "endpointslices"
            lb.ahead += PATIENCE
            lb.resync_now()
            wait_for(lambda: lb.health().source == "dns+srv")
            assert lb.steps == [("dns+srv", "endpointslices", "unreachable")]
            assert {view.zone for view in lb.endpoints()} == {"zone-a", "zone-b", "zone-c"}
            svc.scale(4)
            lb.resync_now()
            wait_for(lambda: lb.used == addresses(svc))
            cluster.api.up()
            lb.resync_now()
            wait_for(lambda: lb.health().source == "endpointslices")
            wait_for(lambda: lb.used == addresses(svc))
        finally:
            done.set()
            thread.join(5)
        assert not failures
        assert calls[0] > 10
        after = {state.endpoint.address: state for state in service_of(lb).balancer.states()}
        assert all(after[address] is state for address, state in states.items())
        assert not any(state.in_flight for state in after.values())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["unreachable", "forbidden"])
def test_the_way_up_uses_no_pod_that_is_gone(cluster, svc, kind):
    """The kind: on the way up the past is published. All pods were replaced, and the API server forgot old versions.

    A watch is accepted before it says 410, and not even for that moment may the old slices come into use: no address
    that was gone is seen or dialled, and no call fails.
    """
    failures, seen, done = [], [], threading.Event()

    def traffic(lb, gone):
        while not done.is_set():
            seen.append(lb.used & gone)
            try:
                lb.ask()
            except Exception as error:
                failures.append(error)
            time.sleep(0.002)

    with Balancer("reviews.prod:http", cluster) as lb:
        lb.wait_ready()
        cluster.api.wait_for_watchers(1)
        gone = addresses(svc)
        FAULTS[kind](cluster)
        cluster.api.cut_streams()
        wait_for(lambda: lb.health().error, 20.0)
        lb.ahead += PATIENCE
        lb.resync_now()
        wait_for(lambda: lb.health().source == "dns+srv", 20.0)
        svc.rolling_restart()
        wait_for(lambda: not lb.used & gone and lb.used == addresses(svc), 20.0)
        thread = threading.Thread(target=traffic, args=(lb, gone))
        thread.start()
        try:
            cluster.api.expire()
            cluster.api.up()
            cluster.api.allow()
            wait_for(lambda: lb.health().source == "endpointslices", 90.0)
            time.sleep(1.0)
        finally:
            done.set()
            thread.join(5)
        assert lb.used == addresses(svc)
        assert lb.steps[-1] == ("endpointslices", "dns+srv", "recovered")
        assert not set().union(*seen)
        assert not failures


@pytest.mark.slow
def test_pods_that_all_refuse_give_way_to_those_that_dns_knows(cluster, svc):
    """The kind: the ladder does not hear what traffic knows. Permission is lost, then every pod is replaced.

    DNS knows the new ones, none of which was known before; and nothing is put forward here, neither the ten seconds of
    patience nor the five minutes that strangers wait.
    """
    with Balancer("reviews.prod:http", cluster) as lb:
        lb.wait_ready()
        cluster.api.wait_for_watchers(1)
        cluster.api.forbid()
        cluster.api.cut_streams("reset")
        wait_for(lambda: lb.health().error, 20.0)
        svc.scale(0)
        svc.scale(3)

        def answers():
            try:
                lb.ask()
            except OSError:
                return False
            return lb.used == addresses(svc)

        wait_for(answers, 30.0)
        assert lb.steps == [("dns+srv", "endpointslices", "forbidden")]


@pytest.mark.slow
def test_a_fallback_port_that_no_pod_listens_on(cluster):
    """It looks right and is harmless until the API server is away: port 80 of a headless Service is not mapped."""
    svc = cluster.service("reviews.prod", replicas=3, headless=True, port=80)
    port = svc[0].port
    with Balancer(f"reviews.prod:{port}", cluster, fallback_port=80) as lb:
        lb.wait_ready()
        cluster.api.down()
        wait_for(lambda: lb.health().error, 20.0)
        lb.ahead += PATIENCE
        lb.resync_now()
        wait_for(lambda: "a port of none of them" in lb.health().error, 20.0)
        assert f"is fallback_port={port} meant?" in lb.health().cure
        assert lb.used == addresses(svc)
        assert lb.steps == []
        lb.ahead += 300
        lb.ask()
        lb.resync_now()
        time.sleep(0.3)
        assert lb.used == addresses(svc)


@pytest.mark.slow
def test_what_dns_knows_is_told_where_slices_are_forbidden(cluster, svc):
    """A wrong port name, and no Role: NotReady says both."""
    cluster.api.forbid()
    with Balancer("reviews.prod:htttp", cluster) as lb:
        service_of(lb).feed()
        wait_for(lambda: "no port 'htttp' of it" in lb.health().error, 20.0)
        with pytest.raises(NotReady, match=r"not allowed to list .*no port 'htttp' of it"):
            lb.wait_ready(0.05)


@pytest.mark.slow
def test_a_restart_is_nobodys_business(cluster, svc):
    """Away for less than the patience: DNS is not asked at all."""
    with Balancer("reviews.prod:http", cluster) as lb:
        lb.wait_ready()
        cluster.api.down()
        wait_for(lambda: lb.health().error)
        cluster.api.up()
        lb.resync_now()
        wait_for(lambda: not lb.health().error)
        lb.ahead += PATIENCE
        lb.resync_now()
        time.sleep(0.1)
        assert lb.steps == []
        assert cluster.dns.questions == []


def test_a_cluster_ip_replaces_no_pods(cluster):
    """With a ClusterIP there is nothing in DNS but that: the pods of a moment ago stay, and health tells why."""
    svc = cluster.service("reviews.prod:http", replicas=2)
    with Balancer("reviews.prod:http", cluster) as lb:
        lb.wait_ready()
        cluster.api.down()
        wait_for(lambda: lb.health().error)
        lb.ahead += PATIENCE
        lb.resync_now()
        wait_for(lambda: cluster.dns.questions)
        time.sleep(0.1)
        assert lb.used == addresses(svc)
        assert lb.steps == []
        lb.ahead += 300
        lb.resync_now()
        wait_for(lambda: lb.health().source == "dns+srv")
        assert "a VIP), not to pods" in lb.health().error


@pytest.mark.parametrize("target", ["reviews.prod:8080", "reviews.prod", "reviews.prod:nothing"])
def test_the_fallback_port_brings_a_records(cluster, svc, target):
    """For a port without a name in DNS, and for one whose name DNS does not know."""
    cluster.api.down()
    port = svc[0].port
    with Balancer(target, cluster, fallback_port=port) as lb:
        lb.wait_ready()
        assert lb.used == addresses(svc)
        assert lb.steps == [("dns", "endpointslices", "unreachable")]
        lb.ask()


def test_what_has_no_ladder(cluster, svc):
    """A number without a fallback port, slices alone, the own node alone: nobody asks DNS."""
    cluster.api.down()
    only_here = {"traffic_policy": "Local", "node": "zone-a-node"}
    for target, options in (
        ("reviews.prod:8080", {}),
        ("kube:///reviews.prod:http", {}),
        ("reviews.prod:http", only_here),
    ):
        with Balancer(target, cluster, **options) as lb:
            service_of(lb).feed()
            wait_for(lambda lb=lb: "connection refused" in lb.health().error, 20.0)
            with pytest.raises(NotReady, match="connection refused"):
                lb.wait_ready(0.05)
            assert cluster.dns.questions == []


@pytest.mark.slow
def test_both_away(cluster, svc):
    """NotReady tells of both; whichever is back first is used."""
    cluster.api.down()
    cluster.dns.down()
    with Balancer("reviews.prod:http", cluster) as lb:
        service_of(lb).feed()
        wait_for(lambda: "no nameserver has an answer" in lb.health().error)
        with pytest.raises(NotReady, match="connection refused; no nameserver has an answer"):
            lb.wait_ready(0.05)
        cluster.dns.up()
        lb.resync_now()
        lb.wait_ready()
        assert lb.health().source == "dns+srv"


@pytest.mark.slow
def test_close_at_once_in_any_state(cluster, svc):
    """On either rung, between them, and with both silent."""
    with Balancer("reviews.prod:http", cluster) as lb:
        lb.wait_ready()
        cluster.api.freeze()
        cluster.dns.freeze()
    for silent in (cluster.api, cluster.dns):
        lb = Balancer("reviews.prod:http", cluster)
        service_of(lb).feed()
        wait_for(lambda: len(cluster.dns.questions) > 0)
        assert elapsed(lb.close).own < AT_ONCE
        silent.thaw()
        cluster.api.down()
    wait_for(
        lambda: not [each for each in threading.enumerate() if each.name.startswith(("kubelb-dns", "kubelb-watch"))]
    )


@pytest.mark.parametrize("nameserver", ["kube-dns", "10.0.0.1:0", "fd00::1", 7, ""])
def test_a_nameserver_is_an_address(nameserver):
    """Anything else is named with the cure."""
    with pytest.raises(TargetError, match=rf"nameserver={nameserver!r}: .*(give IP|port number)"):
        LoadBalancer("reviews.prod:http", discovery=DiscoveryOptions(nameserver=nameserver))


def test_the_nameserver_is_for_dns_targets_too(cluster, svc):
    """Where the target names none of its own."""
    target = "dns+srv:///_http._tcp.reviews.prod.svc.cluster.local"
    with Balancer(target, cluster) as lb:
        lb.wait_ready()
        assert lb.used == addresses(svc)
    with Balancer(cluster.dns.target("reviews.prod", "http"), cluster, nameserver="127.0.0.1:1") as lb:
        lb.wait_ready()


def test_dns_does_not_know_nodes():
    """So a DNS name cannot be kept to the own one, and says so at once."""
    with pytest.raises(ValueError, match="traffic_policy='Local': DNS does not say"):
        LoadBalancer("dns:///web:80", discovery=DiscoveryOptions(traffic_policy="Local"))
