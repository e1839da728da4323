"""``"kube:///reviews.prod:http"`` -> Target.

Parsed by hand: `urllib.parse.urlsplit` takes ``reviews.prod`` in ``reviews.prod:http`` for a scheme.

    kube:///SVC.NS:PORT         EndpointSlices of a Service; PORT is a port's name, or an endpoint's port number
    dns+srv://[NAMESERVER[:PORT]]/_PORT._tcp.HOST   SRV records: address, port and weight of each endpoint
    dns://[NAMESERVER[:PORT]]/HOST:PORT             A and AAAA records, and one port number for all of them
    static:///IP:PORT,IP:PORT   a fixed list
    SVC.NS:PORT                 kube:/// first, then DNS: the ladder
    SVC:PORT                    the same, in the caller's own namespace
    SVC.NS.svc[.DOMAIN]:PORT    the same, by its DNS name
    http[s]://any of these      the same, as other clients are given it

PORT is a number where it is one. With an underscore in front, as in SRV records, it is a name whatever it looks like:
``reviews.prod:_8080`` is the port that is *named* 8080.
"""

import ipaddress

from kubelb.errors import TargetError
from kubelb.masking import MASK
from kubelb.model import Address
from kubelb.records import record

__all__ = ["CLUSTER_DOMAIN", "Target", "check_domain", "domain_of", "is_namespace", "parse_nameserver", "parse_target"]

CLUSTER_DOMAIN = "cluster.local"
"""The domain that nearly every cluster has, and so the default."""

_ALPHANUMERIC = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_SHAPES = (
    "SVC:PORT, SVC.NS:PORT, kube:///SVC.NS:PORT, dns+srv:///_PORT._tcp.SVC.NS.svc.cluster.local, "
    "dns:///HOST:PORT or static:///IP:PORT,IP:PORT"
)


@record(frozen=True, slots=True)
class Target:
    """A parsed name. `port` is a port's name or number, "" where none was given (one port, then).

    `scheme` is "" for a bare ``SVC.NS:PORT``. `namespace` is "" with a `service` where it is the caller's own. `domain`
    is the cluster's, where it was given: ``SVC.NS.svc.DOMAIN``. `name` is what DNS is asked for, a dot at its end where
    one was given; `nameserver` is the one to ask, None for those of ``/etc/resolv.conf``. A DNS name of the form
    ``SVC.NS.svc.DOMAIN`` also sets `service` and `namespace`. `label` is what a Discovery of the user's own calls
    itself; nothing else is known of it.
    """

    scheme: str
    service: str = ""
    namespace: str = ""
    port: str | int = ""
    addresses: tuple[Address, ...] = ()
    name: str = ""
    nameserver: Address | None = None
    domain: str = ""
    label: str = ""

    def __str__(self) -> str:
        if self.label:
            return self.label
        if self.scheme == "static":
            return f"static:///{','.join(_authority(address) for address in self.addresses)}"
        if self.name:
            server = _authority(self.nameserver) if self.nameserver else ""
            return f"{self.scheme}://{server}/{self.name}" + (f":{self.port}" if self.scheme == "dns" else "")
        sign = ":_" if isinstance(self.port, str) and self.port.isdigit() else ":"
        domain = f".svc.{self.domain}" if self.domain else ""
        name = f"{self.host}{domain}" + (f"{sign}{self.port}" if self.port != "" else "")
        return f"kube:///{name}" if self.scheme else name

    @property
    def host(self) -> str:
        """``svc.ns``, or the DNS name of what is no Service; "" for a static list. Of the own namespace ``svc``."""
        if not self.service:
            return self.host_name
        return f"{self.service}.{self.namespace}" if self.namespace else self.service

    @property
    def host_name(self) -> str:
        """The host that DNS is asked about, as given and without a dot at its end; "" where DNS is not asked."""
        name = self.name.rstrip(".")
        return name.split(".", 2)[2] if self.scheme == "dns+srv" else name


def parse_target(text: str) -> Target:
    """Parse one of the shapes above; raises `TargetError` that names the text, the place and the cure.

    >>> parse_target("reviews.prod:http").service
    'reviews'
    >>> parse_target("dns+srv:///_http._tcp.reviews.prod.svc.cluster.local").port
    'http'
    >>> str(parse_target("static:///127.0.0.1:80,[::1]:80"))
    'static:///127.0.0.1:80,[::1]:80'
    >>> str(parse_target("https://reviews.prod.svc.cluster.local:8443/"))
    'reviews.prod.svc.cluster.local:8443'
    """
    if not isinstance(text, str):
        raise TargetError(f"a target is a string such as 'reviews.prod:http', not {type(text).__name__}")
    scheme, separator, rest = text.partition("://")
    if "@" in text:  # wherever it stands: a password may hold any sign, and nothing of it is repeated
        raise TargetError(
            f"target '{MASK}@': a target has no credentials, and an '@' says that some stand before it; a login has no "
            "place in a target; leave it out, and give it to the client, as in httpx.Client(auth=...)"
        )
    if not separator:
        return _kube(text, text, "")
    if scheme.lower() in ("http", "https"):
        return _url(text, scheme.lower(), rest)
    if scheme not in ("kube", "static", "dns", "dns+srv"):
        raise TargetError(f"target {text!r}: unknown scheme {scheme!r}; give {_SHAPES}")
    authority, slash, rest = rest.partition("/")
    if scheme in ("dns", "dns+srv"):
        if not slash:
            raise TargetError(f"target {text!r}: no name; write {scheme}:/// with three slashes before it")
        nameserver = _nameserver(f"target {text!r}", authority) if authority else None
        return _srv(text, rest, nameserver) if scheme == "dns+srv" else _host(text, rest, nameserver)
    if authority or not slash:
        raise TargetError(f"target {text!r}: no authority is allowed here; write {scheme}:/// with three slashes")
    return _kube(text, rest, scheme) if scheme == "kube" else _static(text, rest)


