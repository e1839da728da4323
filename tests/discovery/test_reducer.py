"""The reducer, rule by rule. The numbers are those of the checklist that discovery was built to."""

import itertools
import json
import random

import pytest

from kubelb.discovery.kube.choose import View
from kubelb.discovery.kube.reducer import Reducer

from .build import HTTP, authorities, ips, piece, row, wire

UDP = {"name": "http", "protocol": "UDP", "port": 5353}


def make(*slices, port="http", hold=0.0, **options):
    """A synced reducer that has been told these slices one after the other."""
    reducer = Reducer("reviews", "prod", port, hold=hold, **options)
    reducer.replace([], 0.0)
    for each in slices:
        reducer.upsert(wire(each), 0.0)
    return reducer


def seen(*slices, **options):
    return make(*slices, **options).snapshot(0.0)


def used(*slices, **options):
    return authorities(seen(*slices, **options).endpoints)


# -- selection and merge


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda o: o["metadata"].pop("labels"), "service label"),
        (lambda o: o["metadata"].pop("name"), "name"),
        (lambda o: o["metadata"].pop("namespace"), "namespace"),
    ],
)
def test_nameless_slices_are_skipped_once(change, reason):
    """A slice without label, name or namespace is left out, with one warning however often it comes."""
    odd = piece("odd", [row("10.0.0.9")])
    change(odd)
    reducer = make(piece("a", [row("10.0.0.1")]), odd, odd)
    assert authorities(reducer.snapshot(0).endpoints) == ["10.0.0.1:8080"]
    assert len(reducer.skipped) == 1
    assert reason in reducer.skipped[0][1]


def test_only_the_service_and_its_namespace():
    """Slices of other services and namespaces are none of ours, and no reason to warn."""
    reducer = make(
        piece("a", [row("10.0.0.1")]),
        piece("b", [row("10.0.0.2")], service="ratings"),
        piece("c", [row("10.0.0.3")], ns="test"),
    )
    assert authorities(reducer.snapshot(0).endpoints) == ["10.0.0.1:8080"]
    assert reducer.skipped == []


def test_a_slice_that_changes_its_label_is_gone():
    """A slice that comes to name another service takes its endpoints along."""
    reducer = make(piece("a", [row("10.0.0.1")], version=1))
    reducer.upsert(wire(piece("a", [row("10.0.0.1")], service="ratings", version=2)), 0)
    assert not reducer.snapshot(0).exists


def test_three_slices_in_every_order():
    """3 x 100 endpoints are 300, in the same order, whatever comes first."""
    slices = [piece(f"s-{n}", [row(ip) for ip in ips(100, 1 + 100 * n)]) for n in range(3)]
    results = {seen(*order).endpoints for order in itertools.permutations(slices)}
    assert len(results) == 1
    assert len(next(iter(results))) == 300


def test_an_event_changes_its_own_slice_only():
    """Other slices' endpoints stay, the very objects; the hint names the one that changed."""
    reducer = make(piece("a", [row("10.0.0.1"), row("10.0.0.2")]), piece("b", [row("10.0.0.3")]))
    before = {endpoint.ip: endpoint for endpoint in reducer.snapshot(0).endpoints}
    reducer.upsert(wire(piece("a", [row("10.0.0.1"), row("10.0.0.2", ready=False)])), 0)
    after = reducer.snapshot(0)
    assert {endpoint.ip for endpoint in after.endpoints} == {"10.0.0.1", "10.0.0.3"}
    assert all(endpoint is before[endpoint.ip] for endpoint in after.endpoints)
    assert after.changes.base == 1
    assert authorities(after.changes.parked) == ["10.0.0.2:8080"]
    assert after.changes.used == after.changes.removed == ()


