"""A fixed list of addresses: one Snapshot, complete from the start, and nothing that could fail.

    static:///10.0.0.1:8080,10.0.0.2:8080

No thread, no connection, no clock. `resync_now` hands the same Snapshot out again, which changes nothing for a reader.
"""

import ipaddress
from collections.abc import Callable, Iterable

from kubelb.core.events import Emit, Skipped, discard
from kubelb.discovery.special import CURE, left_out, screened, special
from kubelb.model import Address, Endpoint, Health, Snapshot

__all__ = ["StaticDiscovery"]


class StaticDiscovery:
    """Endpoints given by hand, for tests, for local work, and as the last rung of a ladder."""

    def __init__(
        self,
        addresses: Iterable[Address | Endpoint],
        *,
        allow_special_addresses: bool = False,
        service: str = "static",
        emit: Emit = discard,
    ) -> None:
        """Addresses that are no server's are left out, and told, unless `allow_special_addresses`."""
        given = [item if isinstance(item, Endpoint) else Endpoint(_canonical(item[0]), item[1]) for item in addresses]
        endpoints = tuple({endpoint.address: endpoint for endpoint in given}.values())
        ports = tuple(f":{port}" for port in sorted({endpoint.port for endpoint in endpoints}))
        endpoints, self._refused = (endpoints, ()) if allow_special_addresses else screened(endpoints)
        problem = "" if endpoints else "the static list is empty"
        if self._refused and not endpoints:
            problem = f"the static list has only {left_out(self._refused)}; {CURE}"
        for ip in sorted(set(self._refused)):
            emit(Skipped(service, ip, f"it is {special(ip)} and no server's address; {CURE}"))
        self._snapshot = Snapshot(1, endpoints, ports=ports, problem=problem)
        self._news = True

    def __repr__(self) -> str:
        return f"<StaticDiscovery {len(self._snapshot.endpoints)} endpoints>"

    def start(self, notify: Callable[[], None]) -> None:
        """There is news at once."""
        self._news = True
        notify()

    def poll(self, now: float) -> tuple[Snapshot | None, float | None]:  # noqa: ARG002
        """Return the one Snapshot, once after each start."""
        news, self._news = self._news, False
        return (self._snapshot if news else None), None

    def health(self) -> Health:
        """Always synced; what never changes has no age."""
        error, cure = (f"left out are {left_out(self._refused)}", CURE) if self._refused else ("", "")
        return Health("static", synced=True, age=0.0, error=error, cure=cure)

    def resync_now(self) -> None:
        """Nothing to fetch."""

    def stop(self) -> None:
        """Nothing to end."""


def _canonical(host: str) -> str:
    """One text for one address; a host name is left as it is."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host
