"""The soak in short, as CI runs it; its long form is a command (see the package)."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 25.0


@pytest.mark.slow
@pytest.mark.heavy
@pytest.mark.timeout(240)
def test_nothing_is_lost_hung_or_sent_twice() -> None:
    """Every adapter at once, pods that fail all the time: nothing in flight, no task, thread or descriptor is left, and
    what must not be repeated was delivered once. In a process of its own, of which each thread is counted."""
    command = [sys.executable, "-m", "tests.soak", "--seconds", str(SECONDS), "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    assert "all is well" in done.stdout
