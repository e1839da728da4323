"""Every way from one process to another: the child goes on by itself, and the parent notices nothing.

The kind: a child that believes to be its parent. It uses the same connections (answers cross), counts on threads that
are not there (it never hears of a pod again, while `health()` is clean), or says goodbye in its parent's name.
"""

import subprocess
import sys

import pytest

from .fork_program import IN_C, WAYS
from .kit import LONG, ROOT, Plant

pytestmark = [pytest.mark.slow, pytest.mark.heavy, pytest.mark.timeout(240)]


@pytest.mark.parametrize("way", WAYS)
def test_a_child_of_any_kind(plant: Plant, way: str) -> None:
    """It answers for itself, hears of new pods even if it only looks, may close what it holds; its parent goes on."""
    command = [sys.executable, "-m", "tests.habitat.fork_program", way, plant.kubeconfig]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "used\n", process.communicate()
            assert process.stdin is not None
            if way not in IN_C:
                plant.ask("scale", 5)  # it forks in the middle of the news
            process.stdin.write("go on\n")
            process.stdin.flush()
            if way in IN_C:
                assert process.stdout.readline() == "forked\n", process.communicate()
                plant.ask("scale", 5)
            said, complaints = process.communicate(timeout=3 * LONG)
        finally:
            process.kill()
    heard = "child: spawned" if way == "posix_spawn" else "child: crossed 0 known True in flight 0"
    assert said.splitlines() == [heard, "parent: crossed 0 known True"], complaints
    assert complaints == ""
    twice = {path: count for path, count in plant.ask("paths").items() if count > 1}
    assert twice == {}
