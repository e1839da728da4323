"""Placing: where the endpoints of a target are looked for.

    target -> the own namespace, where it names none -> KUBELB_TARGETS -> seed, source, or the Service's own name

A namespace that is known without reading a kubeconfig is found at once; else it is looked for on a thread of discovery,
and the target has another name from then on. A Discovery of the user's own stands for itself: nothing is looked up.
"""

import os
from collections.abc import Callable

from kubelb.clock import Clock
from kubelb.core.events import DiscoveryFailed, DiscoveryRecovered, Emit
from kubelb.discovery.base import Discovery
from kubelb.discovery.mapped import VARIABLE as TARGETS
from kubelb.discovery.mapped import mapped
from kubelb.discovery.namespace import in_own_namespace, placed
from kubelb.discovery.options import DiscoveryOptions, seed_endpoints
from kubelb.discovery.own import OwnDiscovery, is_discovery, name_of
from kubelb.discovery.plain import plain_endpoint
from kubelb.discovery.select import Reached, check_target, preload, source_for
from kubelb.discovery.static import StaticDiscovery
from kubelb.errors import NoEndpoints, TargetError
from kubelb.model import Endpoint, Health, Snapshot
from kubelb.printable import shown
from kubelb.records import replace
from kubelb.target import CLUSTER_DOMAIN, Target, domain_of, parse_target

__all__ = ["OwnPlacing", "Placing", "placing_of"]

SOURCES = {"": "endpointslices", "kube": "endpointslices", "dns": "dns", "dns+srv": "dns+srv", "static": "static"}
"""Where endpoints will come from, for as long as there is no source that says so itself."""


class Placing:
    """Of one service."""

    def __init__(self, target: str, options: DiscoveryOptions, clock: Clock) -> None:
        """Raises `TargetError` for what cannot be parsed, `ValueError` for options that the target has no use for."""
        given = parse_target(target)
        self.target: Target = placed(given, options.kubeconfig, options.context)
        """By this name the service is spoken of."""
        self.own_namespace = bool(given.service and not given.namespace)
        """Whether the target named none, so that the Service's name alone is one of its hosts."""
        self.cluster_domain = domain_of(self.target, options.cluster_domain)
        self.options = replace(options, cluster_domain=self.cluster_domain)
        check_target(self.target, options)
        self.place: Target = mapped(self.target, given, self.cluster_domain) or self.target
        """Where endpoints are looked for: the target, but where ``KUBELB_TARGETS`` has another place for it."""
        self._clock = clock
        self._unplaced: float | None = None
        """Since when the own namespace is asked for in vain."""

    @property
    def fixed(self) -> bool:
        """Whether all is known from the start: nothing to open, nothing to wait for."""
        return self.place.scheme == "static"

    def preload(self) -> None:
        """Import what the source is made of."""
        preload(self.place)

    def seed(self, emit: Emit) -> tuple[Endpoint, ...]:
        """Return the endpoints to use until the first sync, without those that are no server's.

        None of them where ``KUBELB_TARGETS`` has another place for the service, or may have when that is found.
        """
        given = self.options.seed
        waits = self.own_namespace and not self.target.namespace and os.environ.get(TARGETS, "").strip()
        if given is None or self.place is not self.target or waits:
            return ()
        allowed, service = self.options.allow_special_addresses, str(self.target)
        source = StaticDiscovery(seed_endpoints(given), allow_special_addresses=allowed, service=service, emit=emit)
        snapshot, _ = source.poll(0.0)
        return snapshot.endpoints if snapshot else ()

    def source(self, emit: Emit, reached: Reached = lambda _: None) -> Discovery:
        """Return the source for the place, not yet started."""
        options = self.options
        if self.place is not self.target:  # no name of the cluster, whose nameserver is not asked for it
            options = replace(options, nameserver=None)
        return source_for(self.place, options, self._clock, emit, reached)

    def find(self, emit: Emit, renamed: Callable[[Target], object]) -> None:
        """Find the own namespace in a kubeconfig, where the target is in it and it was not at hand. May read files.

        ``KUBELB_TARGETS`` is asked again then: it may name the service with its namespace. Raises `TargetError`, told
        as an event.
        """
        given = self.target
        try:
            if self.place is not given:
                return
            target = in_own_namespace(given, self.options.kubeconfig, self.options.context)
            if target is not given:
                self.place = mapped(target, given, self.cluster_domain) or target
                self.target = target
                renamed(target)
        except TargetError as error:
            reason, _, cure = str(error).partition("; ")
            self._unplaced = self._clock() if self._unplaced is None else self._unplaced
            emit(DiscoveryFailed(str(given), "credentials", reason, cure))
            raise
        since, self._unplaced = self._unplaced, None
        if since is not None:
            emit(DiscoveryRecovered(str(self.target), self._clock() - since))

    def health(self, problem: str) -> Health:
        """Return what there is to say while there is no source; `problem`: why it could not be built."""
        error, _, cure = problem.partition("; ")
        return Health(
            SOURCES[self.place.scheme], error=error, cure=cure, kind="" if self._unplaced is None else "credentials"
        )

    def plain_endpoint(self, snapshot: Snapshot | None) -> Endpoint:
        """Return the Service itself, by its own name, for calls that go past kubelb; NoEndpoints where it has no port.

        It is where ``KUBELB_TARGETS`` says, if that names the service. Of a fixed list it is the first that may be
        dialled: what is refused is so while kubelb is switched off, too.
        """
        if self.fixed and snapshot is not None:
            if not snapshot.endpoints:
                raise NoEndpoints(str(self.target), snapshot.problem)
            return snapshot.endpoints[0]
        return plain_endpoint(self.place, self.cluster_domain, self.options.fallback_port)

    def portless(self, snapshot: Snapshot | None) -> str:
        """Return why calls that need an address are refused while kubelb is switched off; "" where they are not."""
        try:
            self.plain_endpoint(snapshot)
        except NoEndpoints as error:
            return error.reason
        return ""


