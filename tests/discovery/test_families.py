"""Two address families: which one is used, and that one without a route is not; integration tests ask a kernel."""

import errno
import socket

import pytest

from kubelb import DiscoveryOptions, LoadBalancer
from kubelb.discovery.dns.finding import Finding
from kubelb.discovery.dns.reducer import Reducer
from kubelb.discovery.kube.reducer import Reducer as SliceReducer
from kubelb.discovery.options import parse_families
from kubelb.discovery.route import has_route
from kubelb.model import Endpoint
from kubelb.target import parse_target

from .build import authorities, piece, row, wire
from .dns_by_hand import A

FOUR, SIX = Endpoint("10.0.0.5", 8080), Endpoint("fd00::5", 8080)
BOTH = Finding(5.0, {"IPv4": (FOUR,), "IPv6": (SIX,)})


def only(*ips):
    return lambda ip: ip in ips


def sliced(*pieces):
    return [wire(each) for each in pieces]


CHOICES = [
    (("IPv4", "IPv6"), only("10.0.0.5", "fd00::5"), "10.0.0.5:8080"),
    (("IPv6", "IPv4"), only("10.0.0.5", "fd00::5"), "[fd00::5]:8080"),
    (("IPv4", "IPv6"), only("fd00::5"), "[fd00::5]:8080"),
    (("IPv6", "IPv4"), only("10.0.0.5"), "10.0.0.5:8080"),
    (("IPv4", "IPv6"), only(), "10.0.0.5:8080"),
    (("IPv4",), only("fd00::5"), "10.0.0.5:8080"),
]


@pytest.mark.parametrize(("families", "routed", "used"), CHOICES)
def test_dns_uses_the_first_family_with_a_route(families, routed, used):
    """Where there is a route to neither, the preferred one: its errors are then the ones to be told."""
    reducer = Reducer(parse_target(A), families=families, routed=routed)
    reducer.take(BOTH, 0.0)
    assert authorities(reducer.snapshot().endpoints) == [used]


@pytest.mark.parametrize(("families", "routed", "used"), CHOICES)
def test_slices_too(families, routed, used):
    """The same table, by slices."""
    reducer = SliceReducer("reviews", "prod", "http", families=families, routed=routed)
    reducer.replace(sliced(piece("a", [row("10.0.0.5")]), piece("b", [row("fd00::5")], kind="IPv6")), 0.0)
    assert authorities(reducer.snapshot(0.0).endpoints) == [used]


def test_one_family_needs_no_route():
    """Nothing to choose: the kernel is not asked, and what cannot be reached fails with its own error."""
    asked = []
    reducer = Reducer(parse_target(A), routed=lambda ip: asked.append(ip))
    reducer.take(Finding(5.0, {"IPv4": (FOUR,), "IPv6": ()}), 0.0)
    assert authorities(reducer.snapshot().endpoints) == ["10.0.0.5:8080"]
    slices = SliceReducer("reviews", "prod", "http", routed=lambda ip: asked.append(ip))
    slices.replace(sliced(piece("a", [row("10.0.0.5")])), 0.0)
    assert authorities(slices.snapshot(0.0).endpoints) == ["10.0.0.5:8080"]
    assert asked == []


def test_a_route_that_comes_and_goes():
    """DNS looks again with each poll."""
    there = {"fd00::5"}
    reducer = Reducer(parse_target(A), routed=there.__contains__)
    reducer.take(BOTH, 0.0)
    assert authorities(reducer.snapshot().endpoints) == ["[fd00::5]:8080"]
    there.add("10.0.0.5")
    assert authorities(reducer.snapshot().endpoints) == ["10.0.0.5:8080"]
    assert reducer.snapshot() is None


def test_ready_endpoints_without_a_route_are_no_better_than_draining_ones_with_one():
    """Of two families, that of the endpoints that can be reached at all."""
    reducer = SliceReducer("reviews", "prod", "http", routed=only("fd00::5"))
    draining = row("fd00::5", ready=False, serving=True, terminating=True)
    reducer.replace(sliced(piece("a", [row("10.0.0.5")]), piece("b", [draining], kind="IPv6")), 0.0)
    assert authorities(reducer.snapshot(0.0).endpoints) == ["[fd00::5]:8080"]


@pytest.mark.parametrize(
    ("code", "answer"), [(errno.ENETUNREACH, False), (errno.EADDRNOTAVAIL, False), (errno.EMFILE, True)]
)
def test_what_the_kernel_says(monkeypatch, code, answer):
    """Only errors that are about the way say that there is none."""

    class Refusing(socket.socket):
        def connect(self, address):
            raise OSError(code, "no")

    monkeypatch.setattr(socket, "socket", Refusing)
    assert has_route("127.0.0.1") is answer


def test_there_is_a_route_to_loopback():
    """The kernel is asked for real."""
    assert has_route("127.0.0.1")


# -- the option


def test_how_families_are_written():
    """Kubernetes' spelling, or any other case."""
    assert parse_families(["ipv6"]) == ("IPv6",)
    assert parse_families(("IPV6", "ipv4")) == ("IPv6", "IPv4")


@pytest.mark.parametrize("families", [(), ("IPv5",), ("IPv4", "IPv4"), (4,), ("IPv4", "IPv6", "")])
def test_families_that_are_none(families):
    """Told with the value, the option and the cure."""
    with pytest.raises(ValueError, match=r"^families=.*: give \('IPv4', 'IPv6'\)"):
        LoadBalancer("reviews.prod:http", discovery=DiscoveryOptions(families=families))


@pytest.mark.parametrize("families", ["IPv4", 4, None])
def test_families_of_another_kind(families):
    """A single text is no list of one."""
    with pytest.raises(TypeError, match=r"^families=.*: give \('IPv4', 'IPv6'\)"):
        LoadBalancer("reviews.prod:http", discovery=DiscoveryOptions(families=families))
