"""The own zone: learnt once, known to all; and where nobody knows it and it matters, that is told."""

import gc
import os
import signal
import threading
from types import SimpleNamespace

from discovery.build import piece, row, wire
from kubelb.core.events import Skipped
from kubelb.discovery.kube import places
from kubelb.discovery.kube import source as source_module
from kubelb.discovery.kube.access import Access, Given
from kubelb.discovery.kube.choose import View
from kubelb.discovery.kube.reducer import Reducer
from kubelb.discovery.kube.source import PLACING, KubeDiscovery
from kubelb.runtime import fork  # noqa: F401 - every load balancer loads it; it looks after forks
from kubelb.target import parse_target

HINTED = [row(f"10.0.0.{n}", node=f"n{n}", zone=zone, zones=[zone]) for n, zone in enumerate("abc", 1)]


class World:
    """Services of one cluster, seen from one node; no stream runs, the tests are the stream."""

    def __init__(self, server="https://places.test"):
        self.now, self.told, self.notified = 0.0, [], []
        self.access = Given(Access(server))

    def service(self, name="reviews", node="n9", **options):
        source = KubeDiscovery(
            parse_target(f"kube:///{name}.prod:http"),
            access=self.access,
            node=node,
            clock=lambda: self.now,
            emit=self.told.append,
            **options,
        )
        source._notify = lambda: self.notified.append(name)
        return source

    def hears(self, source, rows, name="reviews"):
        source.replace([wire(piece(f"{name}-1", rows, service=name))])
        return self.used(source)

    def used(self, source):
        snapshot, self.due = source.poll(self.now)
        return None if snapshot is None else [endpoint.ip for endpoint in snapshot.endpoints]


def test_what_one_service_learns_all_know():
    """The kind: a service without a pod on the own node spreads over all zones, while another one knows the zone."""
    world = World("https://one.test")
    reviews, other = world.service(), world.service("other")
    assert world.hears(reviews, HINTED) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert world.hears(other, [row("10.0.1.1", node="n9", zone="b")], "other") == ["10.0.1.1"]
    assert world.notified[-1] == "reviews"
    assert world.used(reviews) == ["10.0.0.2"]
    late = world.service("late")
    assert world.hears(late, HINTED, "late") == ["10.0.0.2"]


def test_other_clusters_and_nodes_are_not_told():
    """A node's name means something in one cluster only."""
    world, elsewhere = World("https://two.test"), World("https://three.test")
    here, there, neighbour = world.service(), elsewhere.service(), world.service(node="n8")
    for each in (there, neighbour):
        world.hears(each, HINTED)
    world.hears(here, [row("10.0.1.1", node="n9", zone="b")])
    assert world.used(there) is None
    assert world.used(neighbour) is None


def test_what_was_given_stays():
    """A zone from the options or the environment is not overruled by what others see."""
    world = World("https://four.test")
    given = world.service(zone="c")
    assert world.hears(given, HINTED) == ["10.0.0.3"]
    world.hears(world.service("other"), [row("10.0.1.1", node="n9", zone="b")], "other")
    assert world.used(given) is None


def test_own_slices_count_before_others():
    """Two services that disagree each go by their own, and do not tell each other for ever."""
    reducer = Reducer("reviews", "prod", "http", view=View("n1"))
    reducer.replace([wire(piece("a", HINTED))], 0.0)
    assert reducer.seen_zone == "a"
    reducer.learn("b")
    assert reducer.view.zone == "a"
    reducer.replace([wire(piece("a", HINTED[1:]))], 1.0)
    assert (reducer.seen_zone, reducer.view.zone) == ("", "a")
    reducer.learn("b")
    assert reducer.view.zone == "b"


def test_unknown_zone_is_told_once():
    """In health at once, in one line after some seconds: another service may be about to learn it."""
    world = World("https://five.test")
    source = world.service(node="")
    world.hears(source, HINTED)
    assert "the zone of this process is unknown" in source.health().error
    assert "KUBELB_ZONE" in source.health().cure
    assert "metadata.labels['topology.kubernetes.io/zone']" in source.health().cure
    assert (world.told, world.due) == ([], PLACING)
    for world.now in (PLACING - 1, PLACING, PLACING + 1, PLACING + 100):
        world.used(source)
    (event,) = world.told
    assert isinstance(event, Skipped)
    assert "KUBELB_ZONE" in event.reason


def test_nothing_is_told_where_it_does_not_matter():
    """Without hints, with one endpoint that has none, with a known zone, with traffic_policy="Local"."""
    world = World("https://six.test")
    for name, rows, options in (
        ("plain", [row("10.0.0.1", zone="a")], {}),
        ("mixed", [*HINTED, row("10.0.0.9")], {}),
        ("known", HINTED, {"zone": "a"}),
        ("local", HINTED, {"traffic_policy": "Local"}),
    ):
        source = world.service(name, **options)
        world.hears(source, rows, name)
        assert "zone" not in source.health().error
        world.now += 2 * PLACING
        world.used(source)
    assert world.told == []


def test_it_ends_when_the_zone_becomes_known():
    """Health is well again."""
    world = World("https://seven.test")
    source = world.service()
    world.hears(source, HINTED)
    world.hears(world.service("other"), [row("10.0.1.1", node="n9", zone="b")], "other")
    world.used(source)
    assert source.health().error == ""


def test_a_load_balancer_that_is_gone_is_not_kept():
    """The registry holds nobody alive."""
    world = World("https://eight.test")
    before = len(places._listeners)
    source = world.service()
    assert len(places._listeners) == before + 1
    del source
    gc.collect()
    assert len(places._listeners) <= before


def test_a_fork_while_a_service_starts():
    """The kind: a child tells what it learns to a service whose lock is held by a thread that is the parent's.

    One that starts in the child is told again."""
    world = World("https://nine.test")
    starting, restarted = world.service("starting"), world.service("restarted")
    held, go = threading.Event(), threading.Event()

    def start():
        with starting._lock:
            held.set()
            go.wait(30)

    thread = threading.Thread(target=start, daemon=True)
    thread.start()
    assert held.wait(5)
    child = os.fork()
    if child == 0:
        signal.alarm(10)  # ends it, and not well, where it waits
        try:
            places.tell(restarted._place, "b")
            places.join(restarted._place, restarted)
            places.tell(restarted._place, "c")
            os._exit(0 if restarted._reducer.view.zone == "c" and len(places._listeners) == 1 else 3)
        finally:
            os._exit(4)
    go.set()
    thread.join(5)
    assert os.waitpid(child, 0)[1] == 0


def test_a_service_that_starts_joins_again(monkeypatch):
    """After a fork; and it is told what others learnt meanwhile."""
    world = World("https://ten.test")
    source, other = world.service(), world.service("other")
    places.after_fork_in_child()
    places.tell(source._place, "b")
    assert source._reducer.view.zone == ""
    monkeypatch.setattr(source_module, "subscribe", lambda *args: SimpleNamespace(join=lambda: None))
    source.start(lambda: None)
    assert source._reducer.view.zone == "b"
    places.tell(source._place, "c")
    assert (source._reducer.view.zone, other._reducer.view.zone) == ("c", "")
