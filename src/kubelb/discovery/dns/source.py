"""The Discovery of a DNS name: a reducer that a thread of questions writes to and a feed reads from.

What is known is never taken back because of a failure: it ages, `health` says how long and why, and from `max_stale` on
calls it stale.
"""

import random
import threading
from collections.abc import Callable, Sequence

from kubelb.clock import Clock, monotonic
from kubelb.core.events import DiscoveryFailed, DiscoveryRecovered, Emit, Skipped, discard
from kubelb.discovery.dns.channel import Channel, Key, subscribe
from kubelb.discovery.dns.finding import FAMILIES, Finding
from kubelb.discovery.dns.hosts import ETC_HOSTS
from kubelb.discovery.dns.nameservers import RESOLV_CONF
from kubelb.discovery.dns.reducer import HOLD, Reducer, Routed
from kubelb.discovery.dns.steps import Failure
from kubelb.discovery.dns.urgency import Reached, Urgency
from kubelb.discovery.dns.wording import kept, lies, not_dialled, virtual
from kubelb.discovery.route import has_route
from kubelb.model import Address, Health, Snapshot
from kubelb.target import Target

__all__ = ["DnsDiscovery"]


class DnsDiscovery:
    """The endpoints behind a name: SRV records for a ``dns+srv`` target, A and AAAA records for a ``dns`` one.

    `fallback_port` is for the A records where the SRV records do not fit into one answer. `cluster_domain` says which
    names are complete. `hold` is how long a name that is gone keeps its endpoints. `families` are in order of
    preference, one is used, and one that is not named is not asked for. `reached` tells whether requests reach
    endpoints; with it, DNS is asked again at once where they reach none. Durations are seconds.
    """

    def __init__(
        self,
        target: Target,
        *,
        cluster_domain: str = "cluster.local",
        fallback_port: int | None = None,
        hold: float = HOLD,
        allow_special_addresses: bool = False,
        max_stale: float | None = None,
        reached: Reached | None = None,
        routed: Routed = has_route,
        resolv_conf: str = RESOLV_CONF,
        hosts: str = ETC_HOSTS,
        families: Sequence[str] = FAMILIES,
        clock: Clock = monotonic,
        rng: random.Random | None = None,
        emit: Emit = discard,
    ) -> None:
        self._target = target
        self._hold = hold
        self._max_stale = max_stale
        self._reached, self._routed = reached, routed
        self._families = tuple(families)
        self._key = Key(
            target,
            cluster_domain,
            fallback_port,
            frozenset(self._families),
            allow_special_addresses,
            resolv_conf,
            hosts,
            clock,
        )
        self._clock = clock
        self._rng = rng or random.Random()
        self._emit = emit
        self._notify: Callable[[], None] = _nobody
        self._version = 0
        self._renew()

    def __repr__(self) -> str:
        return f"<DnsDiscovery {self._target} synced={self._reducer.synced}>"

    def _renew(self) -> None:
        """As if new, but for the versions already given out."""
        self._lock = threading.Lock()
        self._channel: Channel | None = None
        self._reducer = Reducer(
            self._target, families=self._families, routed=self._routed, hold=self._hold, version=self._version
        )
        self._urgency = None if self._reached is None else Urgency(self._reached)
        self._used: frozenset[Address] = frozenset()
        self._heard: float | None = None
        self._error = self._left_out = "", ""
        self._kind = ""
        self._failing_since: float | None = None
        self._warned: frozenset[tuple[str, str]] = frozenset()

    # -- Discovery

    def start(self, notify: Callable[[], None]) -> None:
        """Join those that ask the same, or begin to ask."""
        self._notify = notify
        with self._lock:
            if self._channel is None:
                self._channel = subscribe(self._key, self, self._rng)

    def poll(self, now: float) -> tuple[Snapshot | None, float | None]:
        """Return what changed, and when to look at traffic again."""
        with self._lock:
            snapshot = self._reducer.snapshot()
        if snapshot is not None:
            self._version = snapshot.version
            self._used = frozenset(endpoint.address for endpoint in snapshot.endpoints)
        if self._urgency is None:
            return snapshot, None
        urgent, look = self._urgency.look(self._used, now)
        if urgent:
            self.resync_now()
        return snapshot, look

    def health(self) -> Health:
        """Return how well the name is known, and what is wrong with knowing it."""
        heard, (error, cure) = self._heard, self._error
        synced = self._reducer.synced
        age = None if heard is None else max(0.0, self._clock() - heard)
        stale = synced and self._max_stale is not None and age is not None and age >= self._max_stale
        if not synced and not error:
            error = "no answer yet from a nameserver" if self._channel else "not started"
            cure = (
                "is the nameserver up, and may this process reach it (NetworkPolicy, firewall)?"
                if self._channel
                else ""
            )
        if not error:
            error, cure = self._left_out
        return Health(self._target.scheme, synced, stale, age, error, cure, kind=self._kind)

    @property
    def waiting(self) -> bool:
        """Whether it is still on its way to the first answer, or the first failure."""
        return not self._reducer.synced and self._failing_since is None

    def resync_now(self) -> None:
        """Ask again, ending any wait between questions."""
        channel = self._channel
        if channel is not None:
            channel.resync()

    def stop(self) -> None:
        """Ask no more; with the last that asks the same, the thread ends."""
        with self._lock:
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.unsubscribe(self)

    # -- Subscriber, on the thread that asks

    def found(self, finding: Finding) -> bool:
        """Take an answer; returns whether the name has been given up."""
        now = self._clock()
        if finding.lies and self._reducer.known:
            self._trouble("malformed", *lies(self._target, finding))
            return False
        self._heard = now if finding.at is None else finding.at
        with self._lock:
            self._reducer.take(finding, now)
            holding = self._reducer.holding
        if holding:
            self._trouble("absent", *kept(self._target, finding, self._hold))
        else:
            self._recovered()
            if not finding.early:
                self._warn(finding)
        self._notify()
        return bool(finding.absent) and not holding

    def failed(self, failure: Failure) -> None:
        """No nameserver has an answer for now."""
        self._trouble(failure.kind, failure.reason, failure.cure)

    def orphaned(self) -> None:
        """In a forked child. The thread that held our lock, and may have been writing just then, is not here."""
        self._renew()

    def _warn(self, finding: Finding) -> None:
        """Tell what is odd about an answer, once for as long as it stays so."""
        warnings = finding.warnings
        self._left_out = not_dialled(finding)
        if finding.virtual:
            self._error = virtual(self._target, finding)
            warnings += (("the choice of pods", self._error[0]),)
        for what, reason in warnings:
            if (what, reason) not in self._warned:
                self._emit(Skipped(str(self._target), what, reason))
        self._warned = frozenset(warnings)

    def _trouble(self, kind: str, reason: str, cure: str) -> None:
        self._error, self._kind = (reason, cure), kind
        if self._failing_since is None:
            self._failing_since = self._clock()
        self._emit(DiscoveryFailed(str(self._target), kind, reason, cure))

    def _recovered(self) -> None:
        since, self._failing_since, self._error, self._kind = self._failing_since, None, ("", ""), ""
        if since is not None:
            self._emit(DiscoveryRecovered(str(self._target), self._clock() - since))


def _nobody() -> None:
    """Do nothing: no caller asked to be told."""
