"""Target + options -> the source that serves them. Imports a source's packages only when one is built."""

from collections.abc import Iterable
from dataclasses import dataclass

from kubelb.clock import Clock
from kubelb.core.events import Emit
from kubelb.discovery.base import Discovery
from kubelb.discovery.static import StaticDiscovery
from kubelb.errors import TargetError
from kubelb.model import Endpoint
from kubelb.target import Target, parse_target

__all__ = ["Options", "seed_endpoints", "source_for"]


@dataclass(frozen=True, slots=True)
class Options:
    """What a LoadBalancer was told about discovery; its docstring says what each means."""

    node: str | None = None
    zone: str | None = None
    traffic_policy: str = "Cluster"
    require_serving: bool = False
    avoid_terminating: bool = False
    max_stale: float | None = None
    kubeconfig: str | None = None
    context: str | None = None
    cluster_domain: str = "cluster.local"
    fallback_port: int | None = None

    def __post_init__(self) -> None:
        if self.traffic_policy not in ("Cluster", "Local"):
            raise ValueError(f"traffic_policy={self.traffic_policy!r}: give 'Cluster' or 'Local'")
        if self.max_stale is not None and not self.max_stale > 0:
            raise ValueError(f"max_stale={self.max_stale!r}: give a positive number of seconds, or None")
        port = self.fallback_port
        if port is not None and (type(port) is not int or not 1 <= port <= 65535):
            raise ValueError(f"fallback_port={port!r}: give a number from 1 to 65535, or None")


def source_for(target: Target, options: Options, clock: Clock, emit: Emit) -> Discovery:
    """Return the source for a target, not yet started. May take 100 ms of imports: not for the caller's thread."""
    if target.scheme == "static":
        return StaticDiscovery(target.addresses)
    if target.name:
        from kubelb.discovery.dns.source import DnsDiscovery

        return DnsDiscovery(
            target,
            cluster_domain=options.cluster_domain,
            fallback_port=options.fallback_port,
            max_stale=options.max_stale,
            clock=clock,
            emit=emit,
        )
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
        max_stale=options.max_stale,
        clock=clock,
        emit=emit,
    )


def seed_endpoints(addresses: Iterable[str]) -> tuple[Endpoint, ...]:
    """Return endpoints for ``"ip:port"`` texts; raises `TargetError` for anything else."""
    if isinstance(addresses, str):
        raise TargetError(f"seed={addresses!r}: give a list of 'ip:port' texts")
    return tuple(Endpoint(ip, port) for ip, port in parse_target("static:///" + ",".join(addresses)).addresses)
