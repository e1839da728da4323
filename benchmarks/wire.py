"""What EndpointSlice events cost from the connection on: TLS, the stream's thread, the feed, a new picker.

    python benchmarks/wire.py [--smoke]

A LocalCluster in a process of its own changes one endpoint of a hundred, so seldom that each change comes alone; the
event of 30 KB goes over TLS to a LoadBalancer in this process. Printed are this process's CPU time an event, beside
`json.loads` of as many bytes, and the time from the write to the new picker, the cluster's share of it included. Where
a busy machine makes two changes one snapshot, its time is that of the later one.

Then a rolling update of 10 000 endpoints, for a while of it: 333 events a second, each a slice of 100.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from bisect import bisect
from collections.abc import Iterator

import kubelb
from _gates import Gates
from discovery import piece
from kubelb.service import service_of
from kubelb.testing import LocalCluster

RATE = 333
"""Events a second: 20 000 a minute."""
PAUSE = 0.075
"""Seconds between two changes; the feed paces what comes closer than 50 ms."""
CPU, DELAY = 1.5, 5.0
"""Milliseconds that are aimed at, on a machine that has nothing else to do."""
RATIO = 10.0
"""CPU an event beside `json.loads` of its bytes: the aim, and the 0.15 ms that those take where it was set."""
FORGIVING = 1.5
"""For a short run on a busy machine."""


def serve(pipe) -> None:
    """The cluster's process: sends its kubeconfig; then, asked for (slices, count, pause), the times of the writes."""
    with LocalCluster(tls=True) as cluster:
        cluster.apply_slice(piece(0, 0))
        pipe.send(cluster.kubeconfig)
        there = 1
        while (order := pipe.recv()) is not None:
            slices, count, pause = order
            for number in range(there, slices):
                cluster.apply_slice(piece(number, 0))
            there = slices
            pipe.send(None)
            pipe.send(list(write(cluster, slices, count, pause)))


def write(cluster: LocalCluster, slices: int, count: int, pause: float) -> Iterator[float]:
    """Change one endpoint of one slice after the other, in time."""
    due = time.monotonic()
    for number in range(count):
        state = piece(number % slices, 0, down=frozenset({number // slices % 100}))
        due += pause
        time.sleep(max(0.0, due - time.monotonic()))
        yield time.monotonic()
        cluster.apply_slice(state)


class Ear:
    """Notes when a new picker was there."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def heard(self, _difference: object) -> None:
        self.times.append(time.monotonic())


def measure(pipe, lb: kubelb.LoadBalancer, slices: int, count: int, pause: float) -> tuple[float, list[float], Ear]:
    """Seconds of CPU for so many events, the times of the writes and those of the pickers."""
    pipe.send((slices, count, pause))
    pipe.recv()
    while len(lb.endpoints()) < 100 * slices:
        time.sleep(0.01)
    time.sleep(0.2)  # what is held for 100 ms, and the rest
    ear = Ear()
    service_of(lb).on_change(ear.heard)
    began = time.process_time()
    written = pipe.recv()
    time.sleep(PAUSE)
    return time.process_time() - began, written, ear


def single(pipe, lb: kubelb.LoadBalancer, count: int) -> tuple[float, list[float]]:
    """Milliseconds of CPU an event, and those from each write to its picker."""
    used, written, ear = measure(pipe, lb, 1, count, PAUSE)
    return used / count * 1000, [1000 * (heard - written[bisect(written, heard) - 1]) for heard in ear.times]


def rolling(pipe, lb: kubelb.LoadBalancer, seconds: int) -> None:
    """Print the share of a core and the snapshots a second during a rolling update of 10 000 endpoints."""
    used, written, ear = measure(pipe, lb, 100, seconds * RATE, 1 / RATE)
    wall = written[-1] - written[0]
    print(f"\na rolling update of 10 000, {len(written) / wall:.0f} events a second for {wall:.0f} s, over TLS")
    print(f"CPU  {used / wall:6.0%} of a core (aim 40%)")
    print(f"     {len(ear.times) / wall:6.1f} snapshots a second (at most 20)")


def floor(runs: int = 50) -> float:
    """Milliseconds of `json.loads` for one event, the least of several."""
    body = json.dumps({"type": "MODIFIED", "object": piece(0, 0)}, separators=(",", ":"))
    least = float("inf")
    for _ in range(runs):
        began = time.process_time()
        json.loads(body)
        least = min(least, time.process_time() - began)
    return least * 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a short run that gates generously")
    smoke = parser.parse_args().smoke
    count, limit = (30, RATIO * FORGIVING) if smoke else (150, RATIO)
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    process.start()
    with kubelb.LoadBalancer("reviews.prod:http", discovery=kubelb.DiscoveryOptions(kubeconfig=here.recv())) as lb:
        lb.wait_ready(30)
        single(here, lb, 5)  # what is done once: imports, caches
        rounds = [single(here, lb, count // 3) for _ in range(3)]
        ratio = report(rounds, limit)
        rolling(here, lb, 3 if smoke else 10)
    here.send(None)
    process.join(5)
    gates = Gates()
    gates.at_most("CPU of an event, of json.loads", ratio, limit)
    return gates.close()


def report(rounds: list[tuple[float, list[float]]], limit: float) -> float:
    """Print what changes that come alone cost; returns CPU an event beside `json.loads`."""
    cpu = min(used for used, _ in rounds)
    delays = sorted(delay for _, each in rounds for delay in each)
    ratio = cpu / floor()
    print("one endpoint of 100 changes, over TLS, to a new picker")
    print(f"CPU  {cpu:6.2f} ms (aim {CPU}), {ratio:.1f}x json.loads of the same bytes (gate {limit:.0f}x)")
    print(
        f"time {statistics.median(delays):6.2f} ms p50 (aim {DELAY:.0f}), {delays[int(0.9 * len(delays))]:.2f} ms p90"
    )
    return ratio


if __name__ == "__main__":
    sys.exit(main())
