"""What a feed does with a source, for tests that wait for a Snapshot."""

import threading
import time

import pytest

from kubelb.discovery.dns.source import DnsDiscovery
from kubelb.discovery.kube.access import Access
from kubelb.discovery.kube.source import KubeDiscovery
from kubelb.target import parse_target


class Feeding:
    """A small feed: waits for the Snapshot that a test wants to see. `make` is called with `emit`."""

    def __init__(self, made, make):
        self.snapshot = None
        self.all = []
        self.events = []
        self._bell = threading.Condition()
        self._news = False
        self.source = make(self._emit)
        made.append(self.source)
        self.source.start(self.ring)

    def _emit(self, event):
        self.events.append(event)
        self.ring()

    @property
    def health(self):
        return self.source.health()

    def ring(self):
        with self._bell:
            self._news = True
            self._bell.notify()

    def until(self, wanted, timeout=5.0):
        """Poll on notice, when a poll is due, and often, until the condition holds."""
        end = time.monotonic() + timeout
        while True:
            with self._bell:
                self._news = False
            snapshot, due = self.source.poll(time.monotonic())
            if snapshot is not None:
                self.snapshot = snapshot
                self.all.append(snapshot)
            if wanted(self.snapshot):
                return self.snapshot
            now = time.monotonic()
            if now >= end:
                pytest.fail(f"not seen: last {self.snapshot}, health {self.source.health()}")
            with self._bell:
                self._bell.wait_for(lambda: self._news, min(end - now, (due or end) - now, 0.01))

    def ips(self, *ips, **kw):
        return self.until(lambda s: s is not None and sorted(e.ip for e in s.endpoints) == sorted(ips), **kw)


class Reader(Feeding):
    """The feed of a KubeDiscovery."""

    def __init__(self, made, access, target="reviews.prod:http", **options):
        access = Access(access) if isinstance(access, str) else access
        super().__init__(made, lambda emit: KubeDiscovery(parse_target(target), access=access, emit=emit, **options))


class DnsReader(Feeding):
    """The feed of a DnsDiscovery."""

    def __init__(self, made, target, **options):
        super().__init__(made, lambda emit: DnsDiscovery(parse_target(target), emit=emit, **options))
