"""One row for each pod: what it is, what kubelb thinks of it, and how much each caller sends it."""

from collections import Counter
from typing import NamedTuple

from kubelb.cli.demo.measure import SIDES, Record, figures
from kubelb.cli.demo.stage import Stage
from kubelb.testing import Backend

__all__ = ["LINGER", "WINDOW", "Roster", "Row"]

WINDOW = 3.0
"""Seconds over which shares and latencies are taken."""
LINGER = 1.0
"""Seconds for which a pod is still shown when it has gone."""


class Row(NamedTuple):
    """`latency` is the median of the last seconds, both sides together; `shares` are of each side's answers in them."""

    name: str
    state: str
    seen: str
    in_flight: int
    latency: float | None
    shares: tuple[float, ...]


class Roster:
    """Remembers pods in the order in which they came, and those that left for a moment longer."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._pods: dict[str, Backend] = {}
        self._gone: dict[str, float] = {}

    def rows(self, record: Record, now: float) -> list[Row]:
        """Return the pods as they are."""
        self._call(now)
        seen = {view.pod: view for view in self._stage.balancer.endpoints()}
        recent = record.since(now - WINDOW)
        answered = {
            side: Counter(sample.pod for sample in recent if sample.side == side and sample.pod) for side in SIDES
        }
        rows = []
        for name, pod in self._pods.items():
            view = seen.get(name)
            word = "-" if view is None else view.state
            if view is not None and view.ejection is not None:
                word = f"ejected {view.ejection:.0f} s"
            shares = tuple(answered[side][name] / max(1, answered[side].total()) for side in SIDES)
            latency = figures(sample for sample in recent if sample.pod == name).p50
            rows.append(Row(name, self._state(pod), word, pod.in_flight, latency, shares))
        return rows

    def _call(self, now: float) -> None:
        listed = self._stage.service.backends
        for pod in listed:
            self._pods.setdefault(pod.name, pod)
        for name, pod in list(self._pods.items()):
            if pod.state != "gone":
                self._gone.pop(name, None)
            elif now - self._gone.setdefault(name, now) > LINGER and pod not in listed:
                del self._pods[name], self._gone[name]

    def _state(self, pod: Backend) -> str:
        if pod.name in self._stage.crashed:
            return "crashed"
        state = pod.state
        return "slow" if state == "ready" and pod.name in self._stage.slow else state
