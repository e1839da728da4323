"""``"kube:///reviews.prod:http"`` -> Target.

Parsed by hand: `urllib.parse.urlsplit` takes ``reviews.prod`` in ``reviews.prod:http`` for a scheme.

    kube:///SVC.NS:PORT         EndpointSlices of a Service; PORT is a port's name, or an endpoint's port number
    static:///IP:PORT,IP:PORT   a fixed list
    SVC.NS:PORT                 the same as kube:///
"""

import ipaddress
import re
from dataclasses import dataclass

from kubelb.errors import TargetError
from kubelb.model import Address

__all__ = ["Target", "parse_target"]

# RFC 1035 labels, as Kubernetes demands of Service names; namespaces may begin with a digit (RFC 1123).
_SERVICE = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
# IANA_SVC_NAME for container ports; Service port names are DNS labels of up to 63 characters.
_PORT_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_SHAPES = "SVC.NS:PORT, kube:///SVC.NS:PORT or static:///IP:PORT,IP:PORT"


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed name. `port` is a port's name or number, "" where none was given (one port, then)."""

    scheme: str
    service: str = ""
    namespace: str = ""
    port: str | int = ""
    addresses: tuple[Address, ...] = ()

    def __str__(self) -> str:
        if self.scheme == "static":
            hosts = (f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for ip, port in self.addresses)
            return f"static:///{','.join(hosts)}"
        return f"{self.service}.{self.namespace}" + (f":{self.port}" if self.port != "" else "")

    @property
    def host(self) -> str:
        """``svc.ns``, "" for a static list."""
        return f"{self.service}.{self.namespace}" if self.service else ""


def parse_target(text: str) -> Target:
    """Parse one of the shapes above; raises `TargetError` that names the text, the place and the cure.

    >>> parse_target("reviews.prod:http")
    Target(scheme='kube', service='reviews', namespace='prod', port='http', addresses=())
    >>> str(parse_target("static:///127.0.0.1:80,[::1]:80"))
    'static:///127.0.0.1:80,[::1]:80'
    """
    if not isinstance(text, str):
        raise TargetError(f"a target is a string such as 'reviews.prod:http', not {type(text).__name__}")
    scheme, separator, rest = text.partition("://")
    if not separator:
        return _kube(text, text)
    if scheme not in ("kube", "static"):
        raise TargetError(f"target {text!r}: unknown scheme {scheme!r}; give {_SHAPES}")
    if not rest.startswith("/"):
        raise TargetError(f"target {text!r}: no authority is allowed here; write {scheme}:/// with three slashes")
    return _kube(text, rest[1:]) if scheme == "kube" else _static(text, rest[1:])


def _kube(text: str, name: str) -> Target:
    host, colon, port = name.partition(":")
    service, dot, namespace = host.partition(".")
    if "/" in name:
        raise TargetError(f"target {text!r}: unexpected '/'; give {_SHAPES}")
    if not dot or not namespace:
        raise TargetError(f"target {text!r}: no namespace in {host!r}; give SVC.NS:PORT, as reviews.prod:http")
    if not _SERVICE.match(service):
        raise TargetError(f"target {text!r}: {service!r} is no Service name (lower case letters, digits and '-')")
    if not _NAMESPACE.match(namespace):
        hint = "; leave out '.svc' and the cluster domain" if ".svc" in namespace else ""
        raise TargetError(f"target {text!r}: {namespace!r} is no namespace (lower case letters, digits and '-'){hint}")
    return Target("kube", service, namespace, _port(text, port) if colon else "")


def _port(text: str, port: str) -> str | int:
    if port.isascii() and port.isdigit():
        return _number(text, port)
    if not _PORT_NAME.match(port):
        raise TargetError(f"target {text!r}: {port!r} is neither a port's name nor a number from 1 to 65535")
    return port


def _number(text: str, port: str) -> int:
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise TargetError(f"target {text!r}: {port!r} is no port number from 1 to 65535")
    return int(port)


def _static(text: str, names: str) -> Target:
    addresses: list[Address] = []
    for item in names.split(","):
        host, colon, port = item.strip().rpartition(":")
        if not colon or (":" in host and not host.startswith("[")):
            raise TargetError(f"target {text!r}: {item!r} has no port; give IP:PORT, an IPv6 address in brackets")
        try:
            if host.startswith("[") and host.endswith("]"):
                ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.IPv6Address(host[1:-1])
            else:
                ip = ipaddress.IPv4Address(host)
        except ValueError:
            raise TargetError(
                f"target {text!r}: {host!r} is no IP address; give IP:PORT, an IPv6 address in brackets"
            ) from None
        address = str(ip), _number(text, port)
        if address in addresses:
            raise TargetError(f"target {text!r}: {item!r} is given twice")
        addresses.append(address)
    return Target("static", addresses=tuple(addresses))
