"""What there is: services with slices with pods; and the next change to them, drawn from a dice.

A pod is *over* from the change on after which it must not be used again: that it terminates, or that it is gone. Three
rules make "used again after it was over" mean a fault and nothing else, also where a stream tells an hour of history at
once:
- an address is never given to a second pod;
- a pod that was not ready for a while and is again is not over before all load balancers have caught up (`calm`);
- a service that exists always has ready pods, so that terminating ones never stand in for them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

from tests.integration.api import Json
from tests.integration.cluster import SERVICE_LABEL

__all__ = ["PORT", "Change", "Pod", "Service", "World"]

PORT = 8080
LEAST, MOST = 3, 7
"""Pods of a service, about."""
MOST_SLICES = 3


@dataclass
class Pod:
    """`state` is "ready", "unready" or "terminating"."""

    address: str
    state: str = "ready"
    flickered: bool = False
    """Whether it was not ready for a while since everything was calm last."""

    def endpoint(self, namespace: str) -> Json:
        """As it stands in a slice."""
        name = f"pod-{self.address.replace('.', '-')}"
        return {
            "addresses": [self.address],
            "conditions": {
                "ready": self.state == "ready",
                "serving": self.state != "unready",
                "terminating": self.state == "terminating",
            },
            "targetRef": {"kind": "Pod", "namespace": namespace, "name": name, "uid": f"uid-{name}"},
        }


@dataclass
class Service:
    """`live`: requests are made to it. `ladder`: DNS may stand in for its slices."""

    name: str
    live: bool
    ladder: bool
    namespace: str = "soak"
    slices: dict[str, list[Pod]] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def pods(self) -> list[Pod]:
        return [pod for pods in self.slices.values() for pod in pods]

    @property
    def ready(self) -> list[Pod]:
        return [pod for pod in self.pods if pod.state == "ready"]


@dataclass(frozen=True)
class Change:
    """What is to be written: slices by name, None for one that is deleted; and whether the Service goes or comes."""

    service: Service
    kind: str
    slices: tuple[str, ...] = ()
    service_goes: bool = False
    service_comes: bool = False


class World:
    """All services. One thread changes it; `over` may be read by any."""

    def __init__(self, services: list[Service], dice: random.Random) -> None:
        self.services = services
        self.over: dict[str, float] = {}
        """When each address was over."""
        self.owner: dict[str, Service] = {}
        self.on_birth: Callable[[Service, Pod], None] = lambda service, pod: None
        """Called before a new pod is in a slice: its server has to listen then."""
        self._dice = dice
        self._addresses = (f"10.244.{high}.{low}" for high in range(1, 250) for low in range(1, 255))

    def populate(self) -> list[Change]:
        """The beginning: two slices for each service."""
        changes = []
        for service in self.services:
            names = [self._new_slice(service), self._new_slice(service)]
            changes.append(Change(service, "begin", tuple(names), service_comes=True))
        return changes

    def calm(self) -> None:
        """Every load balancer has caught up."""
        for service in self.services:
            for pod in service.pods:
                pod.flickered = False

    def body(self, service: Service, name: str) -> Json | None:
        """A slice as it is written; None for one that is no more."""
        pods = service.slices.get(name)
        if pods is None:
            return None
        return {
            "metadata": {"name": name, "namespace": service.namespace, "labels": {SERVICE_LABEL: service.name}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": PORT}],
            "endpoints": [pod.endpoint(service.namespace) for pod in pods],
        }

    def usable(self) -> dict[str, set[str]]:
        """What was written: the addresses with port that each service's requests may go to."""
        return {each.name: {f"{pod.address}:{PORT}" for pod in each.ready} for each in self.services}

    def change(self) -> Change:
        """Make one change here, and tell what of it is to be written."""
        while True:
            service = self._dice.choice(self.services)
            if not service.slices:
                names = (self._new_slice(service), self._new_slice(service))
                return Change(service, "service created", names, service_comes=True)
            kinds = (self._come, self._go, self._flicker, self._terminate, self._create, self._delete, self._end)
            kind = self._dice.choices(kinds, (30, 20, 15, 15, 8, 8, 1))[0]
            if (change := kind(service)) is not None:
                return change

    # -- one kind of change each; None where it cannot be now

    def _come(self, service: Service) -> Change | None:
        if len(service.pods) >= MOST:
            return None
        name = self._dice.choice(list(service.slices))
        service.slices[name].append(self._new_pod(service))
        return Change(service, "pod came", (name,))

    def _go(self, service: Service) -> Change | None:
        leaving = [pod for pod in service.pods if pod.state == "terminating"]
        pods = leaving or (self._spare(service) if len(service.ready) > LEAST else [])
        if not pods:
            return None
        pod = self._dice.choice(pods)
        name = next(name for name, pods in service.slices.items() if pod in pods)
        self._finish(pod)
        service.slices[name].remove(pod)
        return Change(service, "pod went", (name,))

    def _flicker(self, service: Service) -> Change | None:
        out = [pod for pod in service.pods if pod.state == "unready"]
        pods = out or (service.ready if len(service.ready) > LEAST else [])
        if not pods:
            return None
        pod = self._dice.choice(pods)
        pod.state, pod.flickered = ("ready" if out else "unready"), True
        return Change(service, "readiness", (self._where(service, pod),))

    def _terminate(self, service: Service) -> Change | None:
        pods = self._spare(service)
        if len(service.ready) <= LEAST or not pods:
            return None
        pod = self._dice.choice(pods)
        pod.state = "terminating"
        self._finish(pod)
        return Change(service, "pod terminates", (self._where(service, pod),))

    def _create(self, service: Service) -> Change | None:
        if len(service.slices) >= MOST_SLICES or len(service.pods) >= MOST:
            return None
        return Change(service, "slice created", (self._new_slice(service),))

    def _delete(self, service: Service) -> Change | None:
        """A slice with all in it, where enough others remain."""
        for name in self._dice.sample(sorted(service.slices), len(service.slices)):
            pods = service.slices[name]
            rest = [pod for pod in service.ready if pod not in pods]
            if len(rest) >= 2 and not any(pod.flickered for pod in pods):
                for pod in pods:
                    self._finish(pod)
                del service.slices[name]
                return Change(service, "slice deleted", (name,))
        return None

    def _end(self, service: Service) -> Change | None:
        """The Service and all its slices; made anew by a later change."""
        if service.live or any(pod.flickered or pod.state == "terminating" for pod in service.pods):
            return None
        for pod in service.pods:
            self._finish(pod)
        names = tuple(service.slices)
        service.slices.clear()
        return Change(service, "service deleted", names, service_goes=True)

    # -- helpers

    def _spare(self, service: Service) -> list[Pod]:
        return [pod for pod in service.ready if not pod.flickered]

    def _where(self, service: Service, pod: Pod) -> str:
        return next(name for name, pods in service.slices.items() if pod in pods)

    def _new_slice(self, service: Service) -> str:
        name = f"{service.name}-{next(service.numbers) % 5}"  # names come back, as do those written by hand
        while name in service.slices:
            name = f"{service.name}-{next(service.numbers) % 5}"
        service.slices[name] = [self._new_pod(service) for _ in range(2)]
        return name

    def _new_pod(self, service: Service) -> Pod:
        pod = Pod(next(self._addresses))
        self.owner[pod.address] = service
        self.on_birth(service, pod)
        return pod

    def _finish(self, pod: Pod) -> None:
        self.over.setdefault(pod.address, time.monotonic())
