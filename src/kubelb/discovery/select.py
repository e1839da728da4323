"""Target + options -> the source that serves them. A source's packages are imported only where it serves."""

import contextlib
import importlib
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from os import PathLike, fspath
from typing import TypeAlias

from kubelb.clock import Clock
from kubelb.core.events import Emit
from kubelb.core.options import number
from kubelb.discovery.base import Discovery
from kubelb.discovery.static import StaticDiscovery
from kubelb.errors import TargetError
from kubelb.masking import MASK, is_content
from kubelb.model import Address, Endpoint
from kubelb.printable import shown
from kubelb.target import Target, check_domain, parse_target

Make: TypeAlias = Callable[[Emit], Discovery]
Reached: TypeAlias = Callable[[Collection[Address] | None], bool | None]

__all__ = ["FAMILIES", "Options", "check_options", "parse_families", "preload", "seed_endpoints", "source_for"]

FAMILIES = "IPv4", "IPv6"


@dataclass(frozen=True, slots=True)
class Options:
    """What a LoadBalancer was told about discovery; its docstring says what each means."""

    node: str | None = None
    zone: str | None = None
    traffic_policy: str = "Cluster"
    require_serving: bool = False
    avoid_terminating: bool = False
    strict_hints: bool = False
    allow_special_addresses: bool = False
    max_stale: float | None = None
    kubeconfig: str | None = None
    context: str | None = None
    cluster_domain: str = "cluster.local"
    fallback_port: int | None = None
    nameserver: Address | None = None
    families: tuple[str, ...] = FAMILIES

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


def check_options(target: Target, options: Options) -> None:
    """Raise `ValueError` for what a target's source cannot do."""
    if target.name and options.traffic_policy == "Local":
        raise ValueError(f"traffic_policy='Local': DNS does not say on which node a pod is; {target} needs 'Cluster'")


def preload(target: Target) -> None:
    """Import what the target's source is made of, 100 ms, where it is not in the way of a request.

    What cannot be imported is told when the source is built. A process that forks later has it in memory once.
    """
    modules = ["dns.source"] if target.name else ["kube.source"]
    if target.service and not target.name and not target.scheme:
        modules.append("ladder.source")
    if not target.name and (not os.environ.get("KUBERNETES_SERVICE_HOST") or os.environ.get("KUBECONFIG")):  # no pod
        modules.append("kube.kubeconfig")
    if target.scheme != "static":
        for name in modules:
            with contextlib.suppress(ImportError, OSError):
                importlib.import_module(f"{__package__}.{name}")


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


def source_for(
    target: Target, options: Options, clock: Clock, emit: Emit, reached: Reached = lambda _: None
) -> Discovery:
    """Return the source for a target, not yet started. What `preload` could not import may be imported now.

    `reached` is whether traffic reaches any of some endpoints, or of those in use; None where that is not known.
    """
    if target.scheme == "static":
        allowed = options.allow_special_addresses
        return StaticDiscovery(target.addresses, allow_special_addresses=allowed, service=str(target), emit=emit)
    if target.name:
        return _dns(target, options, clock, emit, reached)
    if target.scheme == "kube":
        return _kube(target, options, clock, emit, reached)
    return _ladder(target, options, clock, emit, reached)


def _kube(target: Target, options: Options, clock: Clock, emit: Emit, reached: Reached) -> Discovery:
    from kubelb.discovery.kube.source import KubeDiscovery

    return KubeDiscovery(
        target,
        kubeconfig=options.kubeconfig,
        context=options.context,
        node=options.node,
        zone=options.zone,
        traffic_policy=options.traffic_policy,
        require_serving=options.require_serving,
        avoid_terminating=options.avoid_terminating,
        strict_hints=options.strict_hints,
        allow_special_addresses=options.allow_special_addresses,
        reached=reached,
        families=options.families,
        max_stale=options.max_stale,
        clock=clock,
        emit=emit,
    )


def _dns(target: Target, options: Options, clock: Clock, emit: Emit, reached: Reached) -> Discovery:
    from kubelb.discovery.dns.source import DnsDiscovery

    return DnsDiscovery(
        target if target.nameserver else replace(target, nameserver=options.nameserver),
        cluster_domain=options.cluster_domain,
        fallback_port=options.fallback_port,
        allow_special_addresses=options.allow_special_addresses,
        families=options.families,
        reached=reached,
        max_stale=options.max_stale,
        clock=clock,
        emit=emit,
    )


def _ladder(target: Target, options: Options, clock: Clock, emit: Emit, reached: Reached) -> Discovery:
    """Slices, then SRV records for a port that has a name, then A records for the fallback port.

    DNS knows no nodes, so where only endpoints of the own one may be used there is nothing to step down to.
    """
    from kubelb.discovery.ladder.source import Ladder

    host = f"{target.host}.svc.{options.cluster_domain}."
    rungs: list[tuple[str, Make]] = [("endpointslices", lambda emit: _kube(target, options, clock, emit, reached))]
    if options.traffic_policy == "Local":
        return _kube(target, options, clock, emit, reached)
    if isinstance(target.port, str) and target.port:
        srv = replace(target, scheme="dns+srv", name=f"_{target.port}._tcp.{host}")
        rungs.append(("dns+srv", lambda emit: _dns(srv, options, clock, emit, reached)))
    if options.fallback_port is not None:
        addresses = replace(target, scheme="dns", name=host, port=options.fallback_port)
        rungs.append(("dns", lambda emit: _dns(addresses, options, clock, emit, reached)))
    if len(rungs) == 1:
        return rungs[0][1](emit)
    return Ladder(str(target), rungs, emit=emit, clock=clock, reached=lambda: reached(None))


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
