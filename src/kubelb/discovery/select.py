"""Target + options -> the source that serves them. A source's packages are imported only where it serves."""

import contextlib
import importlib
import os
from collections.abc import Callable, Collection
from os import fspath
from typing import TypeAlias

from kubelb.clock import Clock
from kubelb.core.events import Emit
from kubelb.discovery.base import Discovery
from kubelb.discovery.options import DiscoveryOptions
from kubelb.discovery.static import StaticDiscovery
from kubelb.model import Address
from kubelb.records import replace
from kubelb.target import Target, parse_nameserver

Make: TypeAlias = Callable[[Emit], Discovery]
Reached: TypeAlias = Callable[[Collection[Address] | None], bool | None]

__all__ = ["Make", "Reached", "check_target", "preload", "source_for"]


def check_target(target: Target, options: DiscoveryOptions) -> None:
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
    if not target.name:
        pod = os.environ.get("KUBERNETES_SERVICE_HOST") and not os.environ.get("KUBECONFIG")
        if not pod:
            modules.append("kube.kubeconfig")
        if not pod or os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
            modules.append("kube.proxied")
    if target.scheme != "static":
        for name in modules:
            with contextlib.suppress(ImportError, OSError):
                importlib.import_module(f"{__package__}.{name}")


def source_for(
    target: Target, options: DiscoveryOptions, clock: Clock, emit: Emit, reached: Reached = lambda _: None
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


def _kube(target: Target, options: DiscoveryOptions, clock: Clock, emit: Emit, reached: Reached) -> Discovery:
    from kubelb.discovery.kube.source import KubeDiscovery

    return KubeDiscovery(
        target,
        kubeconfig=None if options.kubeconfig is None else fspath(options.kubeconfig),
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


def _dns(target: Target, options: DiscoveryOptions, clock: Clock, emit: Emit, reached: Reached) -> Discovery:
    from kubelb.discovery.dns.source import DnsDiscovery

    if target.nameserver is None and options.nameserver is not None:
        target = replace(target, nameserver=parse_nameserver(options.nameserver))
    return DnsDiscovery(
        target,
        cluster_domain=options.cluster_domain,
        fallback_port=options.fallback_port,
        allow_special_addresses=options.allow_special_addresses,
        families=options.families,
        reached=reached,
        max_stale=options.max_stale,
        clock=clock,
        emit=emit,
    )


def _ladder(target: Target, options: DiscoveryOptions, clock: Clock, emit: Emit, reached: Reached) -> Discovery:
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
