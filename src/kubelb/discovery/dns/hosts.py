"""Names that ``/etc/hosts`` knows, read again when the file has changed: there libc looks before it asks DNS.

So ``dns:///localhost:80`` and the hostAliases of a pod mean here what they mean to every other program. A name is
looked up as it was given, in any case, not along the search list. All its lines count, IPv4 and IPv6. ``localhost`` and
what is below it need no line (RFC 6761, 6.3).
"""

import ipaddress
import os
from pathlib import Path
from types import MappingProxyType

from kubelb.discovery.dns.steps import Hosts

__all__ = ["ETC_HOSTS", "HostsFile", "listed"]

ETC_HOSTS = "/etc/hosts"
LOOPBACK = "127.0.0.1", "::1"


class HostsFile:
    """One file. What cannot be read knows no name; what makes no sense in it costs its own line."""

    def __init__(self, path: str = ETC_HOSTS) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._hosts: Hosts = MappingProxyType({})

    def hosts(self) -> Hosts:
        """Addresses by name, as the file says now."""
        try:
            found = os.stat(self._path)  # noqa: PTH116 - one call a refresh, and no path is wanted
            stamp = found.st_mtime_ns, found.st_size, found.st_ino
            if stamp != self._stamp:
                text = Path(self._path).read_text(encoding="utf-8", errors="replace")
                self._stamp, self._hosts = stamp, _parse(text)
        except OSError:
            self._stamp, self._hosts = None, MappingProxyType({})
        return self._hosts


def listed(hosts: Hosts, name: str) -> tuple[str, ...]:
    """The addresses of a name in lower case; none for one that DNS is to be asked for."""
    found = hosts.get(name, ())
    return LOOPBACK if not found and (name == "localhost" or name.endswith(".localhost")) else found


def _parse(text: str) -> Hosts:
    hosts: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        try:
            ip = str(ipaddress.ip_address(address))
        except ValueError:
            continue
        if "%" in ip:  # a link's own, as fe80::1%lo0: of no use to a client that dials addresses
            continue
        for name in {each.lower() for each in names}:
            if ip not in hosts.get(name, ()):
                hosts[name] = (*hosts.get(name, ()), ip)
    return MappingProxyType(hosts)
