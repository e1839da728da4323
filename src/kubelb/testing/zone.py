"""What CoreDNS's kubernetes plugin says of Services: names to records, as pure functions.

As a CoreDNS with `endpoint_pod_names` answers, which is what tests/contract holds both to:

- A Service with a cluster IP: that address; SRV leads to the Service's own name.
- A headless one: its ready endpoints, each with a name of its own below the Service's. Without any, NXDOMAIN: the name
  does not exist then. Other endpoints are never told.
- SRV of a port's name, or of the Service itself for every port. Weights are a share of 100, and equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["DOMAIN", "Answer", "Record", "Zone"]

DOMAIN = "cluster.local."
Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """One record: its owner, its kind and its text."""

    name: str
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What is to be said. `exists` False is NXDOMAIN; an answer without records is NODATA."""

    records: Sequence[Record] = ()
    extra: Sequence[Record] = field(default=())
    exists: bool = True


GONE = Answer(exists=False)


@dataclass(frozen=True, slots=True)
class _Pod:
    label: str
    address: str
    ports: Sequence[tuple[str, str, int]]


class Zone:
    """`find_service` gives a Service object by namespace and name, or None; `find_slices` its slices."""

    def __init__(
        self,
        find_service: Callable[[str, str], Object | None],
        find_slices: Callable[[str, str], Sequence[Object]],
        namespaces: Callable[[], set[str]],
    ) -> None:
        self._find_service = find_service
        self._find_slices = find_slices
        self._namespaces = namespaces

    def ask(self, name: str, kind: str) -> Answer | None:
        """The answer for a complete name in lower case, with a dot at its end; None for another zone's."""
        if name != DOMAIN and not name.endswith(f".{DOMAIN}"):
            return None
        labels = name.removesuffix(DOMAIN).rstrip(".").split(".")
        if labels in ([""], ["svc"]) or (len(labels) == 2 and labels[1] == "svc" and labels[0] in self._namespaces()):
            return Answer()
        if len(labels) < 3 or labels[-1] != "svc":
            return GONE
        service = self._find_service(labels[-2], labels[-3])
        if service is None:
            return GONE
        host = ".".join([*labels[-3:], DOMAIN])
        rest = labels[:-3]
        if service["spec"]["clusterIP"] != "None":
            return self._virtual(service, name, host, rest, kind)
        pods = list(_ready(self._find_slices(labels[-2], labels[-3])))
        return _headless(pods, name, host, rest, kind)

    def _virtual(self, service: Object, name: str, host: str, rest: list[str], kind: str) -> Answer:
        address = service["spec"]["clusterIP"]
        wanted = _port_of(rest)
        ports = [
            port
            for port in service["spec"]["ports"]
            if wanted in (None, (port["name"], port.get("protocol", "TCP").lower()))
        ]
        if not ports or wanted == ("", ""):
            return GONE
        if kind == "SRV":
            share = max(1, 100 // len(ports))
            found = [Record(name, "SRV", f"0 {share} {port['port']} {host}") for port in ports]
            return Answer(found, [_address(host, address)])
        return Answer([record for record in [_address(name, address)] if record.kind == kind])


def _headless(pods: list[_Pod], name: str, host: str, rest: list[str], kind: str) -> Answer:
    if len(rest) == 1:
        pods = [pod for pod in pods if pod.label == rest[0]]
        wanted = None
    else:
        wanted = _port_of(rest)
    found = [
        (pod, port)
        for pod in pods
        for port in pod.ports or [("", "", -1)]
        if wanted in (None, (port[0], port[1].lower()))
    ]
    if not found or wanted == ("", ""):
        return GONE
    if kind == "SRV":
        found = [(pod, port) for pod, port in found if port[2] > 0]
        share = max(1, 100 // max(1, len(found)))
        records = [Record(name, "SRV", f"0 {share} {port[2]} {pod.label}.{host}") for pod, port in found]
        extra = {_address(f"{pod.label}.{host}", pod.address): None for pod, _ in found}
        return Answer(records, list(extra))
    addresses = {_address(name, pod.address): None for pod, _ in found}
    return Answer([record for record in addresses if record.kind == kind])


def _port_of(rest: list[str]) -> tuple[str, str] | None:
    """The port and the protocol that a name asks about; None for every port, ("", "") for nonsense."""
    if not rest:
        return None
    if len(rest) == 2 and all(label.startswith("_") for label in rest):
        return rest[0][1:], rest[1][1:]
    return "", ""


def _ready(slices: Sequence[Object]) -> Iterator[_Pod]:
    for piece in slices:
        ports = [
            (port.get("name") or "", port.get("protocol") or "TCP", port.get("port") or -1)
            for port in piece.get("ports") or []
        ]
        for endpoint in piece.get("endpoints") or []:
            if (endpoint.get("conditions") or {}).get("ready") is False:
                continue
            for address in endpoint["addresses"]:
                yield _Pod(_label(endpoint, address), address, ports)


def _label(endpoint: Object, address: str) -> str:
    if endpoint.get("hostname"):
        return str(endpoint["hostname"])
    pod = str((endpoint.get("targetRef") or {}).get("name") or "")
    if pod and len(pod) < 64 and "." not in pod:
        return pod
    dashed = address.replace(".", "-").replace(":", "-")
    return f"{dashed}0" if dashed.endswith("-") else dashed


def _address(name: str, address: str) -> Record:
    return Record(name, "AAAA" if ":" in address else "A", address)
