"""What a choice costs, and the whole path around a call that does nothing.

    python benchmarks/core.py [--smoke]

Everything is a multiple of something in the same run: of a bare loop that draws two distinct candidates and compares
two numbers, or of tenacity's decorator around the same no-op. With --smoke the run is short; a missed gate exits 1.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Mapping

import tenacity

import kubelb
from _gates import Gate, Gates
from _measure import Chunk, Key, least, patiently, threads
from kubelb import Endpoint, Snapshot
from kubelb.core import Balancer
from kubelb.core.members import Members
from kubelb.core.policies import REGISTRY, policy_from
from kubelb.model import ANY

POLICIES = tuple(REGISTRY)
SIZES = (10, 100, 1000, 10_000)
CHOICE = dict.fromkeys(POLICIES, 2.0) | {"peak_ewma": 3.0}
CYCLE = 7.0 if sys.version_info < (3, 13) else 8.0
CYCLE_AT_10_000 = 10.0
GROWTH = 1.6
"""The dearest size beside the cheapest: a choice is never linear in the number of endpoints."""
OTHERS = dict.fromkeys(("beside one", "half usable"), 10.0 if sys.version_info < (3, 13) else 13.0)
"""A pick and release that has to avoid an endpoint, or to find one that the caller can use where half of them are."""
THREADS = 1.6
OF_TENACITY = 0.3
NOISE = 1.15
"""What is forgiven, for the machine may be busy."""


def balancer(count: int) -> Balancer:
    """A balancer over `count` endpoints, each of which has answered."""
    made = Balancer()
    endpoints = tuple(Endpoint(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", 80) for i in range(count))
    made.update(Snapshot(1, endpoints))
    now = time.monotonic()
    for state in made.states():
        state.cost, state.stamp = 0.01 + state.endpoint.port % 7 / 1000, now
    return made


def bare(made: Balancer):
    """The floor: two distinct random candidates, one comparison, no call."""
    states, draw = made.states(), made.rng.random
    count = len(states)

    def chunk(size):
        for _ in range(size):
            i, j = int(draw() * count), int(draw() * (count - 1))
            one, other = states[i], states[j + (j >= i)]
            other if other.cost < one.cost else one  # noqa: B018

    return chunk


def choice(made: Balancer, policy: str):
    """`Picker.pick` alone. All policies choose among the same states, or each would find its own out of the caches."""
    pick = policy_from(policy).build(Members(made.states()), made.rng, None).pick

    def chunk(size):
        now = time.monotonic()
        for _ in range(size):
            pick(ANY, now)

    return chunk


def cycle(made: Balancer):
    """Pick and release, with all that is written down."""

    def chunk(size):
        pick = made.pick
        for _ in range(size):
            pick().release()

    return chunk


def beside_one(made: Balancer):
    """The same for a second try."""
    tried = made.states()[:1]

    def chunk(size):
        pick = made.pick
        for _ in range(size):
            pick(avoid=tried).release()

    return chunk


def half_usable(made: Balancer):
    """The same where the caller has a connection to every other endpoint."""
    usable = frozenset(made.states()[::2]).__contains__

    def chunk(size):
        pick = made.pick
        for _ in range(size):
            pick(usable=usable).release()

    return chunk


def others(rounds: int) -> list[Gate]:
    """Print what picks cost that are no plain choice; return their gates."""
    chunks: dict[int, dict[str, Chunk]] = {}
    for count in SIZES:
        made = balancer(count)
        chunks[count] = {"bare": bare(made), "beside one": beside_one(made), "half usable": half_usable(made)}

    def turn() -> dict[Key, float]:
        return {(count, name): ns for count in SIZES for name, ns in least(chunks[count], rounds).items()}

    def gates(times: Mapping[Key, float]) -> list[Gate]:
        return [
            Gate(f"pick {name} at {count}, of the bare loop", times[count, name] / times[count, "bare"], bound * NOISE)
            for count in SIZES
            for name, bound in OTHERS.items()
        ]

    times = patiently(turn, gates)
    print(f"\n{'endpoints':>9}  " + "".join(f"{name:>24}" for name in OTHERS))
    for count in SIZES:
        floor = times[count, "bare"]
        costs = "".join(f"{times[count, name] / 1000:12.2f} us {times[count, name] / floor:7.2f}x" for name in OTHERS)
        print(f"{count:9}  {costs}")
    return gates(times)


def choices(rounds: int) -> list[Gate]:
    """Print choice and cycle for each policy and size; return their gates.

    Size by size, so that the states of one are in the caches.
    """
    chunks: dict[int, dict[str, Chunk]] = {}
    for count in SIZES:
        made = balancer(count)
        chunks[count] = {"bare": bare(made), "cycle": cycle(made)} | {name: choice(made, name) for name in POLICIES}

    def turn() -> dict[Key, float]:
        return {(count, name): ns for count in SIZES for name, ns in least(chunks[count], rounds).items()}

    times = patiently(turn, not_too_dear)
    print(f"{'endpoints':>9}  {'bare ns':>8}  " + "".join(f"{name:>21}" for name in (*POLICIES, "pick+release")))
    for count in SIZES:
        floor = times[count, "bare"]
        ratios = "".join(f"{times[count, name] / floor:20.2f}x" for name in (*POLICIES, "cycle"))
        print(f"{count:9}  {floor:8.0f}  {ratios}")
    print(f"{'dearest / cheapest':>19}  " + "".join(f"{growth(times, name):20.2f}x" for name in POLICIES))
    return not_too_dear(times)


def growth(times: Mapping[Key, float], name: str) -> float:
    """Return the dearest size beside the cheapest, where each is as many bare loops: caches hold less of 10 000."""
    costs = [times[count, name] / times[count, "bare"] for count in SIZES]
    return max(costs) / min(costs)


def not_too_dear(times: Mapping[Key, float]) -> list[Gate]:
    """Return the gates of choices."""
    gates = []
    for count in SIZES:
        bounds = CHOICE | {"cycle": CYCLE if count <= 1000 else CYCLE_AT_10_000}
        gates += [
            Gate(f"{name} at {count}, of the bare loop", times[count, name] / times[count, "bare"], bound * NOISE)
            for name, bound in bounds.items()
        ]
    return gates + [
        Gate(f"{name}, dearest size of the cheapest", growth(times, name), GROWTH * NOISE) for name in POLICIES
    ]


def crowds(rounds: int) -> list[Gate]:
    """Print what threads cost, in process time."""
    times = threads(cycle(balancer(100)), (1, 4, 16), rounds)
    print("\npick+release by threads, process time: ", end="")
    print(", ".join(f"{count}: {ns:.0f} ns ({ns / times[1]:.2f}x)" for count, ns in times.items()))
    return [Gate("16 threads, of one", times[16] / times[1], THREADS * NOISE)]


def paths(rounds: int) -> list[Gate]:
    """Print the path around a no-op, hot and cold, beside tenacity's."""

    def nothing(_attempt=None):
        return None

    async def nothing_soon(_attempt=None):
        return None

    lb = kubelb.LoadBalancer("static:///" + ",".join(f"127.0.0.{i}:80" for i in range(1, 11)))
    strategies = {"stop": tenacity.stop_after_attempt(3), "wait": tenacity.wait_random_exponential(0.025, 0.25)}
    retried, retried_soon = tenacity.retry(**strategies)(nothing), tenacity.retry(**strategies)(nothing_soon)

    def sync(call):
        def chunk(size):
            for _ in range(size):
                call()

        return chunk

    loop = asyncio.new_event_loop()

    def soon(call):
        async def many(size):
            for _ in range(size):
                await call()

        return lambda size: loop.run_until_complete(many(size))

    hot = least(
        {
            "call": sync(lambda: lb.call(nothing)),
            "tenacity": sync(retried),
            "acall": soon(lambda: lb.acall(nothing_soon)),
            "tenacity async": soon(retried_soon),
        },
        rounds,
    )
    times = 200 if rounds < 100 else 1000
    cold = {
        "call": lambda: once_in_a_while(lambda: lb.call(nothing), times),
        "acall": lambda: loop.run_until_complete(soon_in_a_while(lambda: lb.acall(nothing_soon), times)),
        "tenacity": lambda: once_in_a_while(retried, times),
        "tenacity async": lambda: loop.run_until_complete(soon_in_a_while(retried_soon, times)),
    }
    print(f"\n{'around a no-op, us':20} {'hot':>6} {'cold':>6}")
    for name, measure in cold.items():
        print(f"{name:20} {hot[name] / 1000:6.2f} {min(measure() for _ in range(3)) / 1000:6.1f}")
    loop.close()
    lb.close()
    gates = []
    for ours, theirs in (("call", "tenacity"), ("acall", "tenacity async")):
        ratio = hot[ours] / hot[theirs]
        print(f"{ours} is {ratio:.2f} of {theirs}")
        gates.append(Gate(f"{ours}, of {theirs}", ratio, OF_TENACITY * NOISE))
    return gates


def once_in_a_while(call, times: int) -> float:
    """Return the median nanoseconds of a call that is made once every 300 us, with other work in between."""
    took = []
    for _ in range(times):
        until = time.perf_counter_ns() + 300_000
        while time.perf_counter_ns() < until:
            sum(range(50))
        began = time.perf_counter_ns()
        call()
        took.append(time.perf_counter_ns() - began)
    return sorted(took)[times // 2]


async def soon_in_a_while(call, times: int) -> float:
    """The same for a coroutine."""
    took = []
    for _ in range(times):
        until = time.perf_counter_ns() + 300_000
        while time.perf_counter_ns() < until:
            sum(range(50))
        began = time.perf_counter_ns()
        await call()
        took.append(time.perf_counter_ns() - began)
    return sorted(took)[times // 2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a short run that gates")
    smoke = parser.parse_args().smoke
    rounds = 60 if smoke else 250
    gates = Gates()
    gates.add(choices(rounds))
    gates.add(others(rounds))
    gates.add(crowds(3 if smoke else 10))
    gates.add(paths(rounds))
    return gates.close()


if __name__ == "__main__":
    sys.exit(main())
