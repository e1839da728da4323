"""uWSGI forks in C, behind Python's back: none of Python's hooks run, and a worker believes to be the master.

The kind: answers crossed between workers that use the same inherited connections, and workers that never hear of a pod
again because the thread that would tell them is in the master, while `health()` is clean.
"""

import shutil
import sys
from pathlib import Path

import pytest

from .kit import Plant, free_port, serving, storms

pytestmark = [pytest.mark.slow, pytest.mark.heavy, pytest.mark.timeout(240)]

WORKERS = 3
WAYS = {
    "prefork": [],
    "prefork, threads": ["--enable-threads", "--threads", "4"],
    "lazy-apps": ["--enable-threads", "--lazy-apps"],
}


def command(port: int, *options: str) -> list[str]:
    program = shutil.which("uwsgi", path=str(Path(sys.executable).parent))
    assert program is not None, "pyuwsgi belongs to the test group"
    return [
        *[program, "--master", "--processes", str(WORKERS), "--http-socket", f"127.0.0.1:{port}", "--need-app"],
        *["--module", "tests.habitat.app", "--pyhome", sys.prefix, "--die-on-term", "--listen", "64", *options],
    ]


@pytest.mark.parametrize("way", WAYS)
def test_workers_answer_for_themselves_and_hear_of_new_pods(plant: Plant, tmp_path: Path, way: str) -> None:
    """No answer is another worker's; each hears of a scale-up; each is synced, and says so; POSTs are sent once."""
    port = free_port()
    environment = plant.environment(fork_after=True)
    with serving(command(port, *WAYS[way]), port, tmp_path / "log", environment) as server:
        paths = [f"/call/{('requests', 'httpx')[number % 2]}/word-{number}" for number in range(200)]
        assert server.get_all(paths) == [True] * len(paths), server.said()
        plant.ask("scale", 5)
        server.workers_that(lambda said: said[1:] == [5, True, ""], WORKERS)
        storms(plant, server, WORKERS)
