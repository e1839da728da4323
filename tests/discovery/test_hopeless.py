"""Where nothing can be sent: health says why and what helps, and only the first call waits for what does not come."""

import errno
import socket
import time

import kubernetes.client  # noqa: F401  on a busy machine that takes seconds, which calls would wait for
import pytest
from tests.spelled import spelled

from kubelb import DeadlineExceeded, DiscoveryOptions, LoadBalancer, NeverSent, NoEndpoints, NotReady, UnknownService
from kubelb.model import Outcome, Sent, Verdict
from kubelb.service import service_of
from kubelb.testing import LocalCluster

from .test_stop import wait_for


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster() as running:
        running.service("reviews.prod:http", replicas=2)
        running.service("empty.prod:http", replicas=0)
        yield running


def ask(lb):
    def connect(attempt):
        try:
            socket.create_connection((attempt.endpoint.ip, attempt.endpoint.port), timeout=1).close()
        except OSError as error:
            raise NeverSent from error

    lb.call(connect)


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["", "kube:///"])
@pytest.mark.parametrize(
    ("target", "error", "words"),
    [
        ("reviews.prod:htp", NoEndpoints, "has the port 'htp'"),
        ("nope.prod:http", UnknownService, "there is no Service nope in namespace prod"),
        ("empty.prod:http", NoEndpoints, "has no endpoints"),
    ],
)
def test_health_shows_what_the_balancer_knows(cluster, prefix, target, error, words):
    """The kind: discovery is well, no request can be sent, and health says that all is well."""
    options = {"kubeconfig": cluster.kubeconfig, "nameserver": cluster.dns.address}
    with LoadBalancer(prefix + target, **spelled(options)) as lb:
        with pytest.raises(error):
            lb.wait_ready(20.0)
        health = lb.health()
        assert health.synced
        assert words in health.error
        assert "kubelb doctor" in health.cure


def test_health_says_that_nobody_can_be_connected_to(cluster):
    """Known, ready, and behind a network that this process is not in."""
    with LoadBalancer("static:///127.0.0.1:1,127.0.0.2:1", retry=None) as lb:
        assert lb.health().error == ""
        for _ in range(6):
            with pytest.raises(OSError, match="refused"):
                ask(lb)
        health = lb.health()
        assert health.error == "connections are refused by all of the 2 endpoints in use"
        assert "nothing listens there" in health.cure
        assert "NetworkPol" not in health.cure


@pytest.mark.parametrize("count", [1, 2])
def test_health_tells_a_network_from_a_closed_port(count):
    """The kind: one cure for all that cannot be connected to. Where nothing answers it is the network's."""

    def unreachable(attempt):
        try:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")
        except OSError as error:
            raise NeverSent from error

    targets = ",".join(f"127.0.0.{n + 1}:1" for n in range(count))
    with LoadBalancer(f"static:///{targets}", retry=None) as lb:
        for _ in range(6):
            with pytest.raises(OSError, match="unreachable"):
                lb.call(unreachable)
        health = lb.health()
        assert f"could not connect to {ONES[count]} in use" in health.error
        assert "NetworkPolicies" in health.cure


@pytest.mark.parametrize("count", [1, 2])
def test_health_tells_of_endpoints_that_do_not_answer_a_connect(count):
    """The kind: silence that stands in no word of health's. Packets to pods are dropped outside of their network."""

    def unanswered(result, error):
        return Outcome(Verdict.SILENT, sent=Sent.NEVER, latency=0.5, error=TimeoutError("timed out"))

    targets = ",".join(f"127.0.0.{n + 1}:1" for n in range(count))
    with LoadBalancer(f"static:///{targets}", retry=None) as lb:
        for _ in range(6):
            with pytest.raises(TimeoutError):
                lb.call(lambda attempt: None, classify=unanswered)
        health = lb.health()
        assert f"could not connect to {ONES[count]} in use" in health.error
        assert "NetworkPolicies" in health.cure


ONES = {1: "the one endpoint", 2: "any of the 2 endpoints"}


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["", "kube:///"])
def test_only_the_first_call_waits(cluster, prefix):
    """The kind: each call waits anew for what cannot come. Later ones fail at once, until discovery can be read."""
    cluster.api.forbid()
    cluster.dns.down()
    options = {"kubeconfig": cluster.kubeconfig, "nameserver": cluster.dns.address}
    try:
        with LoadBalancer(prefix + "reviews.prod:http", ready_timeout=20.0, **spelled(options)) as lb:
            service_of(lb).feed()
            wait_for(lambda: "not allowed" in lb.health().error and not service_of(lb).feed().source.waiting, 20.0)
            service_of(lb).readiness.timeout = 0.5
            with pytest.raises(NotReady, match="not allowed to list"):
                ask(lb)
            service_of(lb).readiness.timeout = 60.0
            began = time.monotonic()
            for _ in range(20):
                with pytest.raises(NotReady, match="not allowed to list"):
                    ask(lb)
            assert time.monotonic() - began < 30
            cluster.api.allow()

            def answered():
                try:
                    ask(lb)
                except NotReady:
                    return False
                return True

            wait_for(answered, 30.0)
    finally:
        cluster.api.allow()
        cluster.dns.up()


def test_calls_whose_time_is_shorter_than_the_wait(cluster):
    """The kind: no call ever comes to the end of the wait, so each waits its whole time. httpx has 5 s, as we have."""
    cluster.api.forbid()
    try:
        with LoadBalancer(
            "kube:///reviews.prod:http", ready_timeout=60.0, discovery=DiscoveryOptions(kubeconfig=cluster.kubeconfig)
        ) as lb:
            service_of(lb).feed()
            wait_for(lambda: "not allowed" in lb.health().error, 20.0)
            for _ in range(2):
                with pytest.raises(DeadlineExceeded, match="not allowed to list"):
                    lb.call(lambda attempt: None, deadline=0.1)
            service_of(lb).readiness.timeout = 0.1
            time.sleep(0.1)
            began = time.monotonic()
            with pytest.raises(NotReady, match="an error in the configuration"):
                lb.call(lambda attempt: None, deadline=20.0)
            assert time.monotonic() - began < 10.0
    finally:
        cluster.api.allow()
