"""A policy on trial: endpoints with a past, requests of every kind, and chance that can be had again."""

import random
from collections.abc import Iterator, Sequence
from itertools import cycle

from kubelb.core.members import Members, Place
from kubelb.core.policies.base import Picker, Policy
from kubelb.core.state import NEVER, EndpointState
from kubelb.core.tracking import Tracker
from kubelb.model import ANY, IDEMPOTENT, Endpoint, Request

__all__ = ["NOW", "Broken", "Trial", "endpoint", "one_of", "picked_rightly"]

NOW = 1000.0


class Broken(Exception):
    """How a law was broken."""


class Trial:
    """A policy, and everything that is needed to see what it does."""

    def __init__(self, policy: Policy, seed: int, sizes: Sequence[int]) -> None:
        self.policy = policy
        self.seed = seed
        self.sizes = sizes
        self.keys = [f"user-{number}" for number in range(50)]

    def states(self, count: int) -> tuple[EndpointState, ...]:
        """Return endpoints that have lived: some quick, some slow, some never asked, with all kinds of weights."""
        tracker = Tracker(lambda: NOW, 10.0, 5.0, None)
        made = tuple(EndpointState(endpoint(number), tracker) for number in range(count))
        histories = cycle([(0.0, NEVER), (0.01, NOW - 0.1), (2.0, NOW), (0.001, NOW - 60.0), (5.0, NOW - 1.0)])
        for state, (cost, stamp) in zip(made, histories, strict=False):
            state.in_use, state.cost, state.stamp = True, cost, stamp
        return made

    def build(self, states: Sequence[EndpointState], before: Picker | None = None) -> Picker:
        """Build a picker with chance of its own."""
        return self.policy.build(self.members(states), random.Random(self.seed), before)

    def members(self, states: Sequence[EndpointState]) -> Members:
        """Return these as a policy is given them, in ``zone-a``."""
        return Members(tuple(states), here=Place("zone-a"), service="trial")

    def own(self, states: Sequence[EndpointState]) -> tuple[EndpointState, ...]:
        """Return those of these that the policy would ever pick."""
        return self.policy.among(self.members(states)).states

    def requests(self) -> list[Request]:
        """Return one of each kind; the last has a key that no adapter lets pass."""
        odd = Request(key="odd")
        odd.key = 7  # type: ignore[assignment]
        return [ANY, IDEMPOTENT, Request(key="user-7"), Request(key=b"\xff", idempotent=True), Request(key=""), odd]

    def keyed(self) -> Iterator[Request]:
        """Return requests without end, every other one with a key."""
        return cycle([ANY if number % 2 else Request(key=key) for number, key in enumerate(self.keys)])


def endpoint(number: int, generation: int = 0) -> Endpoint:
    """Return the n-th endpoint there is."""
    weight = (1.0, 3.0, 1.0, 0.0, 0.25)[number % 5]
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    zone = f"zone-{'abc'[number % 3]}"
    return Endpoint(address, 8080, uid=f"{number}-{generation}", pod=f"pod-{number}", zone=zone, weight=weight)


def picked_rightly(
    picker: Picker, request: Request, now: float, own: Sequence[EndpointState], where: str
) -> EndpointState | None:
    """Pick, and raise unless that is one of these states, or None where the picker admits the request to none."""
    picked = picker.pick(request, now)
    if picked is None and not any(picker.admits(request, state) for state in own):
        return None
    one_of(picked, own, where)
    return picked


def one_of(picked: object, states: Sequence[EndpointState | None], where: str) -> None:
    """Raise unless what was picked is one of these states, the very one."""
    if not any(picked is state for state in states):
        raise Broken(f"{where} returned {picked!r}")
