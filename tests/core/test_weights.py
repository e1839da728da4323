"""Weights: what is no share of anything counts as the mean of the others, and is told."""

import math
from collections import Counter
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubelb.core import EndpointState
from kubelb.core.events import Skipped
from kubelb.core.policies import RoundRobin, WeightedRoundRobin
from kubelb.core.policies.round_robin import RoundRobinPicker
from kubelb.core.policies.weighted_round_robin import FULL, StridePicker
from kubelb.core.policies.weights import weights_of
from kubelb.model import ANY

from .kit import Rig, built, pod

STRANGE: list[Any] = [0.0, -0.0, -1.0, math.nan, math.inf, -math.inf, "3", None]


def states(*weights: float) -> tuple[EndpointState, ...]:
    return tuple(EndpointState(pod(number, weight=weight), None) for number, weight in enumerate(weights))


def served(everyone: tuple[EndpointState, ...], picks: int, seed: int = 5) -> list[int]:
    """Return how often each is picked."""
    picker = built(WeightedRoundRobin(), everyone, Random(seed))
    seen = Counter(picker.pick(ANY, 0.0) for _ in range(picks))
    return [seen[state] for state in everyone]


@pytest.mark.parametrize("strange", STRANGE)
def test_a_strange_weight_counts_as_the_mean_of_the_others(strange: Any) -> None:
    """So it serves; where all are strange, all count the same."""
    assert weights_of(states(4.0, strange, 2.0)) == [1.0, 0.75, 0.5]
    assert weights_of(states(strange, 3.0)) == [1.0, 1.0]
    assert weights_of(states(strange, strange)) == [1.0, 1.0]


@given(st.lists(st.floats(), min_size=1, max_size=20))
def test_whatever_they_are_weights_are_shares(weights: list[float]) -> None:
    """Positive, finite, none above 1; and a picker serves by them without raising."""
    assert all(0 < weight <= 1 for weight in weights_of(states(*weights)))
    assert sum(served(states(*weights), 50)) == 50


@pytest.mark.parametrize("strange", [-1.0, math.nan, math.inf, "3", None])
def test_it_is_told_with_value_and_cure(strange: Any) -> None:
    """Once, when the endpoint comes into use; zero, which DNS may say, is nothing to tell."""
    rig = Rig(0, "weighted_round_robin")
    rig.set((pod(0, weight=strange), pod(1, weight=0.0), pod(2)))
    (event,) = rig.told(Skipped)
    assert event.what == f"weight={strange!r} of 10.0.0.0:80"
    assert "give a positive number" in event.reason
    rig.set((pod(0, weight=strange), pod(1, weight=0.0), pod(2), pod(3)))
    assert len(rig.told(Skipped)) == 1
    assert min(rig.picks(400).values()) > 0


@given(st.lists(st.integers(1, 50), min_size=2, max_size=12), st.integers(0, 10_000))
def test_everybody_is_served_by_weight(weights: list[int], seed: int) -> None:
    """Over 4000 picks each is within 1 % of all of its share and two turns: the schedule is no lottery."""
    everyone = states(*weights)
    for times, weight in zip(served(everyone, 4000, seed), weights, strict=True):
        assert abs(times - 4000 * weight / sum(weights)) <= 4


def test_turns_are_evenly_spaced() -> None:
    """One of weight 1 beside one of weight 9 comes every ninth to eleventh time, never twice in a row."""
    heavy, light = states(9.0, 1.0)
    picker = built(WeightedRoundRobin(), (heavy, light), Random(5))
    turns = [number for number in range(5000) if picker.pick(ANY, 0.0) is light]
    assert len(turns) in range(499, 502)
    assert {later - sooner for sooner, later in pairwise(turns)} <= {9, 10, 11}


@pytest.mark.parametrize("heavy", [2.0, 100.0, 1e6, 1e300])
def test_a_pick_looks_at_few_places_however_unequal_weights_are(heavy: float) -> None:
    """At most two in the mean: the heaviest of 300 stands in as many places as it has means of weight."""
    picker = built(WeightedRoundRobin(), states(heavy, *[1.0] * 299), Random(5))
    assert isinstance(picker, StridePicker)
    first = picker._next()
    for _ in range(3000):
        picker.pick(ANY, 0.0)
    assert picker._next() - first <= 2.05 * 3000
    assert len(picker._places) <= 600
    assert all(1 <= weight <= FULL for weight in picker._weights)


def test_equal_weights_are_round_robin() -> None:
    """The plain one, which is cheaper."""
    picker = built(WeightedRoundRobin(), states(3.0, 3.0, 0.0), Random(5))
    assert isinstance(picker, RoundRobinPicker)
    assert type(picker) is type(built(RoundRobin(), states(1.0), Random(5)))


def test_workers_do_not_walk_in_step() -> None:
    """Of 2000 that start together each of five endpoints is first for its share, within a half; so it is second."""
    everyone = states(1.0, 2.0, 3.0, 4.0, 5.0)
    rng = Random(3)
    first: Counter[EndpointState] = Counter()
    second: Counter[EndpointState] = Counter()
    for _ in range(2000):
        picker = built(WeightedRoundRobin(), everyone, rng)
        first[picker.pick(ANY, 0.0)] += 1
        second[picker.pick(ANY, 0.0)] += 1
    for seen in (first, second):
        for state in everyone:
            fair = 2000 * state.endpoint.weight / 15
            assert abs(seen[state] - fair) <= 0.5 * fair


def test_a_newcomer_starts_slowly_whatever_its_weight() -> None:
    """Slow start gives it a tenth of its own share, half of it halfway."""
    rig = Rig(0, "weighted_round_robin")
    old = tuple(pod(number, weight=1.0) for number in range(3))
    rig.set(old)
    rig.set((*old, pod(3, weight=3.0)))
    assert 0.03 < rig.picks(4000)["10.0.0.3"] / 4000 < 0.07
    rig.clock.advance(15)
    assert 0.22 < rig.picks(4000)["10.0.0.3"] / 4000 < 0.28
    rig.clock.advance(15)
    assert rig.picks(4000)["10.0.0.3"] in range(1998, 2003)


def test_a_weight_that_changes_counts_from_the_next_snapshot_on() -> None:
    """The endpoint stays the same one."""
    rig = Rig(2, "weighted_round_robin")
    state = rig.state(0)
    rig.set((pod(0, weight=3.0), pod(1)))
    assert rig.state(0) is state
    assert rig.picks(400) == {"10.0.0.0": 300, "10.0.0.1": 100}
