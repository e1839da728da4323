"""The contract of cluster DNS: what kubelb relies on, and what `kubelb.testing` promises to answer alike.

Each test takes `names`, a `DnsUnderTest`. The modules that import this suite say which one. Everything is asked over
the wire with dnspython; only writes differ from server to server.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import Any

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

Json = dict[str, Any]
HTTP = ({"name": "http", "protocol": "TCP", "port": 8080},)


class DnsUnderTest(ABC):
    """One nameserver, and the hands that write what it knows. Real ones follow by a moment: `until` waits."""

    host: str
    port: int

    @abstractmethod
    def namespace(self) -> str:
        """A namespace of its own for the test."""

    @abstractmethod
    def address(self, number: int) -> str:
        """The n-th address for an endpoint: real servers refuse loopback."""

    @abstractmethod
    def service(self, namespace: str, name: str, *, headless: bool) -> str:
        """Create a Service with port 80 called http, whose slices are written by hand; its cluster IP, or "None"."""

    @abstractmethod
    def put(self, item: Json) -> object:
        """Create or replace a slice."""

    def slice(
        self,
        namespace: str,
        name: str,
        pods: Collection[int] = (),
        *,
        not_ready: Collection[int] = (),
        ports: Sequence[Json] = HTTP,
        named: bool = True,
    ) -> None:
        """Write the slice `name` of the service `web`: pods by number, `pod-N` at the N-th address."""
        endpoints: list[Json] = []
        for number in (*pods, *not_ready):
            endpoint: Json = {
                "addresses": [self.address(number)],
                "conditions": {"ready": number not in not_ready},
            }
            if named:
                endpoint["targetRef"] = {"kind": "Pod", "namespace": namespace, "name": f"pod-{number}"}
            endpoints.append(endpoint)
        self.put(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": name,
                    "namespace": namespace,
                    "labels": {"kubernetes.io/service-name": "web"},
                },
                "addressType": "IPv4",
                "endpoints": endpoints,
                "ports": list(ports),
            }
        )

    def ask(
        self, name: str, kind: str, *, payload: int | None = 1232, tcp: bool = False, version: int = 0
    ) -> dns.message.Message:
        """One exchange; `payload` None is without EDNS."""
        query = dns.message.make_query(name, kind, use_edns=-1 if payload is None else version, payload=payload)
        ask = dns.query.tcp if tcp else dns.query.udp
        return ask(query, self.host, port=self.port, timeout=20.0)

    def until(self, name: str, kind: str, wanted: Collection[str], **how: Any) -> dns.message.Message:
        """Ask until the answer has exactly these texts: real servers follow slices by a moment."""
        end = time.monotonic() + 20.0
        while True:
            reply = self.ask(name, kind, **how)
            if texts(reply) == sorted(wanted) or time.monotonic() > end:
                assert texts(reply) == sorted(wanted)
                return reply
            time.sleep(0.02)


def texts(reply: dns.message.Message) -> list[str]:
    """The answer's records as text, sorted."""
    return sorted(str(record) for rrset in reply.answer for record in rrset)


def code(reply: dns.message.Message) -> str:
    return dns.rcode.to_text(reply.rcode())


def missing(reply: dns.message.Message) -> bool:
    """NXDOMAIN, with the zone's SOA."""
    return (
        code(reply) == "NXDOMAIN"
        and not reply.answer
        and [str(rrset.name) for rrset in reply.authority] == ["cluster.local."]
    )


def empty(reply: dns.message.Message) -> bool:
    """NODATA, with the zone's SOA."""
    return (
        code(reply) == "NOERROR"
        and not reply.answer
        and [str(rrset.name) for rrset in reply.authority] == ["cluster.local."]
    )


def host(ns: str) -> str:
    return f"web.{ns}.svc.cluster.local."


# -- headless


