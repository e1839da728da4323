"""What it costs when everything is on: limits, breakers, ejection and the retry budget, around a no-op.

    python benchmarks/health.py [--smoke]

Beside it, in the same run: kubelb as it is by default, and tenacity around pybreaker, which do less: they know neither
endpoints nor limits nor a budget, and one breaker for all. With --smoke the run is short; a missed gate exits 1.
"""

import argparse
import asyncio
import sys
import time

import pybreaker
import tenacity

import kubelb
from _gates import Gate, Gates
from _measure import least, threads
from kubelb import Endpoint, Snapshot
from kubelb.core import Balancer

LIMIT = {"call": 5000.0, "acall": 8000.0}
"""Nanoseconds that everything may cost; ratios are gated tighter."""
OF_PEERS = 0.4
"""Of tenacity around pybreaker, which do less."""
OF_DEFAULT = 2.0
"""Of kubelb without limits and breakers."""
CYCLE = 2.0
"""Pick and release with everything on, beside them off."""
THREADS = 1.6
NOISE = 1.15
"""What is forgiven, for the machine may be busy."""
ON = {
    "limits": kubelb.ConcurrencyLimits(max_requests_per_endpoint=100, max_retries=100),
    "breaker": kubelb.CircuitBreaker(),
}
OBSERVING = {
    "limits": kubelb.ConcurrencyLimits(max_requests_per_endpoint=100, max_retries=100, observe=True),
    "breaker": kubelb.CircuitBreaker(observe=True),
    "outliers": kubelb.OutlierDetection(observe=True),
}
EACH = {
    "off": {},
    "limits": {"limits": ON["limits"]},
    "breaker": {"breaker": ON["breaker"]},
    "both": ON,
    "observing": OBSERVING,
}


def cycle(**options):
    """Pick and release over a hundred endpoints, with all that is written down."""
    made = Balancer(**options)
    made.update(Snapshot(1, tuple(Endpoint(f"10.0.0.{i}", 80) for i in range(100))))
    pick = made.pick

    def chunk(size):
        for _ in range(size):
            pick().release()

    return chunk


def cycles(rounds: int) -> list[Gate]:
    """Print what each mechanism adds to a pick and its release; return the gate."""
    times = least({name: cycle(**options) for name, options in EACH.items()}, rounds)
    print("pick+release, 100 endpoints: ", end="")
    print(", ".join(f"{name} {ns:.0f} ns ({ns / times['off']:.2f}x)" for name, ns in times.items()))
    return [Gate("pick+release with both, of off", times["both"] / times["off"], CYCLE * NOISE)]


def crowds(rounds: int) -> list[Gate]:
    """Print what threads cost with everything on, in process time: there is no lock to wait for."""
    times = threads(cycle(**ON), (1, 4, 16), rounds)
    print("the same by threads, process time: ", end="")
    print(", ".join(f"{count}: {ns:.0f} ns ({ns / times[1]:.2f}x)" for count, ns in times.items()))
    return [Gate("16 threads, of one", times[16] / times[1], THREADS * NOISE)]


def paths(rounds: int) -> list[Gate]:
    """Print the path around a no-op, sync and asyncio, beside the peers' stack."""

    def nothing(_attempt=None):
        return None

    async def nothing_soon(_attempt=None):
        return None

    target = "static:///" + ",".join(f"127.0.0.{i}:80" for i in range(1, 11))
    lbs = {name: kubelb.LoadBalancer(target, **EACH[name]) for name in ("off", "both")}
    strategies = {"stop": tenacity.stop_after_attempt(3), "wait": tenacity.wait_random_exponential(0.025, 0.25)}
    breaker = pybreaker.CircuitBreaker(fail_max=5, reset_timeout=10)
    guarded = tenacity.retry(**strategies)(breaker(nothing))

    @tenacity.retry(**strategies)
    async def guarded_soon():
        with breaker.calling():  # its own way for coroutines needs tornado
            return await nothing_soon()

    loop = asyncio.new_event_loop()

    def sync(call):
        def chunk(size):
            for _ in range(size):
                call()

        return chunk

    def soon(call):
        async def many(size):
            for _ in range(size):
                await call()

        return lambda size: loop.run_until_complete(many(size))

    times = least(
        {
            "call, everything on": sync(lambda: lbs["both"].call(nothing)),
            "call, by default": sync(lambda: lbs["off"].call(nothing)),
            "tenacity + pybreaker": sync(guarded),
            "acall, everything on": soon(lambda: lbs["both"].acall(nothing_soon)),
            "acall, by default": soon(lambda: lbs["off"].acall(nothing_soon)),
            "tenacity + pybreaker, async": soon(guarded_soon),
        },
        rounds,
    )
    loop.close()
    print(f"\n{'around a no-op':28} {'us':>6}")
    for name, ns in times.items():
        print(f"{name:28} {ns / 1000:6.2f}")
    for lb in lbs.values():
        lb.close()
    gates = []
    for kind, theirs in (("call", "tenacity + pybreaker"), ("acall", "tenacity + pybreaker, async")):
        mine = times[f"{kind}, everything on"]
        peers, default = mine / times[theirs], mine / times[f"{kind}, by default"]
        print(f"{kind}: {peers:.2f} of {theirs}, {default:.2f}x of the default")
        gates.append(Gate(f"{kind}, of {theirs}", peers, OF_PEERS * NOISE))
        gates.append(Gate(f"{kind}, of the default", default, OF_DEFAULT * NOISE))
        if mine > LIMIT[kind]:
            print(f"{kind}: {mine / 1000:.1f} us, where {LIMIT[kind] / 1000:.0f} us is the aim")
    return gates


def judgements(rounds: int) -> None:
    """Print what a failure costs where one endpoint of many fails every other time, and where all fail alike."""
    failure, success = kubelb.Outcome(kubelb.Verdict.FAILED), kubelb.Outcome()
    print()
    for count in (10, 100, 1000):
        for failing in (1, count):
            made = Balancer("random", limits=ON["limits"], breaker=kubelb.CircuitBreaker(observe=True))
            made.update(Snapshot(1, tuple(Endpoint(f"10.0.{i >> 8}.{i & 255}", 80) for i in range(count))))
            states, lease, took = made.states()[:failing], made.limiter.lease, []
            for turn in range(rounds * 40):
                one = lease(states[turn // 2 % failing], time.monotonic())
                began = time.perf_counter_ns()
                one.release(failure if turn % 2 else success)
                took.append((time.perf_counter_ns() - began) / 1000)
            failures = sorted(took[1::2])
            middle, most = failures[len(failures) // 2], failures[len(failures) * 99 // 100]
            print(f"a failure, {failing:4} of {count:4} failing: median {middle:.1f} us, p99 {most:.1f} us")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a short run that gates")
    smoke = parser.parse_args().smoke
    rounds = 60 if smoke else 250
    gates = Gates()
    gates.add(cycles(rounds))
    gates.add(crowds(3 if smoke else 10))
    gates.add(paths(rounds))
    judgements(rounds)
    return gates.close()


if __name__ == "__main__":
    sys.exit(main())
