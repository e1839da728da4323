"""What is ejected for silence: healthy services under deadlines that are too short, and pods that hang.

    python benchmarks/silence.py [--smoke]

Virtual time around the production Balancer, with a seed: figures are the same on every machine. Healthy: every silence
is the deadline's fault, so every ejection is a false one; beside it, what five failures in a row and a failure share
would do if a silence were any failure. Hung: one pod never answers again, and what is counted are the calls on it
whose deadline ended by the time it was ejected. Changed: at one moment every call becomes too slow for its deadline, on
all pods alike. Stalled: the
caller's own process stands still. With --smoke the run is short; a missed gate exits 1.
"""

import argparse
import heapq
import math
import random
import sys
from collections import Counter
from itertools import count

from _gates import Gate, Gates
from kubelb import Endpoint, Snapshot
from kubelb.core import Balancer
from kubelb.core.events import Ejected
from kubelb.model import ANY, Outcome, Request, Verdict

POLICIES = "round_robin", "random", "least_request", "peak_ewma", "weighted_round_robin", "ring_hash"
SIZES = 2, 3, 10, 100
RATES = 1.0, 30.0, 1000.0
MEDIAN = 0.1
"""Seconds that half of the calls need."""
MULTIPLES = 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0
"""Deadlines, as multiples of it."""
LATE_AT_MOST = 10
FALSE_AT_MOST = 3e-6
"""False ejections a call: "none" would need an endless run to be shown."""


def exponential(rng):
    return rng.expovariate(math.log(2) / MEDIAN)


def lognormal(rng):
    return rng.lognormvariate(math.log(MEDIAN), 1.0)


def bimodal(share):
    """A method that takes 30 times as long, in so many calls."""

    def draw(rng):
        return MEDIAN * (30.0 if rng.random() < share else 1.0) * rng.uniform(0.8, 1.2)

    return draw


SERVICES = {"exponential": exponential, "lognormal": lognormal, "1 % slow": bimodal(0.01), "10 % slow": bimodal(0.1)}


class World:
    """One service and its callers, which come at random.

    `stall`: seconds of each second for which we hear of nothing.
    """

    def __init__(self, policy, pods, rate, deadline, service, *, seed, keys=1000, stall=0.0, verdict=Verdict.SILENT):
        self.now = 0.0
        self.rng = random.Random(seed)
        self.ejected = []
        self.late = Counter()
        """Calls that ended late, by address."""
        self.balancer = Balancer(policy, clock=lambda: self.now, rng=random.Random(seed + 1), emit=self._heard)
        self.balancer.update(Snapshot(1, tuple(Endpoint("10.0.0.1", 1 + i) for i in range(pods))))
        self.keyed = policy == "ring_hash"
        self.keys = keys
        self.rate, self.deadline, self.service, self.stall, self.verdict = rate, deadline, service, stall, verdict
        self.hung = None
        self._heap = []
        self._order = count()

    def _heard(self, event):
        if isinstance(event, Ejected):
            self.ejected.append((event.endpoint, self.late[event.endpoint]))

    def run(self, calls):
        """Let so many calls come and end."""
        arrival = self.now
        for _ in range(calls):
            arrival = self._noticed(arrival + self.rng.expovariate(self.rate))
            self._until(arrival)
            self.now = arrival
            keyed = self.keyed
            lease = self.balancer.pick(Request(key=str(self.rng.randrange(self.keys))) if keyed else ANY)
            needs = math.inf if lease.endpoint.authority == self.hung else self.service(self.rng)
            over = arrival + self.deadline
            late = self._noticed(arrival + needs) > over  # at the worst: an answer that waits to be read is none
            ends = over if late else arrival + needs
            heapq.heappush(self._heap, (self._noticed(ends), next(self._order), ends, lease, late))
            if self.hung and self.ejected:
                break
        self._until(math.inf)

    def _noticed(self, time):
        return max(time, math.floor(time) + self.stall) if self.stall and time < math.inf else time

    def _until(self, time):
        heap = self._heap
        while heap and heap[0][0] <= time and not (self.hung and self.ejected):
            self.now, _, ended, lease, late = heapq.heappop(heap)
            if not late:
                lease.release()
            else:
                self.late[lease.endpoint.authority] += 1
                lease.release(Outcome(self.verdict, overdue=self.now - ended))


def false_ejections(verdict, service, deadline, calls):
    """Return how many calls of a healthy service ended late, and how many ejections that made, over all settings."""
    late = ejections = 0
    for seed, (policy, pods, rate) in enumerate(settings(SIZES, RATES)):
        world = World(policy, pods, rate, deadline, service, seed=seed, verdict=verdict)
        world.run(calls)
        late += world.late.total()
        ejections += len(world.ejected)
    return late, ejections


def settings(sizes, rates):
    return [(policy, pods, rate) for policy in POLICIES for pods in sizes for rate in rates]