def test_srv_of_a_headless_service(names: DnsUnderTest) -> None:
    """A record for each ready pod with its port, its name and an equal share; all addresses come along."""
    ns = names.namespace()
    names.service(ns, "web", headless=True)
    names.slice(ns, "web-1", (1, 2), not_ready=(3,))
    wanted = [f"0 50 8080 pod-1.{host(ns)}", f"0 50 8080 pod-2.{host(ns)}"]
    reply = names.until(f"_http._tcp.{host(ns)}", "SRV", wanted)
    assert {(str(rrset.name), str(rrset[0])) for rrset in reply.additional} == {
        (f"pod-{number}.{host(ns)}", names.address(number)) for number in (1, 2)
    }
    assert reply.flags & dns.flags.AA
    assert {rrset.ttl for rrset in (*reply.answer, *reply.additional)} == {1}


def test_addresses_of_a_headless_service(names: DnsUnderTest) -> None:
    """Those of the ready pods of all slices; of the other family, nothing."""
    ns = names.namespace()
    names.service(ns, "web", headless=True)
    names.slice(ns, "web-1", (1, 2), not_ready=(3,))
    names.slice(ns, "web-2", (4,))
    names.until(host(ns), "A", [names.address(number) for number in (1, 2, 4)])
    assert empty(names.ask(host(ns), "AAAA"))


def test_each_pod_has_a_name(names: DnsUnderTest) -> None:
    """Its own, or one made of its address; others have none."""
    ns = names.namespace()
    names.service(ns, "web", headless=True)
    names.slice(ns, "web-1", (1,))
    names.slice(ns, "web-2", (2,), named=False)
    dashed = names.address(2).replace(".", "-")
    names.until(f"pod-1.{host(ns)}", "A", [names.address(1)])
    names.until(f"{dashed}.{host(ns)}", "A", [names.address(2)])
    names.until(f"_http._tcp.{host(ns)}", "SRV", [f"0 50 8080 pod-1.{host(ns)}", f"0 50 8080 {dashed}.{host(ns)}"])
    assert missing(names.ask(f"pod-9.{host(ns)}", "A"))


def test_ports_have_names(names: DnsUnderTest) -> None:
    """SRV answers for the port that is asked about, by name and protocol; without one, for every port."""
    ns = names.namespace()
    names.service(ns, "web", headless=True)
    ports = [*HTTP, {"name": "admin", "protocol": "TCP", "port": 9090}]
    names.slice(ns, "web-1", (1,), ports=ports)
    names.slice(ns, "web-2", (2,), ports=[{"name": "http", "protocol": "TCP", "port": 8081}])
    pod = {number: f"pod-{number}.{host(ns)}" for number in (1, 2)}
    names.until(f"_http._tcp.{host(ns)}", "SRV", [f"0 50 8080 {pod[1]}", f"0 50 8081 {pod[2]}"])
    names.until(f"_admin._tcp.{host(ns)}", "SRV", [f"0 100 9090 {pod[1]}"])
    names.until(host(ns), "SRV", [f"0 33 8080 {pod[1]}", f"0 33 8081 {pod[2]}", f"0 33 9090 {pod[1]}"])
    for name in ("_grpc._tcp", "_http._udp", "_8080._tcp", "_admin", "a.b"):
        assert missing(names.ask(f"{name}.{host(ns)}", "SRV")), name


def test_a_headless_service_without_ready_pods_does_not_exist(names: DnsUnderTest) -> None:
    """NXDOMAIN: no other word for empty; and again when its last pod is not ready any more."""
    ns = names.namespace()
    names.service(ns, "web", headless=True)
    names.slice(ns, "web-1", not_ready=(1,))
    for name, kind in ((host(ns), "A"), (host(ns), "AAAA"), (f"_http._tcp.{host(ns)}", "SRV")):
        assert missing(names.ask(name, kind))
    names.slice(ns, "web-1", (1,))
    names.until(host(ns), "A", [names.address(1)])
    names.slice(ns, "web-1", not_ready=(1,))
    names.until(host(ns), "A", [])
    assert missing(names.ask(host(ns), "A"))


# -- a cluster IP


