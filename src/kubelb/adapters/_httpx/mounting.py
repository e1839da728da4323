"""The keys for ``mounts=`` under which a client finds a transport for every name of its service, in any environment.

httpx puts what ``NO_PROXY`` and the proxies of the environment say among the mounts, and the first that matches a URL
in this order has it: a port before none, a longer host before a shorter one, a longer scheme before a shorter one (or
``all``), the environment before us. ``NO_PROXY=reviews.prod`` becomes ``all://*reviews.prod``, one sign longer than the
mount ``http://reviews.prod``: the transport would never be asked, without a word.

So each name is mounted for all schemes, and what the environment has against it is answered as it is written:

    ``.prod:8080``                      has a port                  the name with that port too
    ``.prod`` beside the Service ``a``  as long, for all schemes    the name with each scheme too
    ``reviews.prod``, ``http://...``    comes first in any case     the very same key: ours replaces it

A key of the last kind may match other hosts as well (``all://*reviews.prod`` the pods of a StatefulSet); they go past
kubelb, as the environment wants it: directly (`beside.py`).
"""

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple
from urllib.request import getproxies

__all__ = ["keys"]

SCHEMES = "http", "https", "ws", "wss"


class Pattern(NamedTuple):
    """A key as httpx reads it."""

    key: str
    scheme: str
    """Empty for all."""
    host: str
    """Empty for all; a star before it for names that end so."""
    port: int | None
    network: str
    """``10.0.0.0/8``, where it stands for addresses; httpx2 alone matches those."""

    def matches(self, name: str) -> bool:
        """Whether it may match a URL with that host, of some scheme that HTTP clients know, with whatever port."""
        host = self.host
        if self.scheme and self.scheme not in SCHEMES:
            return False
        if self.network:
            return _within(name, self.network)
        if host.startswith("*."):
            return name.endswith(host[1:]) and name != host[1:]
        if host.startswith("*"):
            return name == host[1:] or name.endswith(f".{host[1:]}")
        return not host or name == host

    @property
    def exact(self) -> bool:
        """Whether it matches one host at most."""
        return bool(self.host) and not self.host.startswith("*") and not self.network


def keys(url: Callable[[str], Any], invalid: type[Exception], names: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Yield keys for the names, and whether each matches them alone.

    `url` and `invalid` are httpx's URL and InvalidURL. A name counts with and without a dot at its end, which an IPv6
    address cannot have. The environment is read now.
    """
    hosts = [host for name in names for host in ((name,) if ":" in name else (name, f"{name}."))]
    patterns = [pattern for key in _environment() if (pattern := _read(url, invalid, key))]
    for host in hosts:
        written = f"[{host}]" if ":" in host else host
        shown = url(f"all://{written}").host  # as httpx compares it: names of other scripts in their own letters
        against = [pattern for pattern in patterns if pattern.matches(shown)]
        for port in {None, *(pattern.port for pattern in against)}:
            place = written if port is None else f"{written}:{port}"
            yield f"all://{place}", True
            for pattern in against:
                if pattern.port != port or len(pattern.host) < len(shown):
                    continue
                if len(pattern.host) == len(shown) and not pattern.scheme:
                    yield from ((f"{scheme}://{place}", True) for scheme in SCHEMES)
                else:
                    yield pattern.key, pattern.exact


def _environment() -> Iterator[str]:
    """Yield the keys that httpx, or httpx2, may make of ``NO_PROXY``; those of proxies have no host, and come last."""
    entries = [entry.strip() for entry in getproxies().get("no", "").split(",")]
    for entry in entries if "*" not in entries else ():  # a star alone: no proxies, no exceptions
        if "://" in entry:
            yield entry
        elif entry:
            yield f"all://{entry}"
            yield f"all://*{entry}"
            yield f"all://[{entry}]"
            address, slash, prefix = entry.partition("/")
            if slash:
                yield f"all://[{address}]/{prefix}"


def _read(url: Callable[[str], Any], invalid: type[Exception], key: str) -> Pattern | None:
    try:
        read = url(key)
    except invalid:
        return None
    scheme, host = "" if read.scheme == "all" else read.scheme, "" if read.host == "*" else read.host
    network = f"{host}{read.path}" if len(read.path) > 1 and host[-1:].isalnum() and _is_address(host) else ""
    return Pattern(key, scheme, host, read.port, network)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _within(name: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(name) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
