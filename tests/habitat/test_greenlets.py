"""gevent and eventlet: threads are greenlets, patched before kubelb is imported, or after.

The kind: what was bound when kubelb was imported or a load balancer was made (thread-locals, locks, sleeps) is the
unpatched one afterwards. Greenlets shared a thread-local and POSTs were delivered twice; one waited for a lock that
another held, for ever.
"""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from .kit import LONG, ROOT, Plant, free_port, serving, storms

pytestmark = [pytest.mark.slow, pytest.mark.heavy, pytest.mark.timeout(240)]


@pytest.mark.parametrize("fork_after", [False, True], ids=["loaded", "used"])
@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
def test_gunicorn_with_gevent(plant: Plant, tmp_path: Path, preload: bool, fork_after: bool) -> None:
    """Each worker serves, hears of new pods and sends once; preloaded and not, used while it was loaded and not."""
    port, workers = free_port(), 2
    command = [sys.executable, "-m", "gunicorn", "-k", "gevent", "-w", str(workers), "-b", f"127.0.0.1:{port}"]
    command += ["--preload"] * preload + ["--timeout", "120", "tests.habitat.app:application"]
    environment = plant.environment(fork_after=fork_after) | {"HOME": str(tmp_path)}  # where gunicorn leaves a socket
    with serving(command, port, tmp_path / "log", environment) as server:
        if not fork_after:  # one worker may serve all that comes, and the others have begun nothing
            server.workers_that(lambda said: said[2], workers, "/begins")
        paths = [f"/call/{('requests', 'httpx')[number % 2]}/word-{number}" for number in range(100)]
        assert server.get_all(paths) == [True] * len(paths), server.said()
        storms(plant, server, workers)
        plant.ask("scale", 5)
        server.workers_that(lambda said: said[1:] == [5, True, ""], 1)


@pytest.mark.parametrize("order", ["before", "after"])
def test_eventlet(plant: Plant, tmp_path: Path, order: str) -> None:
    """It serves, hears of new pods and sends once; patched before kubelb was imported, and after."""
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "tests.habitat.eventlet_server", str(port), order]
    with serving(command, port, tmp_path / "log", plant.environment(fork_after=False)) as server:
        storms(plant, server, 1)
        plant.ask("scale", 5)
        server.workers_that(lambda said: said[1:] == [5, True, ""], 1)


def late(kind: str, kubeconfig: str, addresses: str) -> list[str]:
    command = [sys.executable, "-m", "tests.habitat.late_program", kind, kubeconfig, addresses]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=2 * LONG, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("kind", ["gevent", "eventlet"])
def test_patched_while_threads_run(plant: Plant, kind: str) -> None:
    """What cannot work raises at once, and says what to do: discovery's threads run, and are no greenlets."""
    said = late(kind, plant.kubeconfig, ",".join(plant.ask("pods")))
    assert said[1:] == [
        "used [200, 200, 200]",
        f"used, patched {['PatchedTooLate patch first'] * 3}",
        "health patch first",
    ]


@pytest.mark.parametrize("kind", ["gevent", "eventlet"])
def test_patched_while_none_run(plant: Plant, kind: str) -> None:
    """A load balancer without threads goes on, on new connections: those from before would block all greenlets."""
    said = late(kind, "", ",".join(plant.ask("pods")))
    assert said == ["static [200, 200, 200]", "static, patched [200, 200, 200]"]


def test_greenlets_that_survive_a_fork(plant: Plant) -> None:
    """A child has a watch of its own and no other: the parent's greenlets end there without a word."""
    command = [sys.executable, "-m", "tests.habitat.gevent_fork_program", plant.kubeconfig]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            assert next(lines) == "used\n"
            plant.ask("scale", 5)
            said = []
            for _ in range(3):
                process.stdin.write("fork\n")
                process.stdin.flush()
                said += [next(lines), next(lines)]
            assert sorted(said) == ["child 200 5 True\n"] * 3 + ["forked\n"] * 3
            end = time.monotonic() + LONG
            while (watches := plant.ask("watches")) != 4 and time.monotonic() < end:
                time.sleep(0.05)
            last, complaints = process.communicate("end\n", timeout=LONG)
        finally:
            process.kill()
    assert (watches, last, complaints) == (4, "parent 200 5\n", "")
