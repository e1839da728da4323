"""The row of the table that needs a process of its own: a fork while a client has a connection."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.faults.clients import Client
from tests.faults.over_grpc import AioStream, AioUnary
from tests.faults.scene import CLIENTS, Scene

ROOT = Path(__file__).parent.parent.parent
NOT = {AioUnary, AioStream}
"""grpcio's own: the child of a process with an open channel of grpc.aio hangs or crashes, also without kubelb."""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("kind", [kind for kind in CLIENTS if kind not in NOT], ids=lambda kind: kind.name)
def test_a_fork(stage: Callable[..., Scene], kind: type[Client]) -> None:
    """The child's call is answered, and so is the next one of the parent."""
    scene = stage(kind)
    addresses = ",".join(pod.address for pod in scene.pods)
    command = [sys.executable, "-m", "tests.faults.fork_program", kind.name, addresses]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout) == (0, "both are well\n"), done.stderr
    assert sum(pod.requests for pod in scene.pods) == 3
