"""The soak of discovery in short; its long form is a command (see tests/soak_discovery)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from .conftest import give_up
from .netns import FORBIDDEN
from .pods import ROOT

FAULTS = ("killed:12", "role taken:2", "etcd compacted:1", "token taken:2", "stopped:1", "dns killed:1")
PATIENCE = 2.0
"""Factor of what is promised in seconds and requests a second, for a machine that runs other tests, too."""


@pytest.mark.timeout(240)
def test_thirty_services_and_a_control_plane_that_fails(pod_network: None, figure: Callable[[str], None]) -> None:
    """Every set is right soon after each fault, no address comes back, no request fails down the ladder and up again.

    In a control plane of its own, of which other tests see nothing.
    """
    command = [sys.executable, "-m", "tests.soak_discovery", "--patience", str(PATIENCE), "--seed", "1"]
    command += [word for fault in FAULTS for word in ("--fault", fault)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=220, check=False)
    if done.returncode == FORBIDDEN:
        give_up(done.stderr)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    assert "all is well" in done.stdout
    lines = done.stdout.splitlines()
    steps = next(line for line in lines if line.startswith("steps of the ladder"))
    assert " 0 down" not in steps, "the ladder was not stepped down, so what follows is not tested"
    for line in lines:
        if line.startswith(("requests", "steps", "while")):
            figure(line)
