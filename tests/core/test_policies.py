"""Each policy: nobody starves, candidates are distinct, shares are what its rule says."""

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubelb.core import Balancer, EndpointState
from kubelb.core.events import Skipped
from kubelb.core.lease import Lease
from kubelb.core.members import Members
from kubelb.core.policies import REGISTRY, LeastRequest, PeakEwma, Picker, Policy, Random, RoundRobin, policy_from
from kubelb.model import ANY, Endpoint, Snapshot

from .kit import Rig, built, pod

POLICIES = list(REGISTRY)
EVEN = {"least_request", "random", "round_robin", "weighted_round_robin"}


def states(count: int) -> tuple[EndpointState, ...]:
    return tuple(EndpointState(pod(number), None) for number in range(count))


@pytest.mark.parametrize("name", POLICIES)
def test_a_name_stands_for_its_defaults(name: str) -> None:
    """The string is the name in snake_case; a policy stands for itself."""
    policy = policy_from(name)
    assert policy == REGISTRY[name]()
    assert policy_from(policy) is policy
    assert isinstance(policy, Policy)


def test_what_is_no_policy_is_refused_with_the_names_there_are() -> None:
    """An unknown name and an object without build both say what could be given."""
    with pytest.raises(ValueError, match=f"'fastest' is unknown; there are {', '.join(POLICIES)}"):
        policy_from("fastest")
    with pytest.raises(TypeError, match=r"build"):
        policy_from(object())  # type: ignore[arg-type]
    nothing = type("Nothing", (Policy,), {})()
    with pytest.raises(TypeError, match=r"Nothing has no build\(members, rng, before\)"):
        policy_from(nothing)
    with pytest.raises(TypeError, match=r"policy=RoundRobin is a class; give an object of it, RoundRobin\(\)"):
        policy_from(RoundRobin)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 17])
def test_nobody_starves_and_shares_are_even(name: str, count: int) -> None:
    """Equal endpoints, 6000 sequential requests, seed 11: each within half of its share, of most policies closer."""
    rig = Rig(count, name, seed=11)
    rig.picks(4 * count)  # peak EWMA: everybody has been tried
    seen = Counter(rig.picks(6000))
    fair = 6000 / count
    margin = 0.25 if name in EVEN else 0.5
    assert all(abs(times - fair) <= margin * fair for times in seen.values()), seen


@pytest.mark.parametrize("name", ["least_request", "peak_ewma"])
@pytest.mark.parametrize("count", [5, 9])
def test_two_candidates_are_distinct(name: str, count: int) -> None:
    """Drawn without replacement, the busiest of all is never chosen: there is always a lesser one beside it."""
    everyone = states(count)
    held = [Lease(everyone[0], 0.0) for _ in range(50)]
    for state in everyone:
        state.cost, state.stamp = 0.1, 0.0
    picker = built(policy_from(name), everyone, random.Random(3))
    assert all(picker.pick(ANY, 0.0) is not everyone[0] for _ in range(5000))
    del held


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_a_scan_finds_the_least_and_breaks_ties_at_random(loads: list[int]) -> None:
    """Up to four endpoints: always one with fewest in flight, and each of those comes up."""
    everyone = states(len(loads))
    held = [Lease(state, 0.0) for state, load in zip(everyone, loads, strict=True) for _ in range(load)]
    picker = built(LeastRequest(), everyone, random.Random(5))
    chosen = {picker.pick(ANY, 0.0) for _ in range(200)}
    assert chosen == {state for state, load in zip(everyone, loads, strict=True) if load == min(loads)}
    del held


def test_ties_are_broken_evenly_beside_a_busy_one() -> None:
    """With one of four busy the other three get a third each, within 10 %."""
    everyone = states(4)
    held = Lease(everyone[1], 0.0)
    picker = built(LeastRequest(), everyone, random.Random(5))
    seen = Counter(picker.pick(ANY, 0.0) for _ in range(9000))
    assert set(seen) == set(everyone) - {everyone[1]}
    assert all(abs(times - 3000) < 300 for times in seen.values())
    del held


