"""Gates: what a benchmark holds against a bound. All of them do it here, in one way.

    gates = Gates()
    gates.at_most("peak_ewma at 100, of the bare loop", 2.31, 3.0)
    sys.exit(gates.close())

A value is a ratio of two figures of the same run, a count or a share: never a time, for machines differ. `close` prints
what was missed, and returns the exit code. Under `python benchmarks` all of them, met or missed, go to the runner too,
which prints them last; so a benchmark goes on after a gate that it misses.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

__all__ = ["VARIABLE", "Gate", "Gates"]

VARIABLE = "KUBELB_BENCHMARK_GATES"
"""Names the file in which the runner looks for them."""


class Gate(NamedTuple):
    """One figure and its bound."""

    name: str
    value: float
    bound: float
    least: bool = False
    """Whether less than the bound is a miss; else more is."""

    @property
    def met(self) -> bool:
        return self.value >= self.bound if self.least else self.value <= self.bound

    def __str__(self) -> str:
        return f"{self.name}: {self.value:.3g}, {'at least' if self.least else 'at most'} {self.bound:.3g}"


class Gates:
    """Those of one run."""

    def __init__(self) -> None:
        self._all: list[Gate] = []

    def add(self, gates: Iterable[Gate]) -> None:
        """Hold these, which were measured already."""
        self._all += gates

    def at_most(self, name: str, value: float, bound: float) -> None:
        """Hold a figure that must not be more."""
        self._all.append(Gate(name, value, bound))

    def at_least(self, name: str, value: float, bound: float) -> None:
        """Hold a figure that must not be less."""
        self._all.append(Gate(name, value, bound, least=True))

    def close(self) -> int:
        """Print what was missed; returns the exit code."""
        missed = [gate for gate in self._all if not gate.met]
        for gate in missed:
            print(f"MISSED {gate}")
        if where := os.environ.get(VARIABLE):
            Path(where).write_text(json.dumps(self._all), encoding="utf-8")
        return 1 if missed else 0
