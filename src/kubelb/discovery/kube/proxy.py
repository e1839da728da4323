"""HTTPS_PROXY and NO_PROXY as Go programs read them (golang.org/x/net/http/httpproxy).

Unlike Python's own reading, NO_PROXY may hold networks (10.96.0.0/12), which is how clusters exempt their API server.
"""

import base64
import ipaddress
import os
import re
from urllib.parse import unquote_to_bytes, urlsplit

from kubelb.discovery.kube.site import is_name
from kubelb.masking import remember

__all__ = ["ProxyHandshakeError", "TunnelError", "environment_proxy", "exempt", "flaw", "login_of"]


class TunnelError(OSError):
    """A proxy that does not let us through, and the status that it says so with."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the proxy answers {status}")
        self.status = status


class ProxyHandshakeError(OSError):
    """The TLS handshake with a proxy of https failed, before the server was asked for; its cause says how."""


def environment_proxy(server: str) -> str | None:
    """The proxy for this server, None for a direct connection, or where the server's URL makes no sense."""
    try:
        proxy = _variable(f"{urlsplit(server).scheme.upper()}_PROXY")
        if not proxy or exempt(server, _variable("NO_PROXY")):
            return None
    except ValueError:  # a port that is none, brackets that do not end
        return None
    return proxy if "://" in proxy or _SLIP.match(proxy) else f"http://{proxy}"


_SLIP = re.compile(r"https?:", re.IGNORECASE)
"""A scheme with a slash too few, and not a host of that name: `flaw` tells of it."""


def flaw(proxy: str) -> str:
    """What is wrong with where a proxy's URL leads, "" for nothing. Nothing of it is repeated: it may hold a password.

    Without a host the server itself would be dialled, and be shown the login of the proxy.

    >>> flaw("http:/proxy.test:3128"), flaw("http://proxy.test:3128")
    ('it names no host', '')
    """
    try:
        parts = urlsplit(proxy)
        number, host = parts.port, parts.hostname
    except ValueError:  # brackets that are no IPv6 address, a port that is none
        return "its host or port makes no sense"
    if "@" in f"{parts.path}{parts.query}{parts.fragment}":
        return "an '@' stands behind a '/', '?' or '#'; what is special in a login has to be %-encoded"
    if not host:
        return "it names no host"
    if not is_name(host):
        return "its host is no name"
    return "its port is 0" if number == 0 else ""


def login_of(proxy: str) -> str | None:
    """The Proxy-Authorization header for the login in a proxy's URL, None where there is none.

    What is special in a URL stands %-encoded in it, and as it is, in UTF-8, in the header.

    >>> login_of("http://me%40corp:p%3Aw@proxy.test:3128") == "Basic " + base64.b64encode(b"me@corp:p:w").decode()
    True
    """
    user, at, _ = urlsplit(proxy).netloc.rpartition("@")
    if not at:
        return None
    name, _, password = user.partition(":")
    login = unquote_to_bytes(name) + b":" + unquote_to_bytes(password)
    remember(unquote_to_bytes(password).decode("utf-8", "replace"))
    header = f"Basic {base64.b64encode(login).decode()}"
    remember(header)
    return header


def exempt(server: str, no_proxy: str) -> bool:
    """Whether NO_PROXY names the server; a loopback address always is.

    >>> exempt("https://10.96.0.1:443", "10.96.0.0/12"), exempt("https://api.example.com", ".example.com")
    (True, True)
    >>> exempt("https://example.org", "example.com, ample.org")
    False
    """
    parts = urlsplit(server)
    host = (parts.hostname or "").lower()
    port = str(parts.port or (443 if parts.scheme == "https" else 80))
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(_names(entry.strip().lower(), host, port, address) for entry in no_proxy.split(","))


def _names(entry: str, host: str, port: str, address: "ipaddress.IPv4Address | ipaddress.IPv6Address | None") -> bool:
    if entry in {"", "*"}:
        return entry == "*"
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, colon, wanted = entry.rpartition(":")
    if colon and wanted.isdigit() and (":" not in name or name.startswith("[")):
        if wanted != port:
            return False
        entry = name
    entry = entry.removeprefix("[").removesuffix("]")
    if address is not None:
        return _address(entry) == address
    entry = entry.removeprefix("*")
    return host.endswith(entry) if entry.startswith(".") else host == entry or host.endswith(f".{entry}")


def _address(text: str) -> "ipaddress.IPv4Address | ipaddress.IPv6Address | None":
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _variable(name: str) -> str:
    return os.environ.get(name) or os.environ.get(name.lower()) or ""
