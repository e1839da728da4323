"""What the tests of the runtime share: sources that say what they are told to, waiting that ends, no threads left."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.spelled import spelled

from core.kit import pods
from kubelb import LoadBalancer
from kubelb.model import Endpoint, Health, Snapshot
from kubelb.service import Service, service_of


class Source:
    """A Discovery in the test's hands."""

    def __init__(self, count: int | None = 3) -> None:
        self.notify: Callable[[], None] = lambda: None
        self.lock = threading.Lock()
        self.version = 0
        self.news: Snapshot | None = None
        self.again: float | None = None
        self.stopped = 0
        self.started = 0
        self.resyncs = 0
        self.polls = 0
        self.raises: Exception | None = None
        self.error = ""
        if count is not None:
            self.say(pods(count))

    def say(self, endpoints: tuple[Endpoint, ...], **fields: object) -> None:
        with self.lock:
            self.version += 1
            self.news = Snapshot(self.version, endpoints, **fields)  # type: ignore[arg-type]
        self.notify()

    def start(self, notify: Callable[[], None]) -> None:
        self.started += 1
        self.notify = notify

    def poll(self, now: float) -> tuple[Snapshot | None, float | None]:
        self.polls += 1
        if self.raises:
            error, self.raises = self.raises, None
            raise error
        with self.lock:
            news, self.news = self.news, None
        again, self.again = self.again, None
        return news, None if again is None else now + again

    def health(self) -> Health:
        return Health("scripted", synced=self.version > 0, error=self.error, cure="wait" if self.error else "")

    def resync_now(self) -> None:
        self.resyncs += 1

    def stop(self) -> None:
        self.stopped += 1


class Scripted(LoadBalancer):
    """A LoadBalancer whose sources are what `make` returns."""

    make: Callable[[], Source]

    def __init__(self, target: str, **options: object) -> None:
        super().__init__(target, **spelled(options))  # type: ignore[arg-type]
        service_of(self).placing.source = lambda *_: self.make()  # type: ignore[method-assign]


def balancer(source: Source, **options: object) -> Scripted:
    """Return a LoadBalancer over a scripted source."""
    lb = Scripted("svc.ns:http", **options)  # type: ignore[arg-type]
    lb.make = lambda: source
    return lb


def until(truth: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for something that must become true."""
    end = time.monotonic() + seconds
    while not truth():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.001)


@contextmanager
def no_threads_left() -> Iterator[None]:
    """Whatever happens inside, every thread that began there has ended soon after."""
    before = set(threading.enumerate())
    yield
    until(lambda: set(threading.enumerate()) <= before)


def in_flight(lb: LoadBalancer | Service) -> int:
    """Requests in flight as endpoints and limits know of them, and calls that wait for endpoints."""
    service = service_of(lb) if isinstance(lb, LoadBalancer) else lb
    limiter = service.balancer.limiter
    counted = len(limiter.requests) + len(limiter.retries) + len(limiter.pending) if limiter else 0
    return counted + sum(state.in_flight for state in service.balancer.states())
