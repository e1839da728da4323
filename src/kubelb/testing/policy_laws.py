"""What every policy must keep to, law by law; `check_policy` puts a policy on trial for all of them.

A law is a function whose docstring's first line says it. It takes a `Trial` and raises `Broken` where the law is
broken; whatever else is raised came out of the policy and breaks it as well.
"""

import gc
import random
import time
from collections.abc import Callable
from dataclasses import fields
from itertools import product
from weakref import ref

from kubelb.core.lease import Lease
from kubelb.core.policies.base import Needs, Policy
from kubelb.core.policies.random import RandomPicker
from kubelb.core.state import EndpointState
from kubelb.model import ANY
from kubelb.testing.policy_lives import follows_the_set, spends_no_claim, stays_what_it_is
from kubelb.testing.policy_threads import works_under_threads
from kubelb.testing.policy_trial import NOW, Broken, Trial, one_of, picked_rightly

__all__ = ["LAWS", "Law"]

SMALL, LARGE = 100, 10_000
GROWTH = 10
"""Times as dear as among `SMALL` a pick may be among `LARGE`: a scan of all would be a hundred times as dear."""
SLOW = 0.001
"""Seconds that no pick takes, unless it waits for something."""

Law = Callable[[Trial], None]


def picks_among_its_own(trial: Trial) -> None:
    """a pick returns one of the states that the picker was built for"""
    for count in trial.sizes:
        states = trial.states(count)
        held = [Lease(state, NOW) for state in states[::3] for _ in range(3)]
        picker, own = trial.build(states), trial.own(states)
        for request, now in product(trial.requests(), (NOW, NOW + 1, NOW, NOW - 0.01, NOW + 1e6)):
            for _ in range(5):
                picked_rightly(picker, request, now, own, f"among {count}, pick({request!r}, now={now})")
        del held


def one_is_enough(trial: Trial) -> None:
    """of one endpoint, that one is picked, idle or busy"""
    states = trial.states(1)
    picker = trial.build(states)
    held = [Lease(states[0], NOW) for _ in range(50)]
    for request in trial.requests() * 5:
        picked_rightly(picker, request, NOW, trial.own(states), f"pick({request!r})")
    del held


def alters_nothing(trial: Trial) -> None:
    """neither build nor pick alters an endpoint's state or a request"""
    states, requests = trial.states(17), trial.requests()
    held = [Lease(state, NOW) for state in states]
    told = [name for name in EndpointState.__slots__ if name not in {"__weakref__", "leases"}]

    def look() -> list[object]:
        seen: list[object] = [(state, name, getattr(state, name)) for state in states for name in told]
        seen += [(state, "leases", frozenset(state.leases)) for state in states]
        return seen + [(repr(request), "request", request.key) for request in requests]

    before = look()
    picker = trial.build(states)
    for request in requests * 20:
        picker.pick(request, NOW)
    for was, now in zip(before, look(), strict=True):
        if was != now:
            raise Broken(f"it was {was!r} and is {now!r}")
    del held


def pickers_share_nothing(trial: Trial) -> None:
    """a policy serves several load balancers: its pickers do not get into each other's way"""
    states = trial.states(10)
    mine, other = states[:5], states[5:]
    one, another = trial.build(mine), trial.build(other)
    own, theirs = trial.own(mine), trial.own(other)
    for request, _ in zip(trial.keyed(), range(100), strict=False):
        picked_rightly(one, request, NOW, own, "the first of two pickers")
        picked_rightly(another, request, NOW, theirs, "the second of two pickers")


def keeps_nothing(trial: Trial) -> None:
    """a policy does not remember endpoints: when a picker goes, so do its states"""
    states = trial.states(10)
    trial.build(states).pick(ANY, NOW)
    watched = [ref(state) for state in states]
    del states
    gc.collect()
    alive = sum(watch() is not None for watch in watched)
    if alive:
        raise Broken(f"{alive} of 10 states are still there")


