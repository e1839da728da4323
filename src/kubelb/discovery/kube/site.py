"""Where a URL leads, in the three forms that a connection needs: to look up, to be certified, to be written in Host."""

from urllib.parse import quote, urlsplit

__all__ = ["Site", "is_name"]


def is_name(host: str) -> bool:
    """Whether a host could be one: sockets and TLS write it by IDNA, and raise `UnicodeError` for what is none.

    >>> is_name("api.test"), is_name("bücher.test."), is_name("fe80::1%eth0.5"), is_name("api..test")
    (True, True, True, False)
    """
    name = host.partition("%")[0].removesuffix(".")
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError:
            return False
    return all(0 < len(label) < 64 for label in name.split("."))  # RFC 1035


class Site:
    """The server, or the proxy, of a URL that `Access.check` has let through."""

    __slots__ = ("authority", "host", "name", "port", "prefix", "scheme", "tls")

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        host, _, zone = (parts.hostname or "").partition("%")
        self.scheme = parts.scheme
        self.tls = parts.scheme == "https"
        default = 443 if self.tls else 80
        self.port = parts.port or default
        self.host = f"{host}%{zone.removeprefix('25')}" if zone else host
        """What is looked up: with the zone of a link-local address (RFC 6874), and a last dot, which ends searching."""
        self.name = host.rstrip(".")
        """What a certificate names: without both."""
        self.authority = _bracketed(self.name) if self.port == default else f"{_bracketed(self.name)}:{self.port}"
        self.prefix = quote(parts.path, safe="/%:@!$&'()*+,;=~")
        """What stands in front of each path: Rancher's servers have one."""

    @property
    def place(self) -> str:
        """HOST:PORT, as CONNECT asks for it."""
        return f"{_bracketed(self.name)}:{self.port}"


def _bracketed(name: str) -> str:
    if ":" in name:
        return f"[{name}]"
    return name if name.isascii() else name.encode("idna").decode("ascii")
