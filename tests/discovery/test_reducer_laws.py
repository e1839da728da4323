"""Laws of the reducer: after any sequence of events it holds what one built from scratch holds, and what it says it
changed is what changed."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubelb.discovery.kube.choose import View
from kubelb.discovery.kube.reducer import Reducer

from .build import piece, row, wire
from .oracle import choose
from .test_choice_vectors import random_slices

OPTIONS = {"node": "n1", "zone": "z1"}


def applied(previous, changes):
    """The snapshot that a reader gets who trusts the hint."""
    used, parked = (
        {endpoint.address: endpoint for endpoint in previous.endpoints},
        {endpoint.address: endpoint for endpoint in previous.parked},
    )
    for endpoint in changes.removed:
        used.pop(endpoint.address, None)
        parked.pop(endpoint.address, None)
    for endpoint in changes.used:
        parked.pop(endpoint.address, None)
        used[endpoint.address] = endpoint
    for endpoint in changes.parked:
        used.pop(endpoint.address, None)
        parked[endpoint.address] = endpoint
    return used, parked


def as_dicts(snapshot):
    return (
        {endpoint.address: endpoint for endpoint in snapshot.endpoints},
        {endpoint.address: endpoint for endpoint in snapshot.parked},
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 25), hold=st.sampled_from((0.0, 0.1)))
def test_incremental_is_from_scratch_is_oracle(seed, steps, hold):
    """Any run of upserts, deletes and lists ends where a fresh reducer and the oracle are, and every hint is exact."""
    rng = random.Random(seed)
    view = View(**OPTIONS)
    reducer = Reducer("reviews", "prod", "http", view=view, learn_zone=False, hold=hold)
    reducer.replace([], 0.0)
    state, version, now, last = {}, 100, 0.0, reducer.snapshot(0.0)
    for _ in range(steps):
        now += rng.choice((0.0, 0.01, 0.2))
        version += 1
        act = rng.random()
        if act < 0.6 or not state:
            obj = rng.choice(random_slices(rng))
            obj["metadata"]["resourceVersion"] = str(version)
            state[obj["metadata"]["name"]] = obj
            reducer.upsert(wire(obj), now)
        elif act < 0.8:
            obj = state.pop(rng.choice(sorted(state)))
            obj["metadata"]["resourceVersion"] = str(version)
            reducer.delete(wire(obj), now)
        else:
            state = {obj["metadata"]["name"]: obj for obj in random_slices(rng)}
            reducer.replace(map(wire, rng.sample(list(state.values()), len(state))), now)
        if rng.random() < 0.5:
            last = check_hint(reducer, now, last)
    last = check_hint(reducer, now + 1.0, last)
    last = check_hint(reducer, now + 2.0, last)

    scratch = Reducer("reviews", "prod", "http", view=view, learn_zone=False, hold=hold)
    scratch.replace(map(wire, state.values()), 0.0)
    fresh = scratch.snapshot(0.0)
    assert as_dicts(fresh) == as_dicts(last)
    assert (fresh.exists, fresh.ports, fresh.problem) == (last.exists, last.ports, last.problem)
    used, parked = choose(list(state.values()), port="http", **OPTIONS)
    assert {endpoint.authority for endpoint in last.endpoints} == used
    assert {endpoint.authority for endpoint in last.parked} == parked


def check_hint(reducer, now, last):
    snapshot = reducer.snapshot(now)
    if snapshot is None:
        return last
    assert snapshot.version == last.version + 1
    assert len(set(snapshot.endpoints) | set(snapshot.parked)) == len(snapshot.endpoints) + len(snapshot.parked)
    if snapshot.changes is not None:
        assert snapshot.changes.base == last.version
        assert applied(last, snapshot.changes) == as_dicts(snapshot)
        told = {*snapshot.changes.used, *snapshot.changes.parked}
        before = {(endpoint, True) for endpoint in last.endpoints} | {(endpoint, False) for endpoint in last.parked}
        after = {(endpoint, True) for endpoint in snapshot.endpoints} | {(e, False) for e in snapshot.parked}
        assert told == {endpoint for endpoint, _ in after - before}
    return snapshot


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_order_of_arrival_means_nothing(seed):
    """The same slices in two orders give equal Snapshots, the order of their endpoints included."""
    rng = random.Random(seed)
    slices = random_slices(rng)
    both = []
    for _ in range(2):
        rng.shuffle(slices)
        reducer = Reducer("reviews", "prod", "http", view=View(**OPTIONS), learn_zone=False)
        reducer.replace([], 0)
        for obj in slices:
            reducer.upsert(wire(obj), 0)
        both.append(reducer.snapshot(0))
    assert both[0] == both[1]


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_replayed_and_reordered_events_leave_the_newest(seed):
    """Events duplicated and shuffled end with the newest version of each slice, deletions included."""
    rng = random.Random(seed)
    events, final = [], {}
    for version in range(10, 10 + rng.randint(1, 12)):
        name = f"s-{rng.randint(0, 2)}"
        if name in final and rng.random() < 0.3:
            del final[name]
            events.append(("DELETED", piece(name, version=version)))
        else:
            final[name] = piece(name, [row(f"10.0.{name[-1]}.{version}")], version=version)
            events.append(("ADDED", final[name]))
    events += rng.choices(events, k=5)
    rng.shuffle(events)
    reducer = Reducer("reviews", "prod", "http", hold=0)
    reducer.replace([], 0)
    for kind, obj in events:
        (reducer.delete if kind == "DELETED" else reducer.upsert)(wire(obj), 0)
    got = {endpoint.ip for endpoint in (reducer.snapshot(0) or pytest.fail("no snapshot")).endpoints}
    assert got == {obj["endpoints"][0]["addresses"][0] for obj in final.values()}
