"""A Discovery of one's own in the place of a target: here endpoints stand in a file, one address a line.

The same shape serves a service registry: a thread asks it, `poll` hands out what was learnt last, `health` says how
old that is.
"""

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx

import kubelb
from kubelb.adapters.httpx import Transport
from kubelb.testing import LocalCluster


class FileDiscovery:
    """Reads a file every `every` seconds; what it held last stays in use while it cannot be read."""

    def __init__(self, path: Path, every: float = 0.05) -> None:
        self._path = path
        self._every = every
        self._known: kubelb.Snapshot | None = None
        self._given: kubelb.Snapshot | None = None
        self._read_at: float | None = None
        self._error = ""

    def __str__(self) -> str:
        return f"file:{self._path.name}"

    def start(self, notify: Callable[[], None]) -> None:
        self._given = None
        self._stopping = threading.Event()  # made here: a forked child needs a thread and locks of its own
        self._now = threading.Event()
        threading.Thread(target=self._run, args=(notify, self._stopping), daemon=True).start()

    def poll(self, now: float) -> tuple[kubelb.Snapshot | None, float | None]:
        known, before = self._known, self._given
        self._given = known
        return (None if known is before else known), None

    def health(self) -> kubelb.Health:
        age = None if self._read_at is None else time.monotonic() - self._read_at
        cure = "is the file there, with lines of IP:PORT?" if self._error else ""
        return kubelb.Health(str(self), self._known is not None, age=age, error=self._error, cure=cure)

    def resync_now(self) -> None:
        self._now.set()

    def stop(self) -> None:
        self._stopping.set()
        self._now.set()

    def _run(self, notify: Callable[[], None], stopping: threading.Event) -> None:
        while not stopping.is_set():
            self._read()
            notify()
            self._now.wait(self._every)
            self._now.clear()

    def _read(self) -> None:
        try:
            pairs = [line.rpartition(":") for line in self._path.read_text().split()]
            endpoints = tuple(kubelb.Endpoint(ip, int(port)) for ip, _, port in pairs)
        except (OSError, ValueError) as error:
            self._error = f"{self._path.name} cannot be read: {type(error).__name__}"
            return
        self._error, self._read_at = "", time.monotonic()
        known, problem = self._known, "" if endpoints else "the file is empty"
        if known is None or endpoints != known.endpoints:
            self._known = kubelb.Snapshot(known.version + 1 if known else 1, endpoints, problem=problem)


def main() -> None:
    with LocalCluster() as cluster, tempfile.TemporaryDirectory() as folder:
        pods = cluster.service("reviews.prod", replicas=3)
        file = Path(folder, "reviews.txt")
        file.write_text("\n".join(pod.address for pod in pods))
        with kubelb.LoadBalancer(FileDiscovery(file)) as lb:
            with httpx.Client(mounts={"http://reviews.prod": Transport(lb)}) as client:
                for _ in range(6):
                    client.get("http://reviews.prod/ratings/7").raise_for_status()
                print([pod.requests for pod in pods], "requests reached the pods")
                file.write_text(pods[0].address)
                while len(lb.endpoints()) > 1:
                    time.sleep(0.01)
                client.get("http://reviews.prod/ratings/7").raise_for_status()
            print(lb.health().source, [endpoint.address for endpoint in lb.endpoints()] == [pods[0].address])


if __name__ == "__main__":
    main()