def _kube(text: str, name: str, scheme: str) -> Target:
    host, colon, port = name.partition(":")
    if "/" in name:
        raise TargetError(f"target {text!r}: unexpected '/'; give {_SHAPES}")
    if address := _address_in(name):
        before, _, number = name.rpartition(":")
        cure = name if before == address and number.isdigit() else "IP:PORT"
        raise TargetError(f"target {text!r}: {address!r} is an address, not a Service; give static:///{cure}")
    labels = host.split(".")
    service, namespace, domain = labels[0], "", ""
    if not host:
        raise TargetError(f"target {text!r}: no Service; give SVC.NS:PORT, as reviews.prod:http")
    if host == "localhost":
        raise TargetError(f"target {text!r}: 'localhost' is this machine, not a Service; give static:///127.0.0.1:PORT")
    if len(labels) > 1:
        namespace = labels[1]
        if not namespace:
            raise TargetError(f"target {text!r}: no namespace in {host!r}; give SVC.NS:PORT, as reviews.prod:http")
    if len(labels) > 2:
        domain = ".".join(labels[3:]).removesuffix(".").lower()
        if labels[2] != "svc" or (domain and not _is_name(domain)):
            cure = f"give dns:///{host}:{port if port.isdigit() else 'PORT'}" if _is_name(host.lower()) else _SHAPES
            raise TargetError(
                f"target {text!r}: {host!r} is neither SVC.NS nor SVC.NS.svc.DOMAIN; for another DNS name, "
                f"a pod's own, say, {cure}"
            )
    if not _is_label(service):
        raise TargetError(f"target {text!r}: {service!r} is no Service name (lower case letters, digits and '-')")
    if namespace and not _is_label(namespace):
        raise TargetError(f"target {text!r}: {namespace!r} is no namespace (lower case letters, digits and '-')")
    return Target(scheme, service, namespace, _port(text, port) if colon else "", domain=domain)


def _url(text: str, scheme: str, rest: str) -> Target:
    """A service as other clients are given it. Its scheme is the client's affair: what is dialled is the port."""
    place = rest.partition("/")[0].partition("?")[0].partition("#")[0]
    if rest[len(place) :] not in ("", "/"):
        raise TargetError(
            f"target {text!r}: a target names a Service, and no path or query; leave out what follows "
            f"{scheme}://{place}, for every request brings its own"
        )
    return _kube(text, place.lower(), "")


def _port(text: str, port: str) -> str | int:
    name = port.removeprefix("_")
    if name == port and port.isascii() and port.isdigit():
        return _number(f"target {text!r}", port)
    if not _is_label(name):
        raise TargetError(f"target {text!r}: {port!r} is neither a port's name nor a number from 1 to 65535")
    return name


def _number(place: str, port: str) -> int:
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise TargetError(f"{place}: {port!r} is no port number from 1 to 65535")
    return int(port)


def _srv(text: str, name: str, nameserver: Address | None) -> Target:
    shape = "dns+srv:///_http._tcp.reviews.prod.svc.cluster.local"
    if ":" in name:
        raise TargetError(f"target {text!r}: SRV records bring the port; name it in front, as in {shape}")
    name = _dns_name(text, name)
    port, protocol, host = (*name.split(".", 2), "", "")[:3]
    if protocol == "_udp":
        raise TargetError(f"target {text!r}: '_udp': kubelb balances what runs over TCP; give _PORT._tcp")
    if not port.startswith("_") or protocol != "_tcp" or not host.strip("."):
        raise TargetError(f"target {text!r}: {name!r} does not begin with _PORT._tcp. and a name, as {shape} does")
    port = port[1:]
    if not _is_label(port):
        raise TargetError(f"target {text!r}: {port!r} is no port's name (lower case letters, digits and '-')")
    return Target("dns+srv", *_service_of(host), port=port, name=name, nameserver=nameserver)