def test_two_choices_spread_far_better_than_one() -> None:
    """1000 requests that stay, on 100 endpoints: the fullest holds at most 14 with two choices, more with one."""

    def fullest(policy: Policy) -> int:
        everyone = states(100)
        picker = built(policy, everyone, random.Random(9))
        held = [Lease(picker.pick(ANY, 0.0), 0.0) for _ in range(1000)]
        return max(Counter(id(lease.state) for lease in held).values())

    assert fullest(LeastRequest()) <= 14 < fullest(Random())


@given(st.integers(1, 60), st.integers(0, 10_000))
def test_round_robin_visits_everybody_once_a_round(count: int, seed: int) -> None:
    """Whatever the stride, `count` picks in a row are all different."""
    everyone = states(count)
    picker = built(RoundRobin(), everyone, random.Random(seed))
    for _ in range(3):
        assert {picker.pick(ANY, 0.0) for _ in range(count)} == set(everyone)


def test_round_robin_starts_anywhere() -> None:
    """Over 4000 builds each of eight endpoints is first in an eighth of them, within 20 %; so is the second."""
    everyone = states(8)
    rng = random.Random(17)
    first: Counter[EndpointState] = Counter()
    second: Counter[EndpointState] = Counter()
    for _ in range(4000):
        picker = built(RoundRobin(), everyone, rng)
        first[picker.pick(ANY, 0.0)] += 1
        second[picker.pick(ANY, 0.0)] += 1
    for seen in (first, second):
        assert len(seen) == 8
        assert all(abs(times - 500) < 100 for times in seen.values())


def test_a_policy_of_ones_own_is_one_small_class() -> None:
    """Policy and picker in one, if need be."""

    class Last(Policy, Picker):
        def build(self, members: Members, rng: random.Random, before: Picker | None = None) -> "Last":
            self.state = members.states[-1]
            return self

        def pick(self, request: object, now: float) -> EndpointState:
            return self.state

    rig = Rig(3, Last())
    assert rig.balancer.pick().endpoint == pod(2)


def test_a_policy_that_raises_is_replaced_by_chance_and_reported() -> None:
    """A broken build must not take the service down."""

    class Broken(Policy):
        def build(self, members: object, rng: object, before: object = None) -> Any:
            raise RuntimeError("no table today")

    rig = Rig(3, Broken())
    assert min(rig.picks(300).values()) > 50
    (event,) = rig.told(Skipped)
    assert "no table today" in event.reason


def test_a_policy_that_builds_no_picker_costs_it_its_turn_too() -> None:
    """A forgotten return would be an AttributeError of every request."""

    class Forgetful(Policy):
        def build(self, members: object, rng: object, before: object = None) -> None:  # type: ignore[override]
            """Make one, and keep it to itself."""

    rig = Rig(2, Forgetful())
    assert len(rig.picks(50)) == 2
    (event,) = rig.told(Skipped)
    assert "None has no pick(request, now); return a Picker" in event.reason


@pytest.mark.parametrize("name", POLICIES)
def test_the_same_seed_picks_the_same(name: str) -> None:
    """Chance is a parameter."""

    def run() -> list[str]:
        balancer = Balancer(name, rng=random.Random(42), clock=lambda: 5.0)
        balancer.update(Snapshot(1, tuple(Endpoint(f"10.0.0.{n}", 80) for n in range(7))))
        held = [balancer.pick() for _ in range(50)]
        return [lease.endpoint.ip for lease in held]

    assert run() == run()


def test_peak_ewma_refuses_what_is_no_duration() -> None:
    """The error names the option and what to give."""
    for options in ({"decay": 0.0}, {"failure_penalty": -1.0}, {"decay": float("inf")}, {"decay": float("nan")}):
        with pytest.raises(ValueError, match="positive number of seconds"):
            PeakEwma(**options)
