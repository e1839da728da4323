"""What became of each request, and the figures made of it."""

import math
import threading
from collections import Counter
from collections.abc import Collection, Iterable
from typing import NamedTuple

from kubelb.cli.demo.settings import TIMEOUT

__all__ = ["KUBELB", "PLAIN", "SIDES", "Figures", "Record", "Sample", "figures", "percentile"]

KUBELB, PLAIN = "kubelb", "plain httpx"
SIDES = KUBELB, PLAIN


class Sample(NamedTuple):
    """One request. `due` is when it was to be sent, `latency` counts from there; `act` is the one of that moment."""

    side: str
    act: int
    due: float
    latency: float
    pod: str
    error: str


class Figures(NamedTuple):
    """Of some requests. Seconds; None where there were none."""

    requests: int
    errors: int
    p50: float | None
    p95: float | None
    p99: float | None


class Record:
    """Every sample of a performance, in the order in which they ended. Threads may add and read at any time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._samples: list[Sample] = []

    def add(self, sample: Sample) -> None:
        """Keep one."""
        with self._lock:
            self._samples.append(sample)

    def of(self, side: str, acts: Collection[int] | None = None) -> list[Sample]:
        """Return those of a side, of all acts or some."""
        with self._lock:
            samples = list(self._samples)
        return [sample for sample in samples if sample.side == side and (acts is None or sample.act in acts)]

    def since(self, time: float) -> list[Sample]:
        """Return those that were due at `time` or later; looks no further back than it has to."""
        recent: list[Sample] = []
        with self._lock:
            for sample in reversed(self._samples):
                if sample.due + sample.latency < time:
                    break
                if sample.due >= time:
                    recent.append(sample)
        return recent

    def errors(self, side: str) -> dict[str, int]:
        """Count the failures of a side by kind, the most frequent first."""
        return dict(Counter(sample.error for sample in self.of(side) if sample.error).most_common())


def figures(samples: Iterable[Sample]) -> Figures:
    """Count and rank. A failed request ranks as the timeout, or else failing fast would look fast."""
    samples = list(samples)
    latencies = sorted(max(sample.latency, TIMEOUT) if sample.error else sample.latency for sample in samples)
    errors = sum(1 for sample in samples if sample.error)
    return Figures(len(samples), errors, *(percentile(latencies, share) for share in (0.5, 0.95, 0.99)))


def percentile(ranked: list[float], share: float) -> float | None:
    """Return the nearest-rank percentile of a sorted list: a value that did occur."""
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)] if ranked else None