def _host(text: str, rest: str, nameserver: Address | None) -> Target:
    host, colon, port = rest.rpartition(":")
    if not colon or host.startswith("[") != host.endswith("]"):
        raise TargetError(f"target {text!r}: no port; A records hold none, so give dns:///HOST:PORT with a number")
    if _is_ip(host):
        raise TargetError(f"target {text!r}: {host!r} is an address, not a name; give static:///{rest}")
    if not (port.isascii() and port.isdigit()):
        cure = f"give a number, or dns+srv:///_{port or 'PORT'}._tcp.{host}"
        raise TargetError(f"target {text!r}: {port!r} is no port number, and A records know no names; {cure}")
    name = _dns_name(text, host)
    return Target("dns", *_service_of(name), port=_number(f"target {text!r}", port), name=name, nameserver=nameserver)


def _dns_name(text: str, name: str) -> str:
    """Lower case, as it was given otherwise: a dot at the end says that it is complete."""
    name = name.lower()
    if not _is_name(name):
        raise TargetError(f"target {text!r}: {name!r} is no DNS name (letters, digits, '-' and dots, 253 at most)")
    return name


def _is_name(name: str) -> bool:
    # Host names outside of Kubernetes may hold an underscore, and are case-insensitive (RFC 4343).
    labels = name.removesuffix(".").split(".")
    return len(name) <= 254 and all(_is_label(label.replace("_", "a")) for label in labels)


def _is_label(text: str) -> bool:
    """Whether it is a label of RFC 1123: a Service's name, a namespace's, a port's.

    Kubernetes demanded RFC 1035 ones of Services, which begin with a letter, until KEP-5311. IANA_SVC_NAME is for
    container ports; the ports of a Service are DNS labels of up to 63 characters.
    """
    ends = {text[:1], text[-1:]}
    return len(text) <= 63 and ends <= _ALPHANUMERIC and _ALPHANUMERIC.issuperset(text.replace("-", ""))


def is_namespace(name: str) -> bool:
    """Whether a namespace can have this name."""
    return _is_label(name)


def check_domain(domain: object) -> None:
    """Raise `TargetError` for a cluster's domain that is no DNS name."""
    if not isinstance(domain, str) or not _is_name(domain.lower()):
        domain = f"{MASK}@" if isinstance(domain, str) and "@" in domain else domain
        raise TargetError(f"cluster_domain={domain!r}: give the domain that the cluster's DNS serves, as cluster.local")


def domain_of(target: Target, cluster_domain: str) -> str:
    """Return the cluster's domain: that of the target where it names one; raises `TargetError` where two are given."""
    check_domain(cluster_domain)
    if not target.domain:
        return cluster_domain
    if cluster_domain.lower().rstrip(".") not in (target.domain, CLUSTER_DOMAIN):
        raise TargetError(f"target '{target}' and cluster_domain={cluster_domain!r} name two domains; leave one out")
    return target.domain


def _service_of(host: str) -> tuple[str, str]:
    """The Service and the namespace that a name of the cluster speaks of; of any other name, none."""
    labels = host.rstrip(".").split(".")
    if len(labels) >= 3 and labels[2] == "svc" and _is_label(labels[0]) and _is_label(labels[1]):
        return labels[0], labels[1]
    return "", ""


def parse_nameserver(text: str) -> Address:
    """Parse ``IP``, ``IP:PORT`` or ``[IP]:PORT``; raises `TargetError`."""
    if not isinstance(text, str):
        raise TargetError(f"nameserver={text!r}: give IP or IP:PORT as a string")
    return _nameserver(f"nameserver={text!r}", text)


def _nameserver(place: str, authority: str) -> Address:
    if "@" in authority:
        raise TargetError(f"nameserver='{MASK}@': DNS knows no login; give IP or IP:PORT")
    host, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        host, port = authority, "53"
    inner = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not _is_ip(inner) or (":" in inner) != host.startswith("["):
        raise TargetError(f"{place}: {authority!r} is no nameserver; give IP or IP:PORT, an IPv6 address in brackets")
    return str(ipaddress.ip_address(inner)), _number(place, port)


def _address_in(name: str) -> str:
    """The IP address that stands where a Service should, as it was written; "" for none."""
    if name.startswith("["):
        return f"{name.partition(']')[0]}]"
    return next((each for each in (name, name.rpartition(":")[0], name.partition(":")[0]) if _is_ip(each)), "")


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return "%" not in host


def _static(text: str, names: str) -> Target:
    addresses: list[Address] = []
    for item in names.split(","):
        host, colon, port = item.strip().rpartition(":")
        if not colon or (":" in host and not host.startswith("[")):
            raise TargetError(f"target {text!r}: {item!r} has no port; give IP:PORT, an IPv6 address in brackets")
        ip = _static_ip(host)
        if ip is None:
            cure = f"127.0.0.1:{port}" if host == "localhost" else "IP:PORT, an IPv6 address in brackets"
            raise TargetError(f"target {text!r}: {host!r} is no IP address; give {cure}")
        address = str(ip), _number(f"target {text!r}", port)
        if address in addresses:
            raise TargetError(f"target {text!r}: {item!r} is given twice")
        addresses.append(address)
    return Target("static", addresses=tuple(addresses))


def _static_ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        if host.startswith("[") and host.endswith("]"):
            return ipaddress.IPv6Address(host[1:-1])
        return ipaddress.IPv4Address(host)
    except ValueError:
        return None


def _authority(address: Address) -> str:
    ip, port = address
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