def test_a_cluster_ip(names: DnsUnderTest) -> None:
    """The Service's own address and port, pods or not; SRV leads to the Service's own name."""
    ns = names.namespace()
    virtual = names.service(ns, "web", headless=False)
    names.until(host(ns), "A", [virtual])
    assert empty(names.ask(host(ns), "AAAA"))
    for name in (f"_http._tcp.{host(ns)}", host(ns)):
        reply = names.ask(name, "SRV")
        assert texts(reply) == [f"0 100 80 {host(ns)}"]
        assert [(str(rrset.name), str(rrset[0])) for rrset in reply.additional] == [(host(ns), virtual)]
    for name in ("_grpc._tcp", "_http._udp"):
        assert missing(names.ask(f"{name}.{host(ns)}", "SRV")), name


# -- names


def test_unknown_names(names: DnsUnderTest) -> None:
    """No such service, no such namespace, no such branch of the tree."""
    ns = names.namespace()
    for name in (f"nothing.{ns}.svc.cluster.local.", "web.nowhere.svc.cluster.local.", "web.cluster.local."):
        assert missing(names.ask(name, "A")), name


def test_names_are_case_insensitive(names: DnsUnderTest) -> None:
    """RFC 4343."""
    ns = names.namespace()
    names.service(ns, "web", headless=True)
    names.slice(ns, "web-1", (1,))
    names.until(host(ns), "A", [names.address(1)])
    assert texts(names.ask(f"_HTTP._TCP.{host(ns).upper()}", "SRV"))


def test_another_zone_is_refused(names: DnsUnderTest) -> None:
    """Nobody is asked on our behalf."""
    assert code(names.ask("example.org.", "A")) == "REFUSED"


# -- EDNS


@pytest.mark.parametrize("tcp", [False, True])
def test_edns_is_answered_with_edns(names: DnsUnderTest, tcp: bool) -> None:
    """Every answer to a question with an OPT record has one, also a negative one and a refusal; to others, none."""
    ns = names.namespace()
    names.service(ns, "web", headless=True)
    names.slice(ns, "web-1", (1,))
    names.until(host(ns), "A", [names.address(1)])
    for name, rcode in ((host(ns), "NOERROR"), (f"x.{host(ns)}", "NXDOMAIN"), ("example.org.", "REFUSED")):
        for payload in (1232, None):
            reply = names.ask(name, "A", payload=payload, tcp=tcp)
            assert (code(reply), reply.edns) == (rcode, -1 if payload is None else 0), name


def test_a_version_of_edns_that_is_not_known(names: DnsUnderTest) -> None:
    """BADVERS, with the version that is."""
    reply = names.ask(host(names.namespace()), "A", version=1)
    assert (code(reply), reply.edns, reply.answer) == ("BADVERS", 0, [])


# -- size


@pytest.mark.parametrize("payload", [None, 1232])
def test_what_does_not_fit_is_cut_off_over_udp_and_whole_over_tcp(names: DnsUnderTest, payload: int | None) -> None:
    """512 bytes, or as many as EDNS says; the mark is there, and TCP has it all."""
    ns = names.namespace()
    names.service(ns, "web", headless=True)
    names.slice(ns, "web-1", range(200))
    every = [names.address(number) for number in range(200)]
    names.until(host(ns), "A", every, tcp=True)
    reply = names.ask(host(ns), "A", payload=payload)
    assert reply.flags & dns.flags.TC
    assert set(texts(reply)) < set(every)
    srv = names.ask(f"_http._tcp.{host(ns)}", "SRV", payload=payload, tcp=True)
    assert len(texts(srv)) == 200
    assert not srv.flags & dns.flags.TC


def test_tcp_has_a_limit_too(names: DnsUnderTest) -> None:
    """64 KiB: of more records some come, with the mark, and no addresses with them."""
    ns = names.namespace()
    names.service(ns, "web", headless=True)
    for part in range(2):
        names.slice(ns, f"web-{part}", range(part * 900, (part + 1) * 900))
    names.until(host(ns), "A", [names.address(number) for number in range(1800)], tcp=True)
    reply = names.ask(f"_http._tcp.{host(ns)}", "SRV", tcp=True)
    assert reply.flags & dns.flags.TC
    assert 300 < len(texts(reply)) < 1800
    assert not reply.additional
