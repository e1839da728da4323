"""Addresses that are no pod's are not dialled, wherever they are from; they are told once, and may be allowed."""

import contextlib
from dataclasses import replace

import pytest
from tests.spelled import spelled

import kubelb
from discovery.build import piece, row, wire
from kubelb import DiscoveryOptions, LoadBalancer, NoEndpoints, NotReady
from kubelb.core.events import DiscoveryFailed, DiscoveryRecovered, Skipped
from kubelb.discovery.dns.finding import Finding, screened_finding
from kubelb.discovery.dns.source import DnsDiscovery
from kubelb.discovery.kube.reducer import Reducer
from kubelb.discovery.special import special
from kubelb.discovery.static import StaticDiscovery
from kubelb.model import Endpoint
from kubelb.service import service_of
from kubelb.target import parse_target
from kubelb.testing import LocalCluster

from .test_stop import wait_for

BAD = {
    "0.0.0.0": "unspecified",
    "0.0.0.1": "unspecified",
    "::": "unspecified",
    "169.254.169.254": "link-local",
    "169.254.0.1": "link-local",
    "fe80::1": "link-local",
    "febf::1": "link-local",
    "224.0.0.1": "multicast",
    "239.255.255.255": "multicast",
    "ff02::1": "multicast",
    "255.255.255.255": "broadcast",
    "::ffff:169.254.169.254": "link-local",
    "::ffff:0.0.0.0": "unspecified",
    "::ffff:255.255.255.255": "broadcast",
    "::ffff:224.0.0.1": "multicast",
    "64:ff9b::a9fe:a9fe": "link-local",
    "fd00:ec2::254": "a cloud's metadata server",
}
GOOD = [
    *("10.0.0.1", "127.0.0.1", "169.253.255.255", "169.255.0.1", "223.255.255.255", "240.0.0.1", "1.1.1.1"),
    *("::1", "fd00::1", "fec0::1", "2001:db8::1", "::ffff:10.0.0.1", "fe80::1%eth0", "64:ff9b::a00:1", "a-name"),
]


@pytest.mark.parametrize("ip", BAD)
def test_what_is_special(ip):
    """By the kind of address, in each form that reaches it."""
    assert special(ip) == BAD[ip]


@pytest.mark.parametrize("ip", GOOD)
def test_what_is_not(ip):
    """Neighbours of the ranges, and what tests and pods use."""
    assert special(ip) == ""


@pytest.mark.parametrize(("ip", "kind"), [("169.254.169.254", "IPv4"), ("::ffff:169.254.169.254", "IPv6")])
def test_a_slice_does_not_lead_there(ip, kind):
    """The kind: whoever may write a slice has this process connect to the node's metadata server."""
    good = "10.0.0.1" if kind == "IPv4" else "fd00::1"
    reducer = Reducer("reviews", "prod", "http")
    reducer.replace([wire(piece("a", [row(ip), row(good)], kind=kind))], 0.0)
    snapshot = reducer.snapshot(0.0)
    assert [endpoint.ip for endpoint in snapshot.endpoints] == [good]
    assert reducer.refused == (ip,)
    reducer.upsert(wire(piece("a", [row(ip)], kind=kind)), 1.0)
    snapshot = reducer.snapshot(2.0)
    assert snapshot.endpoints == ()
    assert f"addresses that are not dialled: {ip} (link-local)" in snapshot.problem
    assert "allow_special_addresses=True" in snapshot.problem
    assert len(reducer.skipped) == 1
    reducer.upsert(wire(piece("a", [row(good)], kind=kind)), 3.0)
    assert reducer.refused == ()


def test_the_choice_is_made_among_the_others():
    """Left out before hints are weighed and families compared: it must not win a choice and then leave nothing."""
    reducer = Reducer("reviews", "prod", "http")
    reducer.replace(
        [wire(piece("a", [row("169.254.1.1")])), wire(piece("b", [row("fd00::1", ready=True)], kind="IPv6"))], 0.0
    )
    assert [endpoint.ip for endpoint in reducer.snapshot(0.0).endpoints] == ["fd00::1"]


