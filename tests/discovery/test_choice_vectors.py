"""Our choice is kube-proxy's, on its own answers and on many more random cases against the oracle."""

import gzip
import itertools
import json
import random
from pathlib import Path

import pytest

from kubelb.discovery.kube.choose import View
from kubelb.discovery.kube.reducer import Reducer

from .build import authorities, piece, row, wire
from .oracle import choose

VECTORS = Path(__file__).parent.parent / "data" / "kube-proxy-choices.jsonl.gz"


def load():
    with gzip.open(VECTORS) as lines:
        return [json.loads(line) for line in lines]


def orders(slices):
    """Every order where there are few slices, else twenty-four of them."""
    return itertools.islice(itertools.permutations(slices), 24)


@pytest.mark.slow
def test_kube_proxy_vectors_in_every_order():
    """All 2000 choices computed by kube-proxy's own code come out the same whatever slice arrives last."""
    cases = load()
    assert len(cases) == 2000
    for case in cases:
        view = View(case["Node"], case["Zone"], local=case["Policy"] == "Local")
        for slices in orders([wire(obj) for obj in case["Slices"]]):
            reducer = Reducer("svc", "ns", case["Port"], view=view, learn_zone=False, hold=0)
            reducer.replace([], 0)
            for each in slices:
                reducer.upsert(each, 0)
            assert authorities(reducer.snapshot(0).endpoints) == sorted(case["Expect"]), case


def test_oracle_agrees_with_kube_proxy():
    """The oracle of the random cases is itself right about kube-proxy's."""
    for case in load():
        used, _ = choose(
            case["Slices"], port=case["Port"], node=case["Node"], zone=case["Zone"], local=case["Policy"] == "Local"
        )
        assert sorted(used) == sorted(case["Expect"]), case


def random_slices(rng):
    """Few addresses, nodes and zones, so that everything collides."""
    tristate = (None, True, True, False)
    zones, nodes = ("z1", "z2", "z3"), ("n1", "n2", "n3")
    all_zones, all_nodes = rng.random() < 0.6, rng.random() < 0.4
    slices = []
    for number in range(rng.randint(1, 4)):
        rows = [
            row(
                f"10.244.0.{rng.randint(1, 8)}",
                ready=rng.choice(tristate),
                serving=rng.choice(tristate),
                terminating=rng.choice((None, False, False, True)),
                uid=rng.choice((None, "a", "b", "c")),
                node=rng.choice((None, *nodes)),
                zone=rng.choice((None, *zones)),
                zones=rng.sample(zones, rng.randint(1, 2)) if all_zones or rng.random() < 0.2 else (),
                nodes=rng.sample(nodes, 1) if all_nodes or rng.random() < 0.2 else (),
            )
            for _ in range(rng.randint(0, 5))
        ]
        ports = rng.choice(
            (
                [{"name": "http", "port": 8080}],
                [{"name": "http", "port": 9090, "protocol": "TCP"}, {"name": "admin", "port": 7070}],
                [{"name": "http", "port": 8080, "protocol": "UDP"}, {"name": "http", "port": 8081}],
                [{"name": "admin", "port": 7070}],
            )
        )
        slices.append(
            piece(
                f"s-{number}",
                {each["addresses"][0]: each for each in rows}.values(),
                ports=ports,
                version=rng.randint(1, 50),
                changed=rng.choice((None, "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z")),
            )
        )
    return slices


@pytest.mark.slow
def test_random_cases_against_the_oracle():
    """10 000 random services, options and orders: used and parked are what the oracle says."""
    rng = random.Random(38)
    for _ in range(10_000):
        slices = random_slices(rng)
        options = {
            "node": rng.choice(("n1", "n2", "", "n9")),
            "zone": rng.choice(("z1", "z2", "", "z9")),
            "local": rng.random() < 0.3,
            "require_serving": rng.random() < 0.3,
            "avoid_terminating": rng.random() < 0.3,
        }
        port = rng.choice(("http", "http", 8080, "admin"))
        used, parked = choose(slices, port=port, **options)
        reducer = Reducer("reviews", "prod", port, view=View(**options), learn_zone=False, hold=0)
        arriving = rng.sample(slices, len(slices))
        cut = rng.randint(0, len(slices))
        reducer.replace(map(wire, arriving[:cut]), 0)
        for each in arriving[cut:]:
            reducer.upsert(wire(each), 0)
        snapshot = reducer.snapshot(0)
        assert authorities(snapshot.endpoints) == sorted(used), (slices, options)
        assert authorities(snapshot.parked) == sorted(parked), (slices, options)
        assert bool(snapshot.problem) == (not used)
