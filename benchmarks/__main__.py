"""All benchmarks, one after the other, and at the end which gates fell short: `make bench`, in short `make smoke`.

    python benchmarks [--smoke] [NAME ...]

Each runs in a process of its own and to its end, whatever became of the one before. Then stand what each took, and
every gate. The exit code is 1 where one was missed, or where a benchmark broke off. In short, one that misses a gate is
run again, up to twice, and the last run counts.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from _gates import VARIABLE, Gate

HERE = Path(__file__).parent
PATIENCE = 1200.0
"""Seconds until one is ended that hangs. On a quiet machine all of them take half of that."""
AGAIN = 2
NAMES = "[a-z]*.py"
"""Files that begin with an underscore are what the others share."""


def main(folder: Path = HERE, given: Sequence[str] | None = None, patience: float = PATIENCE) -> int:
    names = sorted(path.stem for path in folder.glob(NAMES))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="short runs, with bounds for a busy machine")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these: {', '.join(names)}")
    options = parser.parse_args(given)
    if unknown := sorted(set(options.names) - set(names)):
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(names)}")
    took: dict[str, tuple[float, float]] = {}
    gates: list[tuple[str, Gate]] = []
    for name in options.names or names:
        print(f"\n== {name}", flush=True)
        began, used = time.monotonic(), cpu()
        found = run(folder / f"{name}.py", ["--smoke"] if options.smoke else [], patience)
        for _ in range(AGAIN if options.smoke else 0):  # short runs, perhaps beside something else
            if all(gate.met for gate in found):
                break
            print(f"\n== {name}, again", flush=True)
            found = run(folder / f"{name}.py", ["--smoke"], patience)
        took[name] = time.monotonic() - began, cpu() - used
        gates += [(name, gate) for gate in found]
    times(took)
    table(gates)
    missed = [f"{name}: {gate.name}" for name, gate in gates if not gate.met]
    print(f"\ngates: {len(gates)}, missed: {len(missed)}" + "".join(f"\n  {each}" for each in missed))
    return 1 if missed else 0


def run(file: Path, arguments: list[str], patience: float) -> list[Gate]:
    """Run one; returns its gates, and one more where it did not come to its end."""
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "gates"
        environment = {**os.environ, VARIABLE: str(said)}
        try:
            code = subprocess.run(
                [sys.executable, str(file), *arguments], env=environment, timeout=patience, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            print(f"ended after {patience:g} s")
            code = 124  # as timeout(1) says it
        gates = [Gate(*each) for each in json.loads(said.read_text(encoding="utf-8"))] if said.exists() else []
    if code == (0 if all(gate.met for gate in gates) else 1) and gates:
        return gates
    return [*gates, Gate("came to its end: exit code", code or 1, 0)]


def cpu() -> float:
    """Seconds of CPU time that processes which have ended took."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def times(took: dict[str, tuple[float, float]]) -> None:
    """Print what each took, the longest first."""
    print(f"\n{'benchmark':12} {'s':>6} {'CPU s':>6}")
    for name, (seconds, used) in sorted(took.items(), key=lambda item: -item[1][0]):
        print(f"{name:12} {seconds:6.0f} {used:6.0f}")
    seconds, used = (sum(each) for each in zip(*took.values(), strict=True))
    print(f"{'all':12} {seconds:6.0f} {used:6.0f}")


def table(gates: list[tuple[str, Gate]]) -> None:
    """Print each gate."""
    width = max((len(gate.name) for _, gate in gates), default=0)
    print(f"\n{'benchmark':12} {'gate':{width}} {'value':>8} {'bound':>8}")
    for name, gate in gates:
        bound = f"{'>=' if gate.least else '<='}{gate.bound:.3g}"
        print(f"{name:12} {gate.name:{width}} {gate.value:8.3g} {bound:>8}  {'met' if gate.met else 'MISSED'}")


if __name__ == "__main__":
    sys.exit(main())