def test_slices_may_be_allowed_to():
    """By the option, and by nothing else."""
    reducer = Reducer("reviews", "prod", "http", allow_special_addresses=True)
    reducer.replace([wire(piece("a", [row("169.254.1.1")]))], 0.0)
    assert [endpoint.ip for endpoint in reducer.snapshot(0.0).endpoints] == ["169.254.1.1"]


def test_an_answer_of_dns_does_not_lead_there():
    """A record is as easily written as a slice."""
    bad, good = Endpoint("169.254.169.254", 80), Endpoint("10.0.0.1", 80)
    finding = screened_finding(Finding(5.0, {"IPv4": (bad, good), "IPv6": (Endpoint("::", 80),)}))
    assert finding.endpoints == {"IPv4": (good,)}  # of the other family nothing was learnt
    assert finding.refused == (bad.ip, "::")
    assert "169.254.169.254 (link-local)" in finding.warnings[0][1]


LIE = screened_finding(Finding(5.0, {"IPv4": (Endpoint("169.254.1.1", 80),), "IPv6": ()}))


def test_a_source_of_dns():
    """Its snapshot is without them, and says why where nothing is left; the event comes once."""
    told = []
    target = parse_target("dns:///web.prod.svc.cluster.local:80")
    source = DnsDiscovery(target, emit=told.append)
    for _ in range(2):
        source.found(LIE)
    snapshot, _ = source.poll(0.0)
    assert snapshot.endpoints == ()
    assert "has only addresses that are not dialled: 169.254.1.1 (link-local); Disc" in snapshot.problem
    assert [type(event) for event in told] == [Skipped]


def test_an_answer_of_nothing_else_does_not_empty_what_is_known():
    """The kind: one lie empties the set, another is told and changes nothing. It ages, as after any failure."""
    told, now = [], [0.0]
    source = DnsDiscovery(parse_target("dns:///web:80"), emit=told.append, clock=lambda: now[0])
    good = Finding(5.0, {"IPv4": (Endpoint("10.0.0.1", 80),), "IPv6": ()})
    source.found(good)
    assert [endpoint.ip for endpoint in source.poll(0.0)[0].endpoints] == ["10.0.0.1"]
    now[0] = 10.0
    assert not source.found(LIE)
    assert source.poll(10.0)[0] is None
    assert "has only addresses that are not dialled: 169.254.1.1 (link-local)" in source.health().error
    assert source.health().cure == "DiscoveryOptions(allow_special_addresses=True), if they are meant"
    assert source.health().age == 10.0
    source.found(good)
    assert (source.health().error, source.health().age) == ("", 0.0)
    assert [type(event) for event in told] == [DiscoveryFailed, DiscoveryRecovered]
    assert told[0].kind == "malformed"


def test_a_family_of_nothing_else_stays_as_it_is():
    """The same, where the other family has an answer."""
    source = DnsDiscovery(parse_target("dns:///web:80"), routed=lambda ip: True)
    source.found(Finding(5.0, {"IPv4": (Endpoint("10.0.0.1", 80),), "IPv6": ()}))
    source.poll(0.0)
    source.found(replace(LIE, endpoints={"IPv6": (Endpoint("fd00::1", 80),)}))
    assert source.poll(0.0)[0] is None


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (Finding(5.0, {"IPv4": (Endpoint("10.0.0.1", 80), Endpoint("169.254.1.1", 80))}), "169.254.1.1 (link-local)"),
        (Finding(5.0, {"IPv4": (Endpoint("10.0.0.1", 80), Endpoint("0.0.0.0", 80))}), "0.0.0.0 (unspecified)"),
    ],
)
def test_health_names_what_is_left_out_beside_others(odd, words):
    """For as long as it is."""
    source = DnsDiscovery(parse_target("dns:///web:80"))
    source.found(screened_finding(odd))
    assert [endpoint.ip for endpoint in source.poll(0.0)[0].endpoints] == ["10.0.0.1"]
    assert source.health().error.startswith("left out are addresses that are not dialled: " + words)
    assert source.health().cure
    source.found(Finding(5.0, {"IPv4": (Endpoint("10.0.0.1", 80),)}))
    assert source.health().error == ""


