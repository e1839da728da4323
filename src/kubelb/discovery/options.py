"""DiscoveryOptions: everything that discovery can be told, each option stated once, with its unit and its default."""

from collections.abc import Iterable, Sequence
from os import PathLike, fspath

from kubelb.core.options import number
from kubelb.errors import TargetError
from kubelb.masking import MASK, is_content
from kubelb.model import Endpoint
from kubelb.printable import shown
from kubelb.records import record
from kubelb.target import CLUSTER_DOMAIN, check_domain, parse_nameserver, parse_target

__all__ = ["FAMILIES", "DiscoveryOptions", "parse_families", "seed_endpoints"]

FAMILIES = "IPv4", "IPv6"


@record(frozen=True, slots=True, kw_only=True)
class DiscoveryOptions:
    """How endpoints are looked for, and which of them are used: ``LoadBalancer(target, discovery=...)``.

    Raises `TargetError` for a nameserver, a seed or a domain that cannot be parsed, `ValueError` for an option out of
    range, `TypeError` for one of another kind.

    >>> DiscoveryOptions(zone="eu-1a", fallback_port=8080).families
    ('IPv4', 'IPv6')
    """

    kubeconfig: str | PathLike[str] | None = None
    """Path of the kubeconfig to use; None for ``$KUBECONFIG``, else the pod's own files, else ``~/.kube/config``."""
    context: str | None = None
    """One of its contexts; None for the current one."""
    node: str | None = None
    """The node that the caller is on; None for ``$NODE_NAME``."""
    zone: str | None = None
    """The zone that the caller is in; None for ``$KUBELB_ZONE``, else it is learnt from the slices."""
    traffic_policy: str = "Cluster"
    """``"Cluster"``, or ``"Local"`` for endpoints on the own node only; DNS knows no nodes."""
    require_serving: bool = False
    """True to leave out pods that are published while not ready (``publishNotReadyAddresses``) and do not serve."""
    avoid_terminating: bool = False
    """True to leave out pods that are terminating, also where they are published while not ready."""
    strict_hints: bool = False
    """True to follow topology hints, as kube-proxy does, also where no endpoint that they name answers."""
    allow_special_addresses: bool = False
    """True to dial link-local, multicast, broadcast and unspecified addresses, too, wherever they are from.

    By default they are left out, and told: ``169.254.169.254`` is a cloud's metadata server.
    """
    max_stale: float | None = None
    """Seconds without word from discovery after which `health()` says stale; None for never."""
    seed: Iterable[str] | None = None
    """``"ip:port"`` addresses to use until the first sync; None for none. Kept as a tuple."""
    cluster_domain: str = CLUSTER_DOMAIN
    """The domain that the cluster's DNS serves; a target that names one, ``SVC.NS.svc.DOMAIN``, needs none here."""
    fallback_port: int | None = None
    """Port number, 1 to 65535, to use with A records where neither slices nor SRV records can be had; None for none."""
    nameserver: str | None = None
    """``"IP"`` or ``"IP:PORT"`` (53) to ask for DNS names; None for those of ``/etc/resolv.conf``."""
    families: Sequence[str] = FAMILIES
    """``("IPv4", "IPv6")``, the preferred one first: where a service has both, the first that this host has a route to
    is used; ``("IPv4",)`` for one alone. Of slices and DNS, not of ``static:///`` and `seed`. Kept as a tuple."""

    def __post_init__(self) -> None:
        if self.traffic_policy not in ("Cluster", "Local"):
            raise ValueError(f"traffic_policy={shown(self.traffic_policy)}: give 'Cluster' or 'Local'")
        if self.max_stale is not None and not number(self.max_stale) > 0:
            raise ValueError(f"max_stale={shown(self.max_stale)}: give a positive number of seconds, or None")
        port = self.fallback_port
        if port is not None and (type(port) is not int or not 1 <= port <= 65535):
            raise ValueError(f"fallback_port={shown(port)}: give a number from 1 to 65535, or None")
        check_domain(self.cluster_domain)
        for name in ("require_serving", "avoid_terminating", "strict_hints", "allow_special_addresses"):
            if not isinstance(flag := getattr(self, name), bool):
                raise TypeError(f"{name}={shown(flag)}: give True or False")
        for name in ("node", "zone", "kubeconfig", "context"):
            text = getattr(self, name)
            if not isinstance(text, str | None) and not (name == "kubeconfig" and isinstance(text, PathLike)):
                given = shown(text) if name == "kubeconfig" else repr(text)
                raise TypeError(f"{name}={given}: give a string, or None")
        if self.kubeconfig is not None and is_content(fspath(self.kubeconfig)):
            raise ValueError("kubeconfig= was given the contents of a kubeconfig: give the path of the file")
        if self.nameserver is not None:
            parse_nameserver(self.nameserver)
        if self.seed is not None:
            seeds = seed_endpoints(self.seed)
            object.__setattr__(self, "seed", tuple(endpoint.authority for endpoint in seeds))
        object.__setattr__(self, "families", parse_families(self.families))


def parse_families(families: Sequence[str]) -> tuple[str, ...]:
    """Return the families in Kubernetes' spelling; raises `TypeError` and `ValueError`.

    >>> parse_families(["ipv6", "IPv4"])
    ('IPv6', 'IPv4')
    """
    cure = "give ('IPv4', 'IPv6'), the preferred one first, or one of them alone, as ('IPv4',)"
    given: object = families
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise TypeError(f"families={shown(families)}: {cure}")
    names = {name.lower(): name for name in FAMILIES}
    found = tuple(names.get(each.lower(), "") if isinstance(each, str) else "" for each in given)
    if not found or "" in found or len(set(found)) < len(found):
        raise ValueError(f"families={shown(families)}: {cure}")
    return found


def seed_endpoints(addresses: Iterable[str]) -> tuple[Endpoint, ...]:
    """Return endpoints for ``"ip:port"`` texts; raises `TargetError` for anything else."""
    if isinstance(addresses, str):
        given = f"{MASK}@" if "@" in addresses else addresses
        raise TargetError(f"seed={given!r}: give a list of 'ip:port' texts")
    why: object = ""
    try:
        texts = ",".join(addresses)
        if "@" in texts:  # a login, and nothing of it is repeated
            addresses = [f"{MASK}@"]
        return tuple(Endpoint(ip, port) for ip, port in parse_target(f"static:///{texts}").addresses)
    except (TypeError, TargetError) as error:
        why = error
    # Outside the handler, or the first error, which may repeat anything, would be the context of this one.
    raise TargetError(f"seed={addresses!r}: give 'ip:port' texts, one at least, or None; {why}")
