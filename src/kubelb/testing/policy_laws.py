"""What every policy must keep to, law by law; `check_policy` puts a policy on trial for all of them.

A law is a function whose docstring's first line says it. It takes a `Trial` and raises `Broken` where the law is
broken; whatever else is raised came out of the policy and breaks it as well.
"""

import gc
import random
import time
from collections.abc import Callable, Sequence
from itertools import product
from weakref import ref

from kubelb.core.balancer import Balancer
from kubelb.core.events import Event, Skipped
from kubelb.core.lease import Lease
from kubelb.core.state import EndpointState
from kubelb.errors import NoEndpoints
from kubelb.model import ANY, Endpoint, Outcome, Snapshot, Verdict
from kubelb.testing.policy_threads import works_under_threads
from kubelb.testing.policy_trial import NOW, Broken, Trial, endpoint, one_of

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
        picker = trial.build(states)
        for request, now in product(trial.requests(), (NOW, NOW + 1, NOW, NOW - 0.01, NOW + 1e6)):
            for _ in range(5):
                one_of(picker.pick(request, now), states, f"among {count}, pick({request!r}, now={now})")
        del held


def one_is_enough(trial: Trial) -> None:
    """of one endpoint, that one is picked, idle or busy"""
    states = trial.states(1)
    picker = trial.build(states)
    held = [Lease(states[0], NOW) for _ in range(50)]
    for request in trial.requests() * 5:
        one_of(picker.pick(request, NOW), states, f"pick({request!r})")
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
    for request, _ in zip(trial.keyed(), range(100), strict=False):
        one_of(one.pick(request, NOW), mine, "the first of two pickers")
        one_of(another.pick(request, NOW), other, "the second of two pickers")


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
        return [picker.pick(request, NOW).endpoint.ip for request, _ in zip(trial.keyed(), range(200), strict=False)]

    before = random.getstate()
    first = run()
    if random.getstate() != before:
        random.setstate(before)
        raise Broken("it draws from the module `random`; use the rng that build is given")
    if run() != first:
        raise Broken(f"two runs with seed {trial.seed} over equal endpoints differ")


def follows_the_set(trial: Trial) -> None:
    """in a Balancer it picks from the endpoints of now, and never one that left, was ejected or was tried before"""
    events: list[Event] = []
    clock = [NOW]
    balancer = Balancer(
        trial.policy, clock=lambda: clock[0], rng=random.Random(trial.seed), emit=events.append, slow_start=None
    )
    requests = trial.keyed()

    def check(used: Sequence[Endpoint], where: str) -> None:
        for request, _ in zip(requests, range(60), strict=False):
            lease = balancer.pick(request)
            if lease.endpoint not in used:
                raise Broken(f"{where}, {lease.endpoint.authority} was picked")
            lease.release()

    sets = [range(3), range(5), range(4, 5), range(2, 12), range(0), range(3)]
    for version, numbers in enumerate(sets, 1):
        used = tuple(endpoint(number, version // 4) for number in numbers)
        balancer.update(Snapshot(version, used))
        if used:
            check(used, f"of {len(used)} after {len(sets[version - 2]) if version > 1 else 0}")
            continue
        try:
            balancer.pick()
        except NoEndpoints:
            continue
        raise Broken("it picked from an empty set")
    states = balancer.states()
    for request, _ in zip(requests, range(20), strict=False):
        lease = balancer.pick(request, states[:-1])
        if lease.state is not states[-1]:
            raise Broken(f"a retry went to {lease.endpoint.authority}, which had been tried")
        lease.release()
    for _ in range(5):
        Lease(states[0], clock[0]).release(Outcome(Verdict.FAILED))
    check([state.endpoint for state in states[1:]], "after the ejection of another")
    for event in events:
        if isinstance(event, Skipped) and event.what.startswith("policy"):
            raise Broken(event.reason)


def does_more_rightly(trial: Trial) -> None:
    """where a picker has rebuild, pick_other or chance, they are as good as the rest"""
    states = trial.states(12)
    picker = trial.build(states)
    rng = random.Random(trial.seed)
    for request in trial.requests():
        if hasattr(picker, "rebuild"):
            for some in (states[:1], states[::2], (*states[3:], *trial.states(14)[12:])):
                again = picker.rebuild(some, rng)
                for _ in range(10):
                    one_of(again.pick(request, NOW), some, f"a picker rebuilt for {len(some)} of {len(states)}")
        if hasattr(picker, "pick_other"):
            fitting = states[5:9]
            found = picker.pick_other(request, NOW, lambda state, fitting=fitting: state in fitting)
            one_of(found, (*fitting, None), "pick_other, with four that fit,")
            if picker.pick_other(request, NOW, lambda _: False) is not None:
                raise Broken("pick_other returned a state that does not fit")
        if hasattr(picker, "chance"):
            for draw in range(4):
                if not 0 <= picker.chance(request, draw) < 1:
                    raise Broken(f"chance({request!r}, {draw}) is not from 0 to below 1")


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
    does_more_rightly,
    costs_the_same,
)
