"""gRPC and forks in C: grpcio prepares for Python's forks only.

The kind: a call that never ends, since the threads that would end it are in the parent.
"""

import subprocess
import sys

import pytest

from kubelb.testing import LocalCluster

from .kit import LONG, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.heavy, pytest.mark.timeout(120)]


@pytest.mark.parametrize("kind", ["sync", "aio"])
@pytest.mark.parametrize("used", ["used", "unused"])
def test_the_child_of_a_fork_in_c(kubelb_cluster: LocalCluster, used: str, kind: str) -> None:
    """Refused at once, with the cure, where the parent had used gRPC; answered where it had not."""
    pods = kubelb_cluster.service("echo.prod", replicas=2, grpc=True)
    addresses = ",".join(pod.address for pod in pods)
    command = [sys.executable, "-m", "tests.habitat.grpc_program", used, kind, addresses]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=2 * LONG, check=False)
    wanted = ["parent hello", "child RuntimeError True"] if used == "used" else ["child hello"]
    assert done.stdout.splitlines() == [*wanted, "parent hello"], done.stderr
