"""Open-loop traffic: requests are due at times that no answer can delay.

One thread goes through the schedule (exponential gaps, as independent callers make them) and hands each request to both
sides, by turns to one first and then to the other. A side has a bounded pool of workers. A request that finds none free
waits for one, and its latency runs from when it was due: with a closed loop a stalled client would send less, and its
stall would be missing from the figures (coordinated omission).
"""

import queue
import random
import threading
from collections.abc import Callable, Sequence

import httpx

from kubelb.cli.demo.measure import Record, Sample
from kubelb.cli.demo.settings import WORKERS
from kubelb.clock import monotonic

__all__ = ["Side", "Traffic"]

PATH = "/ratings/7"


class Side:
    """One of the two clients, with its workers."""

    def __init__(self, name: str, client: httpx.Client, record: Record, workers: int = WORKERS) -> None:
        self.name = name
        self._client = client
        self._record = record
        self._pending: set[tuple[float, int]] = set()
        self._queue: queue.SimpleQueue[tuple[float, int] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"kubelb-demo-{name}-{number}", daemon=True)
            for number in range(workers)
        ]

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def submit(self, due: float, act: int) -> None:
        """Have a request sent as soon as a worker is free."""
        self._pending.add((due, act))
        self._queue.put((due, act))

    def finish(self) -> None:
        """Let the workers end when everything that was submitted has been sent."""
        for _ in self._threads:
            self._queue.put(None)

    def join(self, until: float) -> None:
        """Wait for them, no longer than to `until`; no answer by then is an error, not a gap in the figures."""
        for thread in self._threads:
            thread.join(max(0.0, until - monotonic()))
        for task in list(self._pending):
            self._finished(task, "", "no answer")

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            self._finished(task, *self._send())

    def _finished(self, task: tuple[float, int], pod: str, error: str) -> None:
        try:
            self._pending.remove(task)  # atomic: each request is counted once
        except KeyError:
            return
        due, act = task
        self._record.add(Sample(self.name, act, due, monotonic() - due, pod, error))

    def _send(self) -> tuple[str, str]:
        """Return which pod answered and what went wrong, in a word; "" for nothing."""
        try:
            response = self._client.get(PATH)
        except Exception as error:  # noqa: BLE001  whatever a caller would see is an error of that side
            return "", type(error).__name__
        return response.headers.get("x-backend", ""), f"HTTP {response.status_code}" if response.is_error else ""


class Traffic:
    """The schedule of both sides. `act` tells which one is on."""

    def __init__(self, sides: Sequence[Side], rate: float, rng: random.Random, act: Callable[[], int]) -> None:
        self._sides = sides
        self._rate = rate
        self._rng = rng
        self._act = act
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubelb-demo-traffic", daemon=True)

    def start(self) -> None:
        """Begin."""
        for side in self._sides:
            side.start()
        self._thread.start()

    def stop(self) -> None:
        """Send nothing that is not due yet."""
        self._stop.set()

    def finish(self, timeout: float) -> None:
        """Stop, and wait for the answers to what was sent, at most `timeout` seconds."""
        self.stop()
        until = monotonic() + timeout
        self._thread.join(timeout)
        for side in self._sides:
            side.finish()
        for side in self._sides:
            side.join(until)

    def _run(self) -> None:
        due = monotonic()
        first, second = self._sides
        while True:
            due += self._rng.expovariate(self._rate)
            if self._stop.wait(max(0.0, due - monotonic())):
                return
            act = self._act()
            first.submit(due, act)
            second.submit(due, act)
            first, second = second, first