def follows_its_rng(trial: Trial) -> None:
    """with the same seed it picks the same, and it draws from no other source of chance"""

    def run() -> list[str]:
        picker = trial.build(trial.states(17))
        picked = [picker.pick(request, NOW) for request, _ in zip(trial.keyed(), range(200), strict=False)]
        return [state.endpoint.ip if state is not None else "" for state in picked]

    before = random.getstate()
    first = run()
    if random.getstate() != before:
        random.setstate(before)
        raise Broken("it draws from the module `random`; use the rng that build is given")
    if run() != first:
        raise Broken(f"two runs with seed {trial.seed} over equal endpoints differ")


def builds_on_the_last_picker(trial: Trial) -> None:
    """build takes any earlier picker for `before`, and leaves it as it was"""
    states = trial.states(12)
    first = trial.build(states)
    for some in (states[:1], states[::2], (*states[3:], *trial.states(14)[12:]), states):
        for before in (first, RandomPicker(states, random.Random(trial.seed))):
            again = trial.build(some, before)
            for request in trial.requests() * 2:
                where = f"a picker for {len(some)} in place of one for {len(states)}"
                picked_rightly(again, request, NOW, trial.own(some), where)
                picked_rightly(first, request, NOW, trial.own(states), f"the picker before {where}")


def finds_others_rightly(trial: Trial) -> None:
    """what `other` finds fits, and `chance` is from 0 to below 1"""
    states = trial.own(trial.states(24))
    picker, rng = trial.build(trial.states(24)), random.Random(trial.seed)
    states = tuple(picker.states) or states
    fitting = states[::3]
    for request in trial.requests():
        found = picker.other(request, NOW, lambda state: state in fitting)
        one_of(found, (*fitting, None), "other, with some that fit,")
        if picker.other(request, NOW, lambda _: False) is not None:
            raise Broken("other returned a state that does not fit")
        for draw in range(4):
            if not 0 <= picker.chance(request, draw, rng.random) < 1:
                raise Broken(f"chance({request!r}, {draw}) is not from 0 to below 1")


def is_heard(trial: Trial) -> None:
    """what it needs reaches adapters and statistics, and what it wraps is neither lost nor widened"""
    policy = trial.policy
    needs = policy.needs
    if not isinstance(needs, Needs):
        raise Broken(f"needs is {needs!r}")
    inner = getattr(policy, "of", None)
    if not isinstance(inner, Policy):
        return
    for name in (field.name for field in fields(Needs)):
        wanted, said = getattr(inner.needs, name), getattr(needs, name)
        if wanted != said and wanted != getattr(Needs(), name):
            raise Broken(f"it needs {name}={said!r}, and {inner!r}, by which it goes, {wanted!r}")
    members = trial.members(trial.states(24))
    for some in (members, members.among(members.states[::2])):
        own = policy.among(some)
        if set(inner.among(own).states) != set(own.states):
            raise Broken(f"of what it leaves, {inner!r}, by which it goes, would not pick all")


def costs_the_same(trial: Trial) -> None:
    """a pick takes microseconds, and no more among 10 000 endpoints than among a hundred"""
    costs = {}
    for count in (SMALL, LARGE):
        states = trial.states(count)
        pick = trial.build(states).pick
        requests = [request for request, _ in zip(trial.keyed(), range(50), strict=False)]
        best, until = float("inf"), time.perf_counter() + 0.5
        for _ in range(40):
            began = time.perf_counter()
            for request in requests:
                pick(request, NOW)
            ended = time.perf_counter()
            best = min(best, (ended - began) / len(requests))
            if ended > until:
                break
        costs[count] = best
    said = ", ".join(f"{seconds * 1e6:.1f} us among {count}" for count, seconds in costs.items())
    if costs[SMALL] > SLOW:
        raise Broken(f"{said}: it waits for something")
    if costs[LARGE] > GROWTH * costs[SMALL]:
        raise Broken(f"{said}: it looks at all of them; look at a few, or prepare in build")


LAWS: tuple[Law, ...] = (
    picks_among_its_own,
    one_is_enough,
    alters_nothing,
    pickers_share_nothing,
    keeps_nothing,
    follows_its_rng,
    works_under_threads,
    follows_the_set,
    builds_on_the_last_picker,
    finds_others_rightly,
    is_heard,
    stays_what_it_is,
    spends_no_claim,
    costs_the_same,
)
