"""What each policy gives each endpoint, as figures: 3000 picks in each of some situations, with a seed.

A change that is not meant to alter what is picked leaves these as they are. They were measured, and are no promise; the
tolerance is five standard deviations of chance.
"""

import itertools
from collections.abc import Callable, Iterator

import pytest

from kubelb.core import EndpointState
from kubelb.core.policies import RingHash
from kubelb.model import ANY, Outcome, Request, Verdict

from .kit import Rig, pods

PICKS = 3000
NEAR = 0.045
REFUSAL = Outcome(refusal=True, reason="404")


def rig(policy: str, count: int) -> Rig:
    made = Rig(count, RingHash(balance_factor=None) if policy == "ring_hash" else policy, seed=3)
    for state in made.balancer.states():  # one alike the other, so that shares are chance and no history
        state.cost, state.stamp = 0.1, made.clock()
    return made


def plain(policy: str) -> Rig:
    return rig(policy, 5)


def ejected(policy: str) -> Rig:
    made = rig(policy, 5)
    made.eject(1)
    return made


def resting(policy: str) -> Rig:
    made = rig(policy, 5)
    made.lease(2).release(Outcome(Verdict.FULL, retryable=True, retry_after=30.0))
    return made


def newcomer(policy: str) -> Rig:
    made = rig(policy, 4)
    made.clock.advance(60)
    made.set(pods(5))
    made.clock.advance(15)
    for state in made.balancer.states():
        state.cost, state.stamp = 0.1, made.clock()
    return made


def bounded(policy: str) -> Rig:
    made = rig(policy, 3)
    for _ in range(100):
        for number in (1, 2):
            made.lease(number).release()
        made.lease(0).release(REFUSAL)
    for state in made.balancer.states():
        state.cost, state.stamp = 0.1, made.clock()
    return made


def keys() -> Iterator[Request]:
    return itertools.cycle([Request(key=f"k{number}") for number in range(1000)])


def first(made: Rig, request: Request) -> EndpointState:
    return made.balancer.pick(request).state


def second(made: Rig, request: Request) -> EndpointState:
    """Another one than number 1, which was tried."""
    return made.balancer.pick(request, (made.state(1),)).state


def usable(made: Rig, request: Request) -> EndpointState:
    """One of two that the caller can use."""
    able = made.state(0), made.state(2)
    return made.balancer.pick(request, (), able.__contains__).state


def shares(made: Rig, choose: Callable[[Rig, Request], EndpointState], keyed: bool) -> list[float]:
    requests = keys() if keyed else itertools.repeat(ANY)
    seen = dict.fromkeys(made.balancer.states(), 0)
    for request, _ in zip(requests, range(PICKS), strict=False):
        seen[choose(made, request)] += 1
        for state in seen:
            state.leases.clear()
    return [round(count / PICKS, 3) for count in seen.values()]


