"""Policies that go by keys and weights: what a choice costs, what a ring costs, how it spreads and what it disturbs.

    python benchmarks/policies.py [--smoke]

A choice is a multiple of a bare loop that draws two distinct candidates and compares two numbers, in the same run. The
spread and the disruption of rings stand beside figures for the same sizes that were published or measured elsewhere
(gRFC A42 and Envoy's documentation name the sizes). With --smoke the run is short; a missed gate exits 1.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import combinations
from random import Random
from statistics import fmean, pstdev

from _gates import Gate, Gates
from _measure import Key, least, patiently
from kubelb import Endpoint, Request, RingHash, WeightedRoundRobin
from kubelb.core import EndpointState, Lease
from kubelb.core.members import Members
from kubelb.core.policies.ring import BITS, SLOTS
from kubelb.core.policies.ring_hash import RingPicker
from kubelb.model import ANY

SLOWER = 0.0 if sys.version_info < (3, 13) else 1.0
"""Since 3.13 the bare loop is a third quicker, and encoding and hashing a key are not."""
GATES = {
    "ring": 2.0 + SLOWER,
    "ring, one away": 2.0 + SLOWER,
    "ring, no key": 2.0,
    "ring, busy": 3.0 + SLOWER,
    "weights 1-10": 2.0 + SLOWER,
    "one of 100": 2.0 + SLOWER,
}
SIZES = (10, 100, 1000, 10_000)
BARE = "bare beside "
GROWTH = 1.6
"""A size beside any smaller one: a choice is never linear in the number of endpoints."""
NOISE = 1.15
"""What is forgiven, for the machine may be busy."""
REUSE = 0.7
"""Of the time of a new ring, what one with an endpoint more may take."""
SPREADS = [  # endpoints, points on the ring, busiest over mean as measured elsewhere
    (10, 1024, 1.132),
    (10, 65536, 1.008),
    (100, 4096, 1.52),
    (100, 65536, 1.097),
    (1000, 65536, 1.43),
    (1000, 262144, 1.21),
]
BOUNDS = [(None, 1.33, 1.0), (1.25, 1.26, 1.002), (1.10, 1.11, 1.027)]
"""Factor; busiest over mean and ring steps a key as measured elsewhere: 100 endpoints, 100 points each, 10 000 keys."""


def endpoints(count: int, weight: Callable[[int], float] = lambda _: 1.0) -> tuple[EndpointState, ...]:
    """States in use that have answered."""
    made = tuple(
        EndpointState(Endpoint(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", 8080, weight=weight(i)), None)
        for i in range(count)
    )
    for state in made:
        state.in_use, state.cost = True, 0.01
    return made


def choices(rounds: int) -> list[Gate]:
    """Print what a choice costs; return the gates."""

    def turn() -> dict[Key, float]:
        times: dict[Key, float] = {}
        for count in SIZES:
            for states, picks in groups(count):
                found = least({"bare": bare(states, Random(1)), **picks}, rounds)
                times |= {(count, name): found[name] for name in picks}
                times |= {(count, f"{BARE}{name}"): found["bare"] for name in picks}
        return times

    times = patiently(turn, not_too_dear)
    print(f"{'endpoints':>9}  {'bare ns':>8}  " + "".join(f"{name:>16}" for name in GATES))
    for count in SIZES:
        floor = min(times[count, f"{BARE}{name}"] for name in GATES)
        print(f"{count:9}  {floor:8.0f}  " + "".join(f"{ratio(times, count, name):15.2f}x" for name in GATES))
    print(f"{'more / fewer':>19}  " + "".join(f"{growth(times, name):15.2f}x" for name in GATES))
    return not_too_dear(times)


def ratio(times: Mapping[Key, float], count: int, name: str) -> float:
    """Return it beside the bare loop over the same states."""
    return times[count, name] / times[count, f"{BARE}{name}"]


def growth(times: Mapping[Key, float], name: str) -> float:
    """Return what more endpoints cost beside fewer, at most, in bare loops: caches hold less of 10 000."""
    return max(more / less for less, more in combinations([ratio(times, count, name) for count in SIZES], 2))


def not_too_dear(times: Mapping[Key, float]) -> list[Gate]:
    """Return the gates of choices."""
    grown = {name: growth(times, name) for name in GATES if name != "ring, no key"}  # a draw: core.py has its gate
    return [
        Gate(f"{name} at {count}, of the bare loop", ratio(times, count, name), bound * NOISE)
        for count in SIZES
        for name, bound in GATES.items()
    ] + [Gate(f"{name}, a size of a smaller one", more, GROWTH * NOISE) for name, more in grown.items()]


def groups(count: int):
    """Yield states and what picks among them: one after the other, or each set would find its own out of the caches."""
    rng = Random(1)
    states = endpoints(count)
    ring = built(RingHash(), states, rng)
    away = built(RingHash(), states[1:], rng, ring, states)
    yield states, {"ring": choice(ring), "ring, one away": choice(away), "ring, no key": choice(ring, ANY)}
    held = [Lease(state, 0.0) for state in states for _ in range(2)]
    yield states, {"ring, busy": choice(built(RingHash(), states, rng))}
    del held
    for name, weight in {"weights 1-10": lambda i: 1.0 + i % 10, "one of 100": lambda i: 1.0 if i else 100.0}.items():
        states = endpoints(count, weight)
        yield states, {name: choice(built(WeightedRoundRobin(), states, rng), ANY)}


def built(policy, states, rng: Random, before=None, used=None):
    """A picker over `states`, of all that are in `used`."""
    return policy.build(Members(tuple(states), used and tuple(used)), rng, before)


def bare(states, rng: Random):
    """The floor: two distinct random candidates, one comparison, no call."""
    draw, count = rng.random, len(states)

    def chunk(size):
        for _ in range(size):
            i, j = int(draw() * count), int(draw() * (count - 1))
            one, other = states[i], states[j + (j >= i)]
            other if other.cost < one.cost else one  # noqa: B018 - the comparison is what is timed

    return chunk


def choice(picker, always: Request | None = None):
    """`Picker.pick` alone, each time with another key unless it is always the same request."""
    requests = [always or Request(key=f"user-{i}") for i in range(1000)]
    pick = picker.pick

    def chunk(size):
        for request in requests[:size]:
            pick(request, 1.0)

    return chunk


def rings() -> list[Gate]:
    """Print what a ring costs to build, and to build from the one before."""
    gates = []
    print(f"\n{'endpoints':>9}  {'points':>8}  {'new ms':>8}  {'one more':>9}  {'one away':>9}")
    for count in (10, 100, 1000, 10_000):
        states, rng = endpoints(count + 1), Random(1)
        policy, used = RingHash(), states[:-1]
        picker = built(policy, used, rng)
        new = quickest(partial(built, policy, used, rng))
        more = quickest(partial(built, policy, states, rng, picker))
        away = quickest(partial(built, policy, used[1:], rng, picker, used))
        print(f"{count:9}  {picker._size:8}  {new:8.2f}  {more / new:8.2f}x  {away / new:8.2f}x")
        if count in {100, 1000}:
            gates.append(Gate(f"one more than {count}, of a new ring", more / new, REUSE * NOISE))
        rebuilt = built(policy, used[1:], rng, picker, used).ring is not picker.ring
        gates.append(Gate(f"one away of {count}: new rings", rebuilt, 0))
    return gates


def quickest(job: Callable[[], object]) -> float:
    """Return the least milliseconds of five times."""
    took = []
    for _ in range(5):
        began = time.perf_counter()
        job()
        took.append((time.perf_counter() - began) * 1000)
    return min(took)


def owned(picker: RingPicker) -> dict[int, int]:
    """How much of the circle each slot has: a point owns what lies between it and the one before."""
    shares: dict[int, int] = {}
    before = picker._points[-1] - (1 << 64 + BITS)
    for point in picker._points:
        shares[point & SLOTS] = shares.get(point & SLOTS, 0) + (point >> BITS) - (before >> BITS)
        before = point
    return shares


def spreads(smoke: bool) -> list[Gate]:
    """Print how evenly keys are spread and what moves when one endpoint goes."""
    gates = []
    heads = f"{'max/mean':>8}  {'elsewhere':>9}  {'min/mean':>8}  {'cv':>6}  moved"
    print(f"\n{'endpoints':>9}  {'points':>8}  {heads}")
    sizes = [(10, None, None), (100, None, None), (1000, None, None), *SPREADS]
    for count, size, elsewhere in sizes[: -1 if smoke else None]:
        nodes = 128 if size is None else round(size / count)
        states, rng = endpoints(count), Random(1)
        picker = built(RingHash(virtual_nodes=nodes, max_ring_size=1 << 23), states, rng)
        shares = [share * count / (1 << 64) for share in owned(picker).values()]
        moved, needless = disturbed(picker, states, rng)
        said = "" if elsewhere is None else f"{elsewhere:.3f}"
        print(
            f"{count:9}  {picker._size:8}  {max(shares):8.3f}  {said:>9}  {min(shares):8.3f}  {pstdev(shares):6.3f}  "
            f"{moved:.2%} (ideally {1 / count:.2%}), needlessly {needless}"
        )
        ring = f"{count} endpoints, {picker._size} points"
        gates.append(Gate(f"{ring}: keys that move needlessly", needless, 0))
        if elsewhere is not None:
            gates.append(Gate(f"{ring}: the busiest, of the mean", max(shares), 1 + (elsewhere - 1) * 1.5))
    return gates


def disturbed(picker: RingPicker, states, rng: Random) -> tuple[float, int]:
    """Return the share of keys that move when the first endpoint goes, and the number of those that were not there."""
    requests = [Request(key=f"key-{i}") for i in range(20_000)]
    before = [picker.pick(request, 0.0) for request in requests]
    after = built(picker.config, states[1:], rng, picker)
    moved = [was for was, request in zip(before, requests, strict=True) if after.pick(request, 0.0) is not was]
    return len(moved) / len(requests), sum(was is not states[0] for was in moved)


def bounds() -> list[Gate]:
    """Print what a bound does to the busiest, and how far keys go for it, with 100 in flight on each in the mean."""
    gates = []
    count, keys = 100, 10_000
    print(f"\n{'factor':>9}  {'max/mean':>8}  {'elsewhere':>9}  {'steps/key':>9}  {'elsewhere':>9}  keys not at home")
    for factor, busiest, far in BOUNDS:
        states, rng = endpoints(count), Random(1)
        picker = built(RingHash(balance_factor=factor, virtual_nodes=100), states, rng)
        if picker._bound is not None:  # as if all were in flight from the start: the bound is that of the end
            picker._bound.total, picker._bound.credit = keys - 1, 1 << 60
            picker._bound.sure = picker._bound.of(1 / count)
        steps, held = [], []
        for number in range(keys):
            request = Request(key=f"key-{number}")
            lease = Lease(picker.pick(request, 0.0), 0.0)
            held.append(lease)
            place, looked = picker._place(request.key), 1
            while picker._states[picker._points[place % picker._size] & SLOTS] is not lease.state:
                place, looked = place + 1, looked + 1
            steps.append(looked)
        most = max(state.in_flight for state in states) / (keys / count)
        home = sum(looked > 1 for looked in steps) / keys
        print(f"{factor or 'none':>9}  {most:8.3f}  {busiest:9.3f}  {fmean(steps):9.3f}  {far:9.3f}  {home:.2%}")
        if factor is not None:
            gates.append(Gate(f"factor {factor}: the busiest, of the mean", most, factor + 0.011))
        gates.append(Gate(f"factor {factor or 'none'}: steps a key", fmean(steps), 1 + (far - 1) * 2 + 0.01))
    return gates


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a short run that gates")
    smoke = parser.parse_args().smoke
    gates = Gates()
    gates.add(choices(60 if smoke else 250))
    gates.add(rings())
    gates.add(spreads(smoke))
    gates.add(bounds())
    return gates.close()


if __name__ == "__main__":
    sys.exit(main())
