"""Servers in processes of their own, on ports of their own, and the cluster that their application calls."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
LONG = 45.0
"""Seconds that anything may take on a machine that does much else; it is polled for, never slept."""


class Plant:
    """`plant.py`, asked over its pipes."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.habitat.plant"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.kubeconfig: str = self._read()

    def ask(self, verb: str, value: Any = None) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([verb, value]).encode() + b"\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def environment(self, *, fork_after: bool) -> dict[str, str]:
        """What `app.py` needs."""
        made = {**os.environ, "HABITAT_KUBECONFIG": self.kubeconfig, "PYTHONPATH": str(ROOT)}
        made.pop("HABITAT_FORK_AFTER", None)
        return made | ({"HABITAT_FORK_AFTER": "1"} if fork_after else {})


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Server:
    """A server of `app.py` that answers on a port."""

    def __init__(self, port: int, log: Path, process: "subprocess.Popen[bytes]") -> None:
        self.port = port
        self.log = log
        self._process = process

    def get(self, path: str, seconds: float = LONG) -> Any:
        """Ask it; what it answers is JSON, and an error of its own is raised."""
        url = f"http://127.0.0.1:{self.port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=seconds) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.read().decode()}\n{self.said()}") from None

    def get_all(self, paths: list[str], at_once: int = 8) -> list[Any]:
        """Ask all that, several at once."""
        with ThreadPoolExecutor(at_once) as crew:
            return list(crew.map(self.get, paths))

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-4000:]

    def workers_that(self, holds: Callable[[Any], bool], count: int, path: str = "/knows") -> dict[int, Any]:
        """Ask until `count` workers have been seen and what each one says holds; returns those by process id."""
        seen: dict[int, Any] = {}
        end = time.monotonic() + LONG
        while time.monotonic() < end:
            for said in self.get_all([path] * 12, at_once=6):
                seen[said[0]] = said
            if len(seen) >= count and all(map(holds, seen.values())):
                return seen
            time.sleep(0.1)
        raise AssertionError(f"{seen}\n{self.said()}")


def storms(plant: Plant, server: Server, workers: int) -> None:
    """POSTs at once in every worker, one pod resetting: each sent once, none in flight, and nothing waits in line.

    Each pod takes 0.3 s, so that a worker whose greenlets block one another would take 57 s.
    """
    plant.ask("slow", 0.3)
    plant.ask("reset", 0)
    results = server.get_all([f"/storm/{seed}" for seed in range(workers)], at_once=workers)
    told = [(sent, set(failed) - {"reset"}, in_flight) for sent, failed, in_flight in results]
    assert told == [(192, set(), 0)] * workers, server.said()
    served = {path: count for path, count in plant.ask("paths").items() if path.startswith("/echo/")}
    assert len(served) >= 192 * workers - sum(len(failed) for _, failed, _ in results)
    assert {path: count for path, count in served.items() if count > 1} == {}


@contextmanager
def serving(command: list[str], port: int, log: Path, environment: dict[str, str]) -> Iterator[Server]:
    """Run a server until it answers, and end it afterwards."""
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
        server = Server(port, log, process)
        try:
            end = time.monotonic() + LONG
            while True:
                with socket.socket() as sock:
                    if sock.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None, server.said()
                assert time.monotonic() < end, server.said()
                time.sleep(0.1)
            yield server
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            # Workers that outlive their master are in its session: a group that the test itself made.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()