FIGURES: dict[tuple[str, str], tuple[list[float], list[float], list[float]]] = {
    ("random", "plain"): ([0.2, 0.2, 0.2, 0.2, 0.2], [0.25, 0.0, 0.25, 0.25, 0.25], [0.5, 0.0, 0.5, 0.0, 0.0]),
    ("random", "ejected"): ([0.25, 0.0, 0.25, 0.25, 0.25], [0.25, 0.0, 0.25, 0.25, 0.25], [0.5, 0.0, 0.5, 0.0, 0.0]),
    ("random", "resting"): ([0.25, 0.25, 0.0, 0.25, 0.25], [0.33, 0.0, 0.0, 0.33, 0.34], [1.0, 0.0, 0.0, 0.0, 0.0]),
    ("random", "newcomer"): ([0.22, 0.23, 0.23, 0.22, 0.1], [0.29, 0.0, 0.29, 0.29, 0.13], [0.5, 0.0, 0.5, 0.0, 0.0]),
    ("round_robin", "plain"): ([0.2, 0.2, 0.2, 0.2, 0.2], [0.25, 0.0, 0.25, 0.25, 0.25], [0.5, 0.0, 0.5, 0.0, 0.0]),
    ("round_robin", "ejected"): (
        [0.25, 0.0, 0.25, 0.25, 0.25],
        [0.25, 0.0, 0.25, 0.25, 0.25],
        [0.5, 0.0, 0.5, 0.0, 0.0],
    ),
    ("round_robin", "resting"): (
        [0.25, 0.25, 0.0, 0.25, 0.25],
        [0.33, 0.0, 0.0, 0.33, 0.33],
        [1.0, 0.0, 0.0, 0.0, 0.0],
    ),
    ("round_robin", "newcomer"): (
        [0.23, 0.23, 0.23, 0.23, 0.1],
        [0.29, 0.0, 0.29, 0.29, 0.13],
        [0.5, 0.0, 0.5, 0.0, 0.0],
    ),
    ("weighted_round_robin", "plain"): (
        [0.2, 0.2, 0.2, 0.2, 0.2],
        [0.25, 0.0, 0.25, 0.25, 0.25],
        [0.5, 0.0, 0.5, 0.0, 0.0],
    ),
    ("weighted_round_robin", "ejected"): (
        [0.25, 0.0, 0.25, 0.25, 0.25],
        [0.25, 0.0, 0.25, 0.25, 0.25],
        [0.5, 0.0, 0.5, 0.0, 0.0],
    ),
    ("weighted_round_robin", "resting"): (
        [0.25, 0.25, 0.0, 0.25, 0.25],
        [0.33, 0.0, 0.0, 0.33, 0.33],
        [1.0, 0.0, 0.0, 0.0, 0.0],
    ),
    ("weighted_round_robin", "newcomer"): (
        [0.23, 0.23, 0.23, 0.23, 0.1],
        [0.29, 0.0, 0.29, 0.29, 0.13],
        [0.5, 0.0, 0.5, 0.0, 0.0],
    ),
    ("least_request", "plain"): ([0.2, 0.2, 0.2, 0.2, 0.2], [0.25, 0.0, 0.25, 0.25, 0.25], [0.5, 0.0, 0.5, 0.0, 0.0]),
    ("least_request", "ejected"): (
        [0.25, 0.0, 0.25, 0.25, 0.25],
        [0.25, 0.0, 0.25, 0.25, 0.25],
        [0.5, 0.0, 0.5, 0.0, 0.0],
    ),
    ("least_request", "resting"): (
        [0.25, 0.25, 0.0, 0.25, 0.25],
        [0.33, 0.0, 0.0, 0.33, 0.33],
        [1.0, 0.0, 0.0, 0.0, 0.0],
    ),
    ("least_request", "newcomer"): (
        [0.23, 0.23, 0.22, 0.23, 0.1],
        [0.29, 0.0, 0.29, 0.29, 0.12],
        [0.5, 0.0, 0.5, 0.0, 0.0],
    ),
    ("least_request", "bounded"): ([0.32, 0.34, 0.34], [0.33, 0.0, 0.67], [0.45, 0.0, 0.55]),
    ("peak_ewma", "plain"): ([0.2, 0.2, 0.2, 0.2, 0.2], [0.25, 0.0, 0.25, 0.25, 0.25], [0.5, 0.0, 0.5, 0.0, 0.0]),
    ("peak_ewma", "ejected"): ([0.25, 0.0, 0.25, 0.25, 0.25], [0.25, 0.0, 0.25, 0.25, 0.25], [0.5, 0.0, 0.5, 0.0, 0.0]),
    ("peak_ewma", "resting"): ([0.25, 0.25, 0.0, 0.25, 0.25], [0.33, 0.0, 0.0, 0.33, 0.34], [1.0, 0.0, 0.0, 0.0, 0.0]),
    ("peak_ewma", "newcomer"): (
        [0.23, 0.23, 0.22, 0.22, 0.1],
        [0.29, 0.0, 0.3, 0.28, 0.13],
        [0.51, 0.0, 0.49, 0.0, 0.0],
    ),
    ("peak_ewma", "bounded"): ([0.32, 0.34, 0.34], [0.33, 0.0, 0.67], [0.45, 0.0, 0.55]),
    ("ring_hash", "plain"): ([0.21, 0.2, 0.17, 0.2, 0.21], [0.25, 0.0, 0.25, 0.24, 0.26], [0.54, 0.0, 0.47, 0.0, 0.0]),
    ("ring_hash", "ejected"): (
        [0.25, 0.0, 0.25, 0.24, 0.26],
        [0.25, 0.0, 0.25, 0.24, 0.26],
        [0.54, 0.0, 0.47, 0.0, 0.0],
    ),
    ("ring_hash", "resting"): ([0.26, 0.23, 0.0, 0.25, 0.26], [0.33, 0.0, 0.0, 0.33, 0.35], [1.0, 0.0, 0.0, 0.0, 0.0]),
    ("ring_hash", "newcomer"): (
        [0.24, 0.23, 0.19, 0.23, 0.11],
        [0.31, 0.0, 0.28, 0.28, 0.14],
        [0.54, 0.0, 0.47, 0.0, 0.0],
    ),
}
"""First attempts, second tries beside number 1, and picks of a caller that can use numbers 0 and 2 alone."""


@pytest.mark.parametrize(("policy", "situation"), FIGURES)
def test_shares_are_as_they_were(policy: str, situation: str) -> None:
    """Of first attempts, of second tries, and of picks that need a live connection."""
    make = {"plain": plain, "ejected": ejected, "resting": resting, "newcomer": newcomer, "bounded": bounded}[situation]
    for choose, expected in zip((first, second, usable), FIGURES[policy, situation], strict=True):
        assert shares(make(policy), choose, policy == "ring_hash") == pytest.approx(expected, abs=NEAR), choose.__name__
