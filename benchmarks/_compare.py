"""A client with and without kubelb: blocks that alternate, medians of their differences, and the error of the method.

Bare and balanced requests alternate in blocks; what is printed is the median of the paired differences of the blocks'
medians, and beside it the same for bare against bare.
"""

import statistics
import time

from _gates import Gates
from _measure import MORE

__all__ = ["Run", "paired", "timed"]


def paired(variants, blocks: int, size: int):
    """Return each variant's p50 and its median paired difference to the first one, in microseconds."""
    medians = {name: [] for name in variants}
    for number in range(blocks):
        order = list(variants) if number % 2 else list(variants)[::-1]
        for name in order:
            medians[name].append(variants[name](size))
    first = next(iter(variants))
    return {
        name: (
            statistics.median(values),
            statistics.median(mine - base for mine, base in zip(values, medians[first], strict=True)),
        )
        for name, values in medians.items()
    }


def timed(call):
    """A block of sync requests: the median time of one, in microseconds."""

    def block(size):
        took = []
        for _ in range(size):
            began = time.perf_counter_ns()
            call()
            took.append(time.perf_counter_ns() - began)
        return statistics.median(took) / 1000

    return block


class Run:
    """One run: how long it is, and its gates."""

    def __init__(self, smoke: bool) -> None:
        self.smoke = smoke
        self.blocks, self.size, self.total = (10, 40, 1000) if smoke else (20, 60, 1200)
        self.gates = Gates()

    def latency(self, kind: str, count: int, blocks, bound: float, size: int = 0) -> None:
        """Print what is added to one request in flight; `blocks` are bare, control, balanced.

        With one endpoint that is held against `bound`, a share of the bare p50. Where the gate is missed it is measured
        again, up to nine times: a median of a few blocks follows whatever else the machine does meanwhile, and what
        kubelb adds is in each of them. `size` is how many requests a block has.
        """
        title = f"{kind}, {count} endpoint(s)"
        for _ in range(1 + MORE):
            results = paired(
                dict(zip(("bare", "control", "kubelb"), blocks, strict=True)), self.blocks, size or self.size
            )
            (base, _), (_, control), (_, added) = results.values()
            print(f"{title:24} {base:8.0f} {added:+8.1f} {added / base:+8.1%}   control {control:+.1f}", flush=True)
            surely = (added - max(0.0, control)) / base
            if count != 1 or surely <= bound:
                break
        if count == 1:
            self.gates.at_most(f"{kind}: added, of the bare p50", surely, bound)

    def throughput(self, kind: str, count: int, crew: int, theirs, mine) -> float:
        """Print requests a second of both with `crew` in flight, medians of three turns each; returns the ratio.

        What is added to a request is the difference of the mean latencies, crew / rate (Little's law).
        """
        rates = [(theirs(crew, self.total), mine(crew, self.total)) for _ in range(3)]
        bare, ours = (statistics.median(each) for each in zip(*rates, strict=True))
        title = f"{kind}, {crew:3} in flight, {count:2} endpoint(s)"
        added = (crew / ours - crew / bare) * 1e6
        print(f"{title}: bare {bare:5.0f}/s, kubelb {ours:5.0f}/s, {ours / bare:.2f}x; added {added:+.0f} us a request")
        return ours / bare