def test_a_fixed_list():
    """Told once as an event, and in health for as long as it lasts."""
    told = []
    source = StaticDiscovery([("::ffff:169.254.1.1", 80), ("10.0.0.1", 80)], service="s", emit=told.append)
    assert [endpoint.ip for endpoint in source.poll(0.0)[0].endpoints] == ["10.0.0.1"]
    assert [type(event) for event in told] == [Skipped]
    assert "link-local" in source.health().error
    assert "allow_special_addresses" in source.health().cure


def test_a_load_balancer_of_nothing_else():
    """It refuses, with the reason and the cure; with the option it would dial. A seed is no way around."""
    with LoadBalancer("static:///0.0.0.0:1") as lb, pytest.raises(NoEndpoints, match="allow_special_addresses=True"):
        lb.wait_ready(0.0)
    with LoadBalancer("static:///0.0.0.0:1", discovery=DiscoveryOptions(allow_special_addresses=True)) as lb:
        lb.wait_ready(0.0)
        assert lb.health().error == ""
    with LoadBalancer(
        "reviews.prod:http", discovery=DiscoveryOptions(seed=["169.254.169.254:80", "127.0.0.1:80"])
    ) as lb:
        assert [view.address for view in lb.endpoints()] == ["127.0.0.1:80"]


@pytest.mark.parametrize("by_variable", [True, False])
def test_the_off_switch_does_not_open_the_way(monkeypatch, by_variable):
    """The kind of fault: what is refused is handed out by another door. The first that may be dialled is."""
    if by_variable:
        monkeypatch.setenv("KUBELB_DISABLE", "1")
    for target, found in (
        ("static:///169.254.169.254:80", None),
        ("static:///169.254.169.254:80,127.0.0.1:80", "127.0.0.1:80"),
    ):
        with LoadBalancer(target) as lb, contextlib.nullcontext() if by_variable else kubelb.disabled():
            if found is None:
                with pytest.raises(NoEndpoints, match="link-local"):
                    lb.call(lambda attempt: attempt.endpoint.authority)
            else:
                assert lb.call(lambda attempt: attempt.endpoint.authority) == found
    with (
        LoadBalancer("static:///169.254.169.254:80", discovery=DiscoveryOptions(allow_special_addresses=True)) as lb,
        kubelb.disabled(),
    ):
        assert lb.call(lambda attempt: attempt.endpoint.authority) == "169.254.169.254:80"


def test_a_seed_that_is_refused_is_none(tmp_path):
    """Calls wait for the first sync as without one, and are told what discovery is stuck on."""
    options = {"kubeconfig": str(tmp_path / "none"), "ready_timeout": 0.05}
    with LoadBalancer("reviews.prod:http", **spelled(options, seed=["169.254.169.254:80"])) as lb:
        assert service_of(lb).balancer.version is None
        with pytest.raises(
            NotReady, match="no endpoints are known from endpointslices, by an error in the configuration: "
        ):
            lb.call(lambda attempt: attempt)
    with LoadBalancer("reviews.prod:http", **spelled(options, seed=["169.254.169.254:80", "127.0.0.1:9"])) as lb:
        assert lb.call(lambda attempt: attempt.endpoint.authority) == "127.0.0.1:9"


def test_the_whole_way():
    """From the API server to the endpoints in use, and to health."""
    with LocalCluster() as cluster:
        cluster.apply_slice(
            {
                "metadata": {
                    "name": "web-1",
                    "namespace": "prod",
                    "labels": {"kubernetes.io/service-name": "web", "service.kubernetes.io/headless": ""},
                },
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
                "endpoints": [
                    {"addresses": [ip], "conditions": {"ready": True}} for ip in ("169.254.1.1", "127.0.0.5")
                ],
            }
        )
        with LoadBalancer("kube:///web.prod:http", discovery=DiscoveryOptions(kubeconfig=cluster.kubeconfig)) as lb:
            lb.wait_ready(20.0)
            assert [view.address for view in lb.endpoints()] == ["127.0.0.5:80"]
            wait_for(lambda: "169.254.1.1 (link-local)" in lb.health().error, 20.0)