class OwnPlacing(Placing):
    """Of a Discovery of the user's own: it is where endpoints come from, and there is no name to look for."""

    def __init__(self, source: Discovery, clock: Clock) -> None:
        self.target = self.place = Target("own", label=name_of(source))
        self.own_namespace = False
        self.cluster_domain = CLUSTER_DOMAIN
        self.options = DiscoveryOptions()
        self._own = source
        self._clock = clock

    def preload(self) -> None:
        """It is there."""

    def source(self, emit: Emit, reached: Reached = lambda _: None) -> Discovery:  # noqa: ARG002
        """Return it, held to its contract."""
        return OwnDiscovery(self._own, self._clock, emit)

    def find(self, emit: Emit, renamed: Callable[[Target], object]) -> None:
        """There is no namespace."""

    def health(self, problem: str) -> Health:
        """It was not begun."""
        return Health(str(self.target), error=problem)

    def plain_endpoint(self, snapshot: Snapshot | None) -> Endpoint:  # noqa: ARG002
        """Raise NoEndpoints: there is no Service."""
        reason = "kubelb is switched off, and a Discovery of one's own is no Service that could be called by its name"
        raise NoEndpoints(str(self.target), reason)


def placing_of(target: str | Discovery, options: DiscoveryOptions | None, clock: Clock) -> Placing:
    """Return where endpoints are looked for; TypeError for options of another kind, or beside a Discovery."""
    if options is not None and not isinstance(options, DiscoveryOptions):
        cure = "; a Discovery of your own goes in the place of the target" if is_discovery(options) else ""
        raise TypeError(f"discovery={shown(options)}: give a kubelb.DiscoveryOptions(...), or None{cure}")
    if isinstance(target, str) or not is_discovery(target):
        return Placing(target, options or DiscoveryOptions(), clock)  # type: ignore[arg-type]
    if options is not None:
        raise TypeError(f"discovery=...: {shown(target)} in the place of a target takes none of these options")
    return OwnPlacing(target, clock)
