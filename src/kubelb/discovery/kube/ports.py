"""Which port of a slice is meant: by name, by number, or the only one there is.

A slice's ports are the *endpoint's* ports under the *Service* port's names, so one name may have another number in
another slice (a named targetPort), and a slice may lack the name altogether (a rollout that adds a port). Only TCP is
spoken here; a UDP port of the same name is another port. A nil name is "" (kube-proxy skips those ports; read literally
it is the name of the unnamed port), a nil protocol is TCP, a nil or zero number is no port (kube-proxy the same).
"""

from collections import Counter
from collections.abc import Iterable

from kubelb.discovery.kube.wire import Port

__all__ = ["PortTable", "Ports", "pick_port", "tcp_ports"]

Ports = tuple[tuple[str, int, str], ...]
"""The TCP ports of a slice as (name, number, app protocol), in the slice's order."""


def tcp_ports(ports: Iterable[Port] | None) -> Ports:
    """The ports of a slice that can be meant at all."""
    return tuple(
        (port.name or "", port.port, port.app_protocol or "")
        for port in ports or ()
        if port.port and 0 < port.port < 65536 and (port.protocol or "TCP") == "TCP"
    )


def pick_port(ports: Ports, wanted: str | int) -> tuple[int, str] | None:
    """The number to dial and the app protocol, None where the slice has no such port. `wanted` "" is the only one."""
    if wanted == "":
        return ports[0][1:] if len(ports) == 1 else None
    field = 1 if isinstance(wanted, int) else 0
    for port in ports:
        if port[field] == wanted:
            return port[1:]
    return None


class PortTable:
    """All ports of all slices, counted, so that a slice's change costs its own few ports and not every slice's."""

    __slots__ = ("_counts", "_names", "texts")

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, int]] = Counter()
        self._names: Counter[str] = Counter()
        self.texts: tuple[str, ...] = ()
        """As ``name:number``, for error messages."""

    def change(self, old: Ports, new: Ports) -> bool:
        """Exchange one slice's ports; True if what there is changed."""
        if old == new:
            return False
        for name, number, _ in new:
            self._counts[name, number] += 1
            self._names[name] += 1
        for name, number, _ in old:
            self._counts[name, number] -= 1
            self._names[name] -= 1
        self._counts, self._names = +self._counts, +self._names
        before = self.texts
        self.texts = tuple(f"{name}:{number}" for name, number in sorted(self._counts))
        return before != self.texts

    def has(self, wanted: str | int) -> bool:
        """Whether any slice has the port that is wanted; of "" whether there is exactly one name."""
        if wanted == "":
            return len(self._names) == 1
        if isinstance(wanted, int):
            return any(number == wanted for _, number in self._counts)
        return wanted in self._names

    @property
    def names(self) -> int:
        """How many names there are."""
        return len(self._names)
