"""Which nameservers to ask: the target's, or those of ``/etc/resolv.conf``, read again when it has changed.

On Windows, which has no such file, dnspython reads the registry.
"""

import os
from pathlib import Path

from kubelb.discovery.dns.resolvconf import parse, suffixes
from kubelb.discovery.dns.steps import Config, Failure
from kubelb.model import Address

__all__ = ["RESOLV_CONF", "Nameservers"]

RESOLV_CONF = "/etc/resolv.conf"


class Nameservers:
    """`given` takes the place of the file's nameservers; its search list and options count all the same."""

    def __init__(self, given: Address | None = None, path: str = RESOLV_CONF) -> None:
        self._given = given
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._config: Config | None = None

    def config(self) -> Config | Failure:
        """What holds now; the last one that could be read while the file cannot be."""
        stamp = self._look()
        if self._config is not None and stamp in (None, self._stamp):
            return self._config
        found = self._read()
        if found is not None and self._given is not None:
            found = found._replace(servers=(self._given,))
        if found is not None and found.servers:
            self._config, self._stamp = found, stamp
            return found
        if self._config is not None:  # the file is being written
            return self._config
        if self._given is not None:
            return Config((self._given,))
        reason = f"no nameserver is known: {self._path} cannot be read, or names none"
        return Failure("unreachable", reason, "name one in the target: dns+srv://NAMESERVER/...")

    def _look(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)  # noqa: PTH116 - one call a refresh, and no path is wanted
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    def _read(self) -> Config | None:
        try:
            return parse(Path(self._path).read_text(encoding="utf-8", errors="replace"))
        except OSError:
            return _registry() if os.name == "nt" else None


def _registry() -> Config | None:
    import dns.resolver

    try:
        resolver = dns.resolver.Resolver()
    except dns.resolver.NoResolverConfiguration:
        return None
    servers = tuple((str(each), resolver.port) for each in resolver.nameservers)
    domains = [str(name) for name in resolver.search or [resolver.domain]]
    return parse("")._replace(servers=servers, search=suffixes(domains))