def healthy(calls):
    """Print false ejections; return the gate."""
    each = calls * len(settings(SIZES, RATES))
    print(
        f"\nhealthy: {each:,} calls a row, over {len(SIZES)} sizes, {len(RATES)} rates and {len(POLICIES)} policies\n"
    )
    print("| latency | deadline / median | calls too late | ejected | ejected if a silence were any failure |")
    print("| --- | --- | --- | --- | --- |")
    total = 0
    for name, service in SERVICES.items():
        for multiple in MULTIPLES:
            late, ejections = false_ejections(Verdict.SILENT, service, multiple * MEDIAN, calls)
            _, plain = false_ejections(Verdict.FAILED, service, multiple * MEDIAN, calls)
            total += ejections
            print(f"| {name} | {multiple:g} | {late / each:.1%} | {ejections} | {plain} |", flush=True)
    bound = max(1, FALSE_AT_MOST * each * len(SERVICES) * len(MULTIPLES))
    return [Gate("healthy: false ejections", total, bound)]


def hung(repeats, warm):
    """Print late calls until a hung pod is ejected; return the gates."""
    print(f"\nhung: calls that were late until one pod was ejected, the most of {repeats} runs at each rate\n")
    print("| policy | " + " | ".join(f"{pods} pods" for pods in SIZES) + " | 3, from the first call | 3, 3 % late |")
    print("| --- |" + " --- |" * (len(SIZES) + 2))
    gates = []
    columns = [*((pods, 10, warm) for pods in SIZES), (3, 10, 0), (3, 5, warm)]
    for policy in POLICIES:
        worst = [most(repeats, policy, *column) for column in columns]
        print(f"| {policy} | " + " | ".join(f"{calls:g}" for calls in worst) + " |", flush=True)
        gates.append(Gate(f"hung: {policy}, late calls", max(worst), LATE_AT_MOST))
    lone = most(repeats, "ring_hash", 3, 10, warm, keys=1)
    print(f"\nring_hash where all calls have one key, 3 pods: {lone:g}")
    impatient = {multiple: most(repeats, "round_robin", 3, multiple, warm) for multiple in (3, 2, 1)}
    print("round_robin, 3 pods, where 13, 25 and 50 % of the other pods' calls are late:", end=" ")
    print(", ".join(f"{calls:g}" for calls in impatient.values()))
    return [*gates, Gate("hung: ring_hash with one key, late calls", lone, LATE_AT_MOST)]


def most(repeats, policy, pods, multiple, warm, keys=1000):
    """Return how many calls were late until a pod that hangs after so many was ejected, at most; infinity for never."""
    worst = 0
    for rate in RATES:
        for seed in range(repeats):
            world = World(policy, pods, rate, multiple * MEDIAN, exponential, seed=seed, keys=keys)
            world.run(warm * pods)
            world.ejected.clear()
            world.hung = max(world.balancer.states(), key=lambda state: state.picks).endpoint.authority
            before = world.late[world.hung]
            world.run(400 * pods)
            worst = max(worst, next((late - before for where, late in world.ejected if where == world.hung), math.inf))
    return worst


def changed(repeats):
    """Print what is ejected when all pods become too slow at once; return the gate."""
    worst = Counter()
    for policy, pods, rate in settings(SIZES, RATES):
        for seed in range(repeats):
            world = World(policy, pods, rate, 10 * MEDIAN, exponential, seed=seed)
            world.run(20 * pods)
            world.ejected.clear()
            world.service = lambda rng: 20 * MEDIAN * rng.uniform(1.0, 2.0)
            world.run(50 * pods)
            worst[pods] += len(world.ejected)
    runs = repeats * len(settings((1,), RATES))
    print(f"\nchanged: ejections in {runs} runs of each size when every deadline becomes too short at once")
    print(", ".join(f"{pods} pods: {worst[pods]}" for pods in SIZES))
    return [Gate("changed: ejections", worst.total(), 0.02 * runs * len(SIZES))]


def stalled(calls):
    """Print what is ejected where our own process stands still for 200 ms of each second; return the gate."""
    ejections = late = 0
    for seed, (policy, pods, rate) in enumerate(settings(SIZES, RATES)):
        world = World(policy, pods, rate, 1.5 * MEDIAN, bimodal(0.0), seed=seed, stall=0.2)
        world.run(calls)
        ejections += len(world.ejected)
        late += world.late.total()
    print(f"\nstalled: {late} calls were late, {ejections} ejections")
    return [Gate("stalled: ejections", ejections, 0)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a short run that gates")
    smoke = parser.parse_args().smoke
    gates = Gates()
    gates.add(healthy(60 if smoke else 1000))
    gates.add(hung(1, 10) if smoke else hung(5, 30))
    gates.add(changed(1 if smoke else 2))
    gates.add(stalled(300 if smoke else 3000))
    return gates.close()


if __name__ == "__main__":
    sys.exit(main())