def test_managed_by_means_nothing():
    """Controller, mirrored and hand-made slices all count."""
    slices = [piece(f"s-{n}", [row(f"10.0.0.{n + 1}")]) for n in range(3)]
    slices[0]["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] = "endpointslice-controller.k8s.io"
    slices[1]["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] = (
        "endpointslicemirroring-controller.k8s.io"
    )
    assert len(used(*slices)) == 3


def test_unknown_is_not_empty():
    """No slice is an unknown service, a placeholder a known one without endpoints; the problems differ."""
    unknown, placeholder = seen(), seen(piece("a", [], ports=[]))
    assert (unknown.exists, placeholder.exists) == (False, True)
    assert "there is no Service reviews in namespace prod" in unknown.problem
    assert "no endpoints" in placeholder.problem
    assert seen(piece("a", None, ports=None)).exists


@pytest.mark.parametrize("first", ["old", "new"])
@pytest.mark.parametrize("by", ["time", "version"])
def test_one_pod_in_two_slices(first, by):
    """Of one uid the later trigger time counts, then the larger version, in both orders of arrival."""
    old_time, new_time = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000000001Z") if by == "time" else (None, None)
    old_version, new_version = (20, 10) if by == "time" else (9, 10)
    old = piece("z", [row("10.0.0.1", uid="u")], version=old_version, changed=old_time)
    new = piece("a", [row("10.0.0.1", uid="u", ready=False)], version=new_version, changed=new_time)
    snapshot = seen(*((old, new) if first == "old" else (new, old)))
    assert (snapshot.endpoints, authorities(snapshot.parked)) == ((), ["10.0.0.1:8080"])


def test_two_pods_at_one_address():
    """Of two uids the one that does not terminate counts, in both orders and however fresh the other is."""
    running = piece("a", [row("10.0.0.1", uid="new")], version=1, changed="2026-01-01T00:00:00Z")
    ending = piece("b", [row("10.0.0.1", uid="old", terminating=True)], version=9, changed="2026-01-01T00:00:09Z")
    for order in itertools.permutations([running, ending]):
        (endpoint,) = seen(*order).endpoints
        assert endpoint.uid == "new"


def test_host_network():
    """One address with two ports is two endpoints."""
    other = [{"name": "http", "port": 8081}]
    assert used(piece("a", [row("10.0.0.1")]), piece("b", [row("10.0.0.1")], ports=other)) == [
        "10.0.0.1:8080",
        "10.0.0.1:8081",
    ]


def test_a_move_between_slices_is_no_removal():
    """By default: removed here and added there 20 ms later, nothing is said, and the object is the same."""
    reducer = Reducer("reviews", "prod", "http")
    reducer.replace([wire(piece("a", [row("10.0.0.1"), row("10.0.0.2")]))], 0.0)
    before = reducer.snapshot(0.0)
    reducer.upsert(wire(piece("a", [row("10.0.0.1")])), 1.0)
    assert reducer.snapshot(1.0) is None
    assert reducer.due == pytest.approx(1.1)
    reducer.upsert(wire(piece("b", [row("10.0.0.2")])), 1.02)
    assert reducer.snapshot(1.02) is None
    assert reducer.due is None
    reducer.upsert(wire(piece("b", [row("10.0.0.2", ready=False)])), 1.03)
    assert reducer.snapshot(1.03).endpoints == before.endpoints[:1]


def test_an_absence_is_believed_in_the_end():
    """After the hold it is a removal, at exactly the time that was asked for."""
    reducer = make(piece("a", [row("10.0.0.1"), row("10.0.0.2")]), hold=0.1)
    reducer.snapshot(0.0)
    reducer.upsert(wire(piece("a", [row("10.0.0.1")])), 1.0)
    assert reducer.snapshot(1.09) is None
    gone = reducer.snapshot(reducer.due)
    assert authorities(gone.changes.removed) == ["10.0.0.2:8080"]


def test_without_a_hold_a_move_is_remove_and_add():
    """With debounce 0 every absence is told."""
    reducer = make(piece("a", [row("10.0.0.1"), row("10.0.0.2")]))
    reducer.snapshot(0)
    reducer.upsert(wire(piece("a", [row("10.0.0.1")])), 0)
    assert authorities(reducer.snapshot(0).changes.removed) == ["10.0.0.2:8080"]
    reducer.upsert(wire(piece("b", [row("10.0.0.2")])), 0)
    assert authorities(reducer.snapshot(0).changes.used) == ["10.0.0.2:8080"]


def test_a_deleted_service_is_held_too():
    """All slices vanish (a Service made anew): for 100 ms the endpoints stay, then it is unknown."""
    reducer = make(piece("a", [row("10.0.0.1")], version=1), hold=0.1)
    reducer.snapshot(0)
    reducer.delete(wire(piece("a", version=2)), 1.0)
    held = reducer.snapshot(1.0)
    assert held is None or (held.exists and held.endpoints)
    after = reducer.snapshot(1.2)
    assert (after.exists, after.endpoints) == (False, ())


def test_one_of_two_duplicates_goes():
    """The backend stays."""
    reducer = make(piece("a", [row("10.0.0.1", uid="u")], version=1), piece("b", [row("10.0.0.1", uid="u")], version=2))
    reducer.snapshot(0)
    reducer.delete(wire(piece("b", version=3)), 0)
    assert reducer.snapshot(0) is None
    reducer.delete(wire(piece("a", version=4)), 0)
    assert reducer.snapshot(0).endpoints == ()


def test_addresses():
    """An endpoint without addresses is skipped, of several the first counts."""
    two, none, null = row("10.0.0.1"), row("10.0.0.2"), row("10.0.0.3")
    two["addresses"].append("10.0.0.9")
    none["addresses"], null["addresses"] = [], None
    assert used(piece("a", [two, none, null])) == ["10.0.0.1:8080"]


def test_ipv6_texts():
    """Three ways to write one address are one backend, bracketed where it is dialled."""
    texts = ["fd00:0:0:0::1", "FD00::1", "fd00::0001"]
    assert used(*(piece(f"s-{n}", [row(text)], kind="IPv6") for n, text in enumerate(texts))) == ["[fd00::1]:8080"]


def test_nonsense_addresses():
    """An address that is none is skipped with a warning, one with leading zeros is read as Kubernetes does."""
    reducer = make(piece("a", [row("pod-1"), row("010.0.0.08"), row("10.0.0.1\x00")]))
    assert authorities(reducer.snapshot(0).endpoints) == ["10.0.0.8:8080"]
    assert len(reducer.skipped) == 2


def dual(four_ready=True, six_ready=True):
    return (
        piece("four", [row("10.0.0.1", uid="u", ready=four_ready)]),
        piece("six", [row("fd00::1", uid="u", ready=six_ready), row("fd00::2", uid="v", ready=six_ready)], kind="IPv6"),
    )


def test_one_family():
    """The first configured family with a ready endpoint is shown, and the other not even parked."""
    assert used(*dual()) == ["10.0.0.1:8080"]
    assert seen(*dual()).parked == ()
    assert used(*dual(), families=("IPv6", "IPv4")) == ["[fd00::1]:8080", "[fd00::2]:8080"]
    assert used(*dual(four_ready=False)) == ["[fd00::1]:8080", "[fd00::2]:8080"]
    assert used(*dual(), families=("IPv6",)) == ["[fd00::1]:8080", "[fd00::2]:8080"]
    with pytest.raises(ValueError, match="IPv5"):
        make(families=("IPv5",))


def test_families_joined():
    """Joined, a pod counts once, at the address of the preferred family."""
    assert used(*dual(), join=True) == ["10.0.0.1:8080", "[fd00::2]:8080"]
    assert used(*dual(four_ready=False), join=True) == ["[fd00::1]:8080", "[fd00::2]:8080"]
    reducer = make(*dual(), join=True)
    reducer.snapshot(0)
    assert reducer.snapshot(0) is None


def test_fqdn():
    """FQDN slices are ignored with one warning; where there is nothing else, the problem says so."""
    name = {"addresses": ["pods.example.com"]}
    reducer = make(piece("a", [name], kind="FQDN"), piece("b", [row("10.0.0.1")]), piece("a", [name], kind="FQDN"))
    assert authorities(reducer.snapshot(0).endpoints) == ["10.0.0.1:8080"]
    assert len(reducer.skipped) == 1
    alone = seen(piece("a", [name], kind="FQDN"))
    assert alone.exists
    assert "FQDN" in alone.problem


# -- ports


def test_port_by_name():
    """The number may differ by slice; a slice without the name contributes nothing."""
    slices = (
        piece("a", [row("10.0.0.1")]),
        piece("b", [row("10.0.0.2")], ports=[{"name": "http", "port": 9090}]),
        piece("c", [row("10.0.0.3")], ports=[{"name": "admin", "port": 7070}]),
    )
    snapshot = seen(*slices)
    assert authorities(snapshot.endpoints) == ["10.0.0.1:8080", "10.0.0.2:9090"]
    assert snapshot.ports == ("admin:7070", "http:8080", "http:9090")


def test_port_by_number():
    """The endpoint's number, in whatever slice and under whatever name."""
    slices = (piece("a", [row("10.0.0.1")]), piece("b", [row("10.0.0.2")], ports=[{"name": "x", "port": 9090}, HTTP]))
    assert used(*slices, port=8080) == ["10.0.0.1:8080", "10.0.0.2:8080"]
    assert used(*slices, port=9090) == ["10.0.0.2:9090"]


def test_no_port_given():
    """Enough while there is one name; with a second one an error names both, without it all is well again."""
    reducer = make(piece("a", [row("10.0.0.1")], version=1), port="")
    assert authorities(reducer.snapshot(0).endpoints) == ["10.0.0.1:8080"]
    reducer.upsert(wire(piece("b", [row("10.0.0.2")], ports=[{"name": "admin", "port": 7070}], version=2)), 0)
    ambiguous = reducer.snapshot(0)
    assert (ambiguous.endpoints, ambiguous.parked) == ((), ())
    assert "admin:7070, http:8080" in ambiguous.problem
    reducer.upsert(wire(piece("b", [row("10.0.0.2")], version=3)), 0)
    assert len(reducer.snapshot(0).endpoints) == 2


@pytest.mark.parametrize("port", ["grpc", 80])
def test_unknown_port(port):
    """A port that no slice has yields no endpoints and the list of those there are."""
    snapshot = seen(piece("a", [row("10.0.0.1")], ports=[HTTP, {"name": "admin", "port": 7070}]), port=port)
    assert (snapshot.endpoints, snapshot.exists) == ((), True)
    assert repr(port) in snapshot.problem
    assert "admin:7070, http:8080" in snapshot.problem
    assert "by its number" not in snapshot.problem


def test_a_port_that_is_a_number_only():
    """A Service with one port need not name it: then its number is what to ask for."""
    bare = piece("a", [row("10.0.0.1")], ports=[{"name": "", "port": 8080}])
    assert ": unnamed 8080 (one without a name is asked for by its number)" in seen(bare, port="http").problem
    assert "by its number" not in seen(bare, port=80).problem
    assert used(bare, port=8080) == ["10.0.0.1:8080"]


def test_nil_ports():
    """A nil name is "", a nil protocol TCP, a nil or zero number no port; nil lists raise nothing."""
    assert used(piece("a", [row("10.0.0.1")], ports=[{"port": 8080}]), port="") == ["10.0.0.1:8080"]
    assert used(piece("a", [row("10.0.0.1")], ports=[{"name": None, "protocol": None, "port": 8080}]), port=8080)
    for number in (None, 0, -1, 70000):
        assert used(piece("a", [row("10.0.0.1")], ports=[{"name": "http", "port": number}])) == []
    assert used(piece("a", None, ports=None)) == []
    assert used(piece("a", [row("10.0.0.1")], ports=None)) == []
    portless = seen(piece("a", [row("10.0.0.1")], ports=None)).problem
    assert "no TCP port" in portless
    assert "dns:///reviews.prod.svc.cluster.local:PORT" in portless


def test_udp_is_another_port():
    """A UDP port of the same name is not meant."""
    assert used(piece("a", [row("10.0.0.1")], ports=[UDP, HTTP])) == ["10.0.0.1:8080"]
    assert used(piece("a", [row("10.0.0.1")], ports=[UDP])) == []


def test_attributes():
    """Everything that a slice says of an endpoint reaches it unchanged; unknown fields are ignored."""
    full = row(
        "10.0.0.1",
        serving=True,
        terminating=False,
        uid="u",
        node="n",
        zone="z",
        zones=("a", "b"),
        nodes=("n",),
        hostname="web-0",
    )
    full["deprecatedTopology"] = {"x": "y"}
    (endpoint,) = seen(piece("a", [full], ports=[HTTP | {"appProtocol": "kubernetes.io/h2c"}])).endpoints
    assert endpoint._asdict() == {
        "ip": "10.0.0.1",
        "port": 8080,
        "uid": "u",
        "pod": "pod-u",
        "namespace": "prod",
        "kind": "Pod",
        "node": "n",
        "zone": "z",
        "hostname": "web-0",
        "weight": 1.0,
        "priority": 0,
        "ready": True,
        "serving": True,
        "terminating": False,
        "app_protocol": "kubernetes.io/h2c",
        "zone_hints": ("a", "b"),
        "node_hints": ("n",),
        "labels": (),
        "region": "",
        "cluster": "",
    }


# -- conditions and fallback


@pytest.mark.parametrize("conditions", list(itertools.product((None, True, False), repeat=3)))
def test_truth_table(conditions):
    """All 27 combinations, alone and beside a ready one."""
    ready, serving, terminating = conditions
    alone = used(piece("a", [row("10.0.0.1", ready=ready, serving=serving, terminating=terminating)]))
    is_ready, drains = ready is not False, serving is not False and terminating is True
    assert bool(alone) == (is_ready or drains)
    beside = used(piece("a", [row("10.0.0.1", ready=ready, serving=serving, terminating=terminating), row("10.0.0.2")]))
    assert ("10.0.0.1:8080" in beside) == is_ready


DRAINING = row("10.0.0.2", ready=False, serving=True, terminating=True, zones=("z2",))
ENDING = row("10.0.0.3", ready=False, serving=False, terminating=True)


def test_draining_beside_ready():
    """With a ready one there are no picks for one that is not ready and terminates; it is parked."""
    snapshot = seen(piece("a", [row("10.0.0.1"), DRAINING]))
    assert authorities(snapshot.endpoints) == ["10.0.0.1:8080"]
    assert authorities(snapshot.parked) == ["10.0.0.2:8080"]


def test_ready_and_terminating():
    """PublishNotReady makes such; kube-proxy uses them, avoid_terminating does not."""
    both = piece("a", [row("10.0.0.1"), row("10.0.0.2", ready=True, serving=True, terminating=True)])
    assert used(both) == ["10.0.0.1:8080", "10.0.0.2:8080"]
    assert used(both, view=View(avoid_terminating=True)) == ["10.0.0.1:8080"]


def test_fallback_and_back():
    """Without a ready one all that serve while terminating are used, hints ignored; one ready ends it."""
    reducer = make(piece("a", [DRAINING, ENDING], version=1), view=View(zone="z1"))
    assert authorities(reducer.snapshot(0).endpoints) == ["10.0.0.2:8080"]
    reducer.upsert(wire(piece("b", [row("10.0.0.1")], version=2)), 0)
    snapshot = reducer.snapshot(0)
    assert authorities(snapshot.endpoints) == ["10.0.0.1:8080"]
    assert authorities(snapshot.changes.parked) == ["10.0.0.2:8080"]


def test_never_one_that_does_not_serve():
    """Terminating and not serving is not picked even alone, and the problem counts it."""
    snapshot = seen(piece("a", [ENDING]))
    assert snapshot.endpoints == ()
    assert "none of the 1 endpoints" in snapshot.problem


def test_require_serving():
    """Ready and not serving is used by default and dropped on demand."""
    published = piece("a", [row("10.0.0.1", ready=True, serving=False)])
    assert used(published) == ["10.0.0.1:8080"]
    strict = seen(published, view=View(require_serving=True))
    assert strict.endpoints == ()
    assert "require_serving" in strict.problem


def test_draining_is_parked_then_removed():
    """Ready -> terminating is told as parked, absence as removed."""
    reducer = make(piece("a", [row("10.0.0.1"), row("10.0.0.2")], version=1))
    reducer.snapshot(0)
    reducer.upsert(wire(piece("a", [row("10.0.0.1"), DRAINING], version=2)), 0)
    assert authorities(reducer.snapshot(0).changes.parked) == ["10.0.0.2:8080"]
    reducer.upsert(wire(piece("a", [row("10.0.0.1")], version=3)), 0)
    assert authorities(reducer.snapshot(0).changes.removed) == ["10.0.0.2:8080"]


def test_a_new_uid_is_a_change():
    """The same address with another pod behind it is told, and is not the same endpoint."""
    reducer = make(piece("a", [row("10.0.0.1", uid="u")], version=1), hold=0.1)
    (before,) = reducer.snapshot(0).endpoints
    reducer.upsert(wire(piece("a", [row("10.0.0.1", uid="v")], version=2)), 0)
    (after,) = reducer.snapshot(0).changes.used
    assert not before.same_as(after)


# -- topology


def hinted(*zones, **more):
    return [row(f"10.0.0.{n + 1}", zones=[zone] if zone else (), **more) for n, zone in enumerate(zones)]


def test_node_hints():
    """All name nodes and one is mine: those; none mine: the zone rule."""
    rows = [row("10.0.0.1", nodes=["n1"], zones=["z1"]), row("10.0.0.2", nodes=["n2"], zones=["z2"])]
    assert used(piece("a", rows), view=View("n1", "z2")) == ["10.0.0.1:8080"]
    assert used(piece("a", rows), view=View("n9", "z2")) == ["10.0.0.2:8080"]


def test_zone_hints():
    """All name zones and one is mine: those; none mine or no zone known: all."""
    assert used(piece("a", hinted("z1", "z2")), view=View(zone="z1")) == ["10.0.0.1:8080"]
    assert len(used(piece("a", hinted("z1", "z2")), view=View(zone="z3"))) == 2
    assert len(used(piece("a", hinted("z1", "z2")))) == 2


def test_one_without_hints():
    """A ready one without hints switches them off, one that is not ready does not."""
    assert len(used(piece("a", hinted("z1", "z2", None)), view=View(zone="z1"))) == 3
    rows = [*hinted("z1", "z2"), row("10.0.0.9", ready=False)]
    assert used(piece("a", rows), view=View(zone="z1")) == ["10.0.0.1:8080"]


def test_hints_not_zones():
    """A hint for a zone that the endpoint is not in is obeyed."""
    assert used(piece("a", [row("10.0.0.1", zone="z2", zones=["z1"]), row("10.0.0.2", zone="z1", zones=["z2"])]),
                view=View(zone="z1")) == ["10.0.0.1:8080"]  # fmt: skip


def test_hints_by_family():
    """Hints of one family do not touch the other."""
    slices = (
        piece("four", hinted("z1", "z2")),
        piece("six", [row("fd00::1"), row("fd00::2")], kind="IPv6"),
    )
    assert used(*slices, view=View(zone="z1")) == ["10.0.0.1:8080"]
    assert len(used(*slices, view=View(zone="z1"), families=("IPv6",))) == 2
    assert len(used(*slices, view=View(zone="z1"), join=True)) == 3


def test_own_zone_is_learnt():
    """From any endpoint on the own node, learnt again if that changes, kept when it goes."""
    mine = row("10.0.0.1", node="n1", zone="z1", zones=["z1"])
    reducer = make(piece("a", [mine], version=1), piece("b", [row("10.0.0.2", zones=["z2"])]), view=View("n1"))
    assert authorities(reducer.snapshot(0).endpoints) == ["10.0.0.1:8080"]
    reducer.upsert(wire(piece("a", [mine | {"zone": "z2"}], version=2)), 0)
    assert authorities(reducer.snapshot(0).endpoints) == ["10.0.0.2:8080"]
    reducer.upsert(wire(piece("a", [row("10.0.0.1", node="n7", zone="z7", zones=["z1"])], version=3)), 0)
    reducer.snapshot(0)
    assert reducer.view.zone == "z2"


def test_a_given_zone_is_not_learnt():
    """What is configured stays."""
    assert make(piece("a", [row("10.0.0.1", node="n1", zone="z1")]), view=View("n1", "z9")).view.zone == "z9"


def test_local():
    """Local ready, else local draining, else a problem that counts the remote ones."""
    here, there = row("10.0.0.1", node="n1"), row("10.0.0.2", node="n2")
    ending = row("10.0.0.3", node="n1", ready=False, serving=True, terminating=True)
    view = View("n1", local=True)
    assert used(piece("a", [here, there, ending]), view=view) == ["10.0.0.1:8080"]
    assert used(piece("a", [there, ending]), view=view) == ["10.0.0.3:8080"]
    nothing = seen(piece("a", [there]), view=view)
    assert nothing.endpoints == ()
    assert "node n1" in nothing.problem
    assert "1 ready on other nodes" in nothing.problem
    assert "NODE_NAME" in seen(piece("a", [there]), view=View(local=True)).problem


# -- publishing


def test_nothing_before_the_first_list():
    """An unsynced reducer has no Snapshot, whatever events came."""
    reducer = Reducer("reviews", "prod", "http")
    reducer.upsert(wire(piece("a", [row("10.0.0.1")])), 0)
    assert reducer.snapshot(0) is None
    reducer.replace([wire(piece("a", [row("10.0.0.1")]))], 0)
    assert reducer.snapshot(0).changes is None


def test_a_relist_without_changes_says_nothing():
    """An equal list is no news, with slices and endpoints in whatever order; one change is one change."""
    slices = [piece(f"s-{n}", [row(ip) for ip in ips(10, 1 + 10 * n)], version=n + 1) for n in range(5)]
    reducer = make(*slices)
    before = reducer.snapshot(0)
    rng = random.Random(42)
    for each in slices:
        rng.shuffle(each["endpoints"])
    reducer.replace(map(wire, reversed(slices)), 0)
    assert reducer.snapshot(0) is None
    slices[2]["endpoints"][3]["conditions"]["ready"] = False
    reducer.replace(map(wire, slices), 0)
    after = reducer.snapshot(0)
    assert len(after.changes.parked) == 1
    assert {id(endpoint) for endpoint in after.endpoints} <= {id(endpoint) for endpoint in before.endpoints}


def test_a_relist_finds_what_was_deleted():
    """What is not in the list is gone."""
    reducer = make(piece("a", [row("10.0.0.1")]), piece("b", [row("10.0.0.2")]))
    reducer.snapshot(0)
    reducer.replace([wire(piece("b", [row("10.0.0.2")]))], 0)
    assert authorities(reducer.snapshot(0).changes.removed) == ["10.0.0.1:8080"]


def test_a_list_is_the_truth_about_versions():
    """After a restore the versions are smaller, and what the list says counts."""
    reducer = make(piece("a", [row("10.0.0.1")], version=900))
    reducer.replace([wire(piece("a", [row("10.0.0.2")], version=7))], 0)
    reducer.upsert(wire(piece("a", [row("10.0.0.3")], version=8)), 0)
    assert authorities(reducer.snapshot(0).endpoints) == ["10.0.0.3:8080"]


def test_versions_that_are_no_numbers():
    """What cannot be compared is believed."""
    reducer = make(piece("a", [row("10.0.0.1")], version="zz"), piece("a", [row("10.0.0.2")], version="aa"))
    assert authorities(reducer.snapshot(0).endpoints) == ["10.0.0.2:8080"]


def test_a_slice_changes_its_address_type():
    """Deleted and made anew under one name between two events: the old family lets go."""
    reducer = make(piece("a", [row("10.0.0.1")], version=1), piece("a", [row("fd00::1")], kind="IPv6", version=2))
    assert authorities(reducer.snapshot(0).endpoints) == ["[fd00::1]:8080"]


def test_a_change_of_view_alone_is_told():
    """A problem that changes without any endpoint changing is news with an empty hint."""
    reducer = make(piece("a", [], ports=[HTTP]), port="grpc")
    reducer.snapshot(0)
    reducer.upsert(wire(piece("a", [], ports=[HTTP, {"name": "x", "port": 1}])), 0)
    told = reducer.snapshot(0)
    assert told.ports == ("http:8080", "x:1")
    assert told.changes == (1, (), (), ())


def test_wide_slices():
    """A slice of 1000 endpoints is one line of 100 KB and more, and all of them count."""
    wide = piece("a", [row(ip, uid=f"u{n}", node="n", zone="z") for n, ip in enumerate(ips(1000))])
    assert len(json.dumps(wide)) > 100_000
    assert len(used(wide)) == 1000
