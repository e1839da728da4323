"""Where the control plane's binaries are, as tests/envtest/build.py, which puts them there, knows it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BUILD = Path(__file__).resolve().parents[1] / "envtest" / "build.py"


class MissingBinariesError(Exception):
    """Names the binaries that are missing and the command that builds them."""


def find_binaries() -> dict[str, Path]:
    """Name to path, for all four; raises where one is missing, since they are of use only together."""
    answer = subprocess.run([sys.executable, str(BUILD), "--check"], capture_output=True, text=True, check=False)
    places = dict(line.split(maxsplit=1) for line in answer.stdout.splitlines())
    if answer.returncode != 0:
        missing = [name for name, place in places.items() if place.startswith("missing")]
        raise MissingBinariesError(f"{', '.join(missing) or 'the control plane'}: not built; `make envtest` does it")
    return {name: Path(place) for name, place in places.items()}
