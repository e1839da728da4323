"""Topology hints whose endpoints all fail: followed no longer, and again when one of them answers."""

import socket
import time

import pytest
from tests.spelled import spelled

from kubelb import LoadBalancer
from kubelb.core.events import SpilledOver
from kubelb.discovery.kube.choose import View
from kubelb.discovery.kube.reducer import Reducer
from kubelb.discovery.kube.spill import LEAST, LOOK, Spill
from kubelb.testing import LocalCluster

from .build import piece, row, wire
from .test_stop import wait_for


class World:
    """A service of three zones, hinted to each; the caller is in zone a."""

    def __init__(self):
        self.answers = None
        self.reducer = Reducer("reviews", "prod", "http", view=View(node="n", zone="a"), hold=0.0)
        self.spill = Spill(lambda addresses: self.answers)

    def slices(self, *zones):
        rows = [row(f"10.0.0.{n}", zone=zone, hints={"forZones": [{"name": zone}]}) for n, zone in enumerate(zones)]
        self.reducer.replace([wire(piece("a", rows))], 0.0)

    def look(self, now):
        self.reducer.snapshot(now)
        left, _, due = self.spill.look(self.reducer, now)
        self.reducer.snapshot(now)
        return left, due

    @property
    def used(self):
        return len(self.reducer._last.endpoints)


def test_over_and_back():
    """Once a second traffic is asked; left for ten seconds at least."""
    world = World()
    world.slices("a", "b", "c")
    assert world.look(0.0) == (None, LOOK)
    assert world.used == 1
    world.answers = False
    assert world.look(0.5) == (None, LOOK)
    assert world.look(1.0) == (True, 1.0 + LOOK)
    assert world.used == 3
    world.answers = True
    assert world.look(5.0)[0] is None
    world.answers = None
    assert world.look(1.0 + LEAST)[0] is None
    world.answers = True
    assert world.look(2.0 + LEAST)[0] is False
    assert world.used == 1


def test_nothing_to_watch_over():
    """Where hints do not decide nobody is asked, and no time is due."""
    world = World()
    world.answers = False
    world.slices("b", "c")
    assert world.look(0.0) == (None, None)
    assert world.used == 2


class Balancer(LoadBalancer):
    def __init__(self, *args, **options):
        self.spills = []
        super().__init__(*args, **spelled(options))
        self.on_event(self._heard)

    def _heard(self, event):
        if isinstance(event, SpilledOver):
            self.spills.append(event.over)

    def ask(self):
        def connect(attempt):
            socket.create_connection((attempt.endpoint.ip, attempt.endpoint.port), timeout=2).close()

        try:
            self.call(connect)
        except OSError:
            return False
        return True


@pytest.mark.slow
@pytest.mark.parametrize("outliers", [True, False])
@pytest.mark.parametrize("hints", ["zone", "node"])
def test_the_only_pod_of_the_zone_is_dead_and_still_ready(hints, outliers):
    """The kind: hints send every request to nobody. The other zones' pods take over, told as an event."""
    with LocalCluster(lag=600) as cluster:
        svc = cluster.service("reviews.prod", replicas=3, zones=["zone-a", "zone-b", "zone-c"], hints=hints)
        options = {"kubeconfig": cluster.kubeconfig, "zone": "zone-a", "node": "zone-a-node"}
        if not outliers:
            options["outliers"] = None
        with Balancer("kube:///reviews.prod:http", **options) as lb:
            lb.wait_ready(20.0)
            assert [view.zone for view in lb.endpoints() if view.state != "elsewhere"] == ["zone-a"]
            assert lb.ask()
            svc[0].refuse()
            svc[0].close_connections(reset=True)
            wait_for(lambda: not lb.ask() or None, 20.0)
            wait_for(lambda: lb.ask() or None, 30.0)
            assert lb.spills == [True]
            assert len([view for view in lb.endpoints() if view.state == "elsewhere"]) == 0


@pytest.mark.slow
def test_strict_hints():
    """As kube-proxy does: the own zone, whatever becomes of it."""
    with LocalCluster(lag=600) as cluster:
        svc = cluster.service("reviews.prod", replicas=3, zones=["zone-a", "zone-b", "zone-c"], hints="zone")
        options = {"kubeconfig": cluster.kubeconfig, "zone": "zone-a", "strict_hints": True}
        with Balancer("kube:///reviews.prod:http", **options) as lb:
            lb.wait_ready(20.0)
            svc[0].refuse()
            until = time.monotonic() + 3
            while time.monotonic() < until:
                lb.ask()
                time.sleep(0.05)
            assert lb.spills == []
            assert not lb.ask()
