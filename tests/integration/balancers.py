"""Load balancers of a test, pointed at the control plane, with the questions that tests ask of them."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.spelled import spelled
from tests.stalls import elapsed

from kubelb import LoadBalancer
from kubelb.core.events import DiscoveryFailed, Emit, Event
from kubelb.discovery.base import Discovery
from kubelb.discovery.dns.reducer import HOLD
from kubelb.discovery.dns.source import DnsDiscovery
from kubelb.discovery.kube.source import KubeDiscovery
from kubelb.discovery.kube.transport import CONNECT_TIMEOUT, READ_TIMEOUT
from kubelb.errors import NoEndpoints, UnknownService
from kubelb.service import service_of

from .processes import PATIENCE, wait_for

CLOSE_TIMEOUT = 0.25  # promised are 50 ms; the rest is for a machine that does other things, too


class Balancer(LoadBalancer):
    """A LoadBalancer that remembers its events, and whose patience with API server and DNS can be shortened."""

    def __init__(
        self,
        target: str,
        *,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
        hold: float = HOLD,
        **options: Any,
    ) -> None:
        self.events: list[Event] = []
        self._patience: dict[str, Any] = {"connect_timeout": connect_timeout, "read_timeout": read_timeout}
        self._hold = hold
        super().__init__(target, **spelled(options))
        self.on_event(self.events.append)
        if service_of(self).placing.options.nameserver is None:  # else the ladder, as it is
            service_of(self).placing.source = self._source  # type: ignore[method-assign,assignment]

    def _source(self, emit: Emit, _: object) -> Discovery:
        options = asdict(service_of(self).placing.options)
        options.pop("nameserver"), options.pop("seed")
        dns = {name: options.pop(name) for name in ("cluster_domain", "fallback_port")}
        if self.target.name:
            return DnsDiscovery(self.target, hold=self._hold, emit=emit, **dns)
        return KubeDiscovery(self.target, emit=emit, **options, **self._patience)

    @property
    def failures(self) -> list[str]:
        """The kinds of failure that discovery told of, in order."""
        return [event.kind for event in self.events if isinstance(event, DiscoveryFailed)]

    @property
    def used(self) -> set[str]:
        """The addresses that are picked from, without their port."""
        snapshot = service_of(self).balancer.snapshot
        return {endpoint.ip for endpoint in snapshot.endpoints} if snapshot else set()

    @property
    def authorities(self) -> set[str]:
        """The same as ip:port."""
        snapshot = service_of(self).balancer.snapshot
        return {endpoint.authority for endpoint in snapshot.endpoints} if snapshot else set()

    @property
    def parked(self) -> set[str]:
        """The addresses that are known and not picked from now."""
        snapshot = service_of(self).balancer.snapshot
        return {endpoint.ip for endpoint in snapshot.parked} if snapshot else set()

    @property
    def in_flight(self) -> int:
        return sum(view.in_flight for view in self.endpoints())

    def wait_used(self, *addresses: str, timeout: float = PATIENCE) -> None:
        """Wait until exactly these addresses are picked from."""
        wanted = set(addresses)
        try:
            wait_for(lambda: self.used == wanted, timeout)
        except AssertionError:
            raise AssertionError(
                f"not within {timeout} s: {sorted(wanted)}; in use: {sorted(self.used)}; {self.health()}"
            ) from None

    def wait_told(self, text: str, timeout: float = PATIENCE) -> None:
        """Wait until health holds this error."""
        wait_for(lambda: text in self.health().error, timeout, what=f"health to say {text!r}, not {self.health()}")

    def wait_well(self, timeout: float = PATIENCE) -> None:
        """Wait until health holds no error: an endpoint may be in use a moment before that is so."""
        wait_for(lambda: not self.health().error, timeout, what=f"the end of {self.health()}")

    def stays(self, *addresses: str, seconds: float) -> None:
        """Fail if within this time anything else is picked from."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            assert self.used == set(addresses), self.health()
            time.sleep(0.02)


class Balancers:
    """Makes load balancers and closes them with the test."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig
        self._all: list[Balancer] = []

    def __call__(self, target: str, *, kubeconfig: Path | None = None, **options: Any) -> Balancer:
        """A load balancer that is not ready yet, with the admin's kubeconfig unless given another."""
        made = Balancer(target, kubeconfig=str(kubeconfig or self._kubeconfig), **options)
        self._all.append(made)
        return made

    def ready(self, target: str, *addresses: str, **options: Any) -> Balancer:
        """A load balancer that has synced, and uses exactly these addresses. Its watch may not be open yet."""
        made = self(target, **options)
        with suppress(NoEndpoints, UnknownService):  # the slice controller may be behind the test's pods
            made.wait_ready(30.0)
        made.wait_used(*addresses)
        made.wait_ready(1.0)
        return made

    def __enter__(self) -> Balancers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close all in time, and look after what they leave."""
        took = [elapsed(each.close) for each in self._all]
        wait_for(lambda: not threads(), 2.0, what="the threads of closed load balancers to end")
        assert all(each.own <= CLOSE_TIMEOUT for each in took), f"close() took {took}"
        assert not any(each.in_flight for each in self._all)


def threads(prefix: str = "kubelb-") -> list[str]:
    """The names of kubelb's threads that run now; look-ups of names may outlive whoever asked."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith(prefix) and not name.startswith("kubelb-lookup")]


def sockets_to(port: int) -> int:
    """How many sockets this process has that are connected, or connecting, to a port on loopback."""
    own = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            own.add(str(descriptor.readlink()))
        except OSError:
            continue  # the one that lists them
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return sum(1 for row in rows if int(row[2].split(":")[1], 16) == port and f"socket:[{row[9]}]" in own)
