"""The Discovery of a Service: a reducer that a stream writes to and a feed reads from.

The stream's thread takes notes under a lock and says that there may be news; `poll` makes a Snapshot of them when the
feed is ready for one. So neither waits for the other, and a hundred events between two polls are one Snapshot.

What is known is never taken back because of a failure: it ages, `health` says how long and why, and from `max_stale` on
calls it stale.
"""

import os
import random
import threading
from collections.abc import Callable, Sequence

from kubelb.clock import Clock, monotonic
from kubelb.core.events import DiscoveryFailed, DiscoveryRecovered, Emit, Event, Skipped, SpilledOver, discard
from kubelb.discovery.kube import places
from kubelb.discovery.kube.access import Access, Locator
from kubelb.discovery.kube.choose import View
from kubelb.discovery.kube.desk import Seat
from kubelb.discovery.kube.diagnose import Code, Trouble
from kubelb.discovery.kube.locate import locate
from kubelb.discovery.kube.reader import Reader
from kubelb.discovery.kube.reducer import HOLD, Reducer
from kubelb.discovery.kube.sharing import Key, leave, subscribe
from kubelb.discovery.kube.spill import Reached, Spill
from kubelb.discovery.kube.transport import CONNECT_TIMEOUT, READ_TIMEOUT
from kubelb.discovery.kube.wire import Slice
from kubelb.discovery.route import has_route
from kubelb.discovery.special import CURE, left_out
from kubelb.model import Health, Snapshot
from kubelb.target import Target

__all__ = ["KubeDiscovery"]

PLACING = 5.0
"""Seconds for which the own zone may be unknown before it is told that hints cannot be followed."""


class KubeDiscovery:
    """The endpoints of a Service, from its EndpointSlices.

    `access` (or `kubeconfig` and `context`) says which API server, see `locate.py`. `node` and `zone` say where the
    caller is; None takes NODE_NAME and KUBELB_ZONE, and the zone is learnt from a slice if neither is given. `families`
    is in order of preference, one is used, to which there is a route (`routed`); with `join` all are, each pod once.
    `debounce` is how long an endpoint may be absent before it is gone. `reached` tells whether requests reach
    endpoints; with it, hints whose endpoints all fail are left for a while, unless `strict_hints`.
    `allow_special_addresses` lets addresses in that are no pod's.
    """

    def __init__(
        self,
        target: Target,
        *,
        access: Access | Locator | None = None,
        kubeconfig: str | None = None,
        context: str | None = None,
        node: str | None = None,
        zone: str | None = None,
        traffic_policy: str = "Cluster",
        require_serving: bool = False,
        avoid_terminating: bool = False,
        families: Sequence[str] = ("IPv4", "IPv6"),
        join: bool = False,
        routed: Callable[[str], bool] = has_route,
        max_stale: float | None = None,
        strict_hints: bool = False,
        allow_special_addresses: bool = False,
        reached: Reached | None = None,
        debounce: float = HOLD,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
        clock: Clock = monotonic,
        rng: random.Random | None = None,
        emit: Emit = discard,
    ) -> None:
        if traffic_policy not in {"Cluster", "Local"}:
            raise ValueError(f"traffic_policy={traffic_policy!r}: give 'Cluster' or 'Local'")
        self._target = target
        self._view = View(
            os.environ.get("NODE_NAME", "") if node is None else node,
            os.environ.get("KUBELB_ZONE", "") if zone is None else zone,
            traffic_policy == "Local",
            require_serving,
            avoid_terminating,
        )
        self._families, self._join, self._hold = tuple(families), join, debounce
        self._allow_special_addresses = allow_special_addresses
        self._routed = routed
        self._reached = None if strict_hints else reached
        self._max_stale = max_stale
        self._clock = clock
        self._rng = rng or random.Random()
        self._emit = emit
        self._key = Key(
            locate(kubeconfig, context, access),
            target.namespace,
            clock,
            connect_timeout,
            read_timeout,
        )
        self._place = places.Place(self._key.locator, self._view.node)
        self._notify: Callable[[], None] = _nobody
        self._version = 0
        self._told_unplaced = False
        self._renew()
        places.join(self._place, self)

    def __repr__(self) -> str:
        return f"<KubeDiscovery {self._target} synced={self._reducer.synced}>"

    def _renew(self) -> None:
        """As if new, but for the versions already given out."""
        self._lock = threading.Lock()
        self._seat: Seat[Reader] | None = None
        self._reducer = Reducer(
            self._target.service,
            self._target.namespace,
            self._target.port,
            view=self._view,
            families=self._families,
            join=self._join,
            hold=self._hold,
            version=self._version,
            allow_special_addresses=self._allow_special_addresses,
            routed=self._routed,
        )
        self._reducer.learn(places.zone_of(self._place))
        self._seen_zone = ""
        self._unplaced_since: float | None = None
        self._spill = None if self._reached is None else Spill(self._reached)
        self._heard: float | None = None
        self._error = "", ""
        self._kind = ""
        self._failing_since: float | None = None
        self._mistaken = False

    # -- Discovery

    def start(self, notify: Callable[[], None]) -> None:
        """Take a seat at the stream, or begin it, and take what it knows already. No I/O on this thread."""
        self._notify = notify
        places.join(self._place, self)  # again: in a forked child it is not known there any more
        self.placed(places.zone_of(self._place))
        # Under the lock, for the stream may tell its first news, and what hears them stop us, before `subscribe`
        # returns here: that stop would find no stream to leave.
        with self._lock:
            if self._seat is not None:
                return
            seat = self._seat = subscribe(self._key, self._target.service, self, self._rng)
        seat.join()
        self._notify()

    def poll(self, now: float) -> tuple[Snapshot | None, float | None]:
        """Return what changed, and when the next absence has been held long enough."""
        left: bool | None = None
        with self._lock:
            snapshot = self._reducer.snapshot(now)
            due = self._reducer.due
            if self._spill is not None:
                left, why, look = self._spill.look(self._reducer, now)
                if left is not None:
                    snapshot = self._reducer.snapshot(now) or snapshot
                if look is not None:
                    due = look if due is None else min(due, look)
            odd, self._reducer.skipped = self._reducer.skipped, []
            seen, unplaced = self._reducer.seen_zone, self._reducer.unplaced()
        look = self._find_place(now, seen, unplaced)
        if look is not None:
            due = look if due is None else min(due, look)
        if snapshot is not None:
            self._version = snapshot.version
        for what, reason in odd:
            self.skipped(what, reason)
        if left is not None:
            self._tell(SpilledOver(str(self._target), left, why))
        return snapshot, due

    def _find_place(self, now: float, seen: str, unplaced: bool) -> float | None:
        """Tell the other services of this process the own zone; tell the user where no service knows it.

        Not at once: another service may be about to learn it. Returns when to look again.
        """
        if seen and seen != self._seen_zone:
            self._seen_zone = seen
            places.tell(self._place, seen)
        if not unplaced:
            self._unplaced_since = None
            return None
        if self._unplaced_since is None:
            self._unplaced_since = now
        if now < self._unplaced_since + PLACING:
            return self._unplaced_since + PLACING
        if not self._told_unplaced:
            self._told_unplaced = True
            self.skipped("topology hints", f"{places.UNPLACED}; {places.CURE}")
        return None

    def placed(self, zone: str) -> None:
        """Take the own zone from another service."""
        with self._lock:
            news = self._reducer.learn(zone)
        if news:
            self._notify()

    def health(self) -> Health:
        """Return how well the service is known, and what is wrong with knowing it."""
        heard, (error, cure), seat = self._heard, self._error, self._seat
        synced = self._reducer.synced
        age = None if heard is None else max(0.0, self._clock() - heard)
        stale = synced and self._max_stale is not None and age is not None and age >= self._max_stale
        if not synced and not error:
            error = f"no list of endpoints yet: {seat.desk.owner.stage}" if seat else "not started"
            cure = f"ready_timeout= waits longer; `kubelb doctor {self._target}` looks for what is in the way"
        if not error and (refused := self._reducer.refused):
            error, cure = f"left out are {left_out(refused)}", CURE
        if not error and self._unplaced_since is not None:
            error, cure = places.UNPLACED, places.CURE
        return Health("endpointslices", synced, stale, age, error, cure, kind=self._kind)

    @property
    def waiting(self) -> bool:
        """Whether it is still on its way to the first answer, or the first failure."""
        return not self._reducer.synced and self._failing_since is None

    def resync_now(self) -> None:
        """Fetch everything again, ending any wait between tries."""
        seat = self._seat
        if seat is not None:
            seat.desk.owner.resync()

    def stop(self) -> None:
        """Leave the stream."""
        with self._lock:
            seat, self._seat = self._seat, None
        if seat is not None:
            leave(self._key, seat)

    # -- Subscriber, on the stream's thread

    def welcome(self, slices: list[Slice], heard: float) -> None:
        """Take what was known before we came. On the thread of `start`, which gives notice when it has let go."""
        self._heard = heard
        with self._lock:
            self._reducer.replace(slices, self._clock())

    def replace(self, slices: list[Slice], unread: frozenset[str] = frozenset(), version: str = "") -> None:  # noqa: ARG002
        """Take a complete list, which mends a mistake of ours; the stream says itself when its own trouble is over."""
        with self._lock:
            self._reducer.replace(slices, self._clock(), unread)
        if self._mistaken:
            self.recovered()
        self._notify()

    def upsert(self, piece: Slice) -> None:
        """Take a new or altered slice."""
        with self._lock:
            self._reducer.upsert(piece, self._clock())
        self._notify()

    def delete(self, piece: Slice) -> None:
        """Take the end of a slice."""
        with self._lock:
            self._reducer.delete(piece, self._clock())
        self._notify()

    def heard(self) -> None:
        """The source lives."""
        self._heard = self._clock()

    def failed(self, trouble: Trouble) -> None:
        """The source cannot be read for now."""
        self._error, self._kind = (trouble.reason, trouble.cure), trouble.kind
        self._mistaken = trouble.code is Code.INTERNAL
        if self._failing_since is None:
            self._failing_since = self._clock()
        self._tell(DiscoveryFailed(str(self._target), trouble.kind, trouble.reason, trouble.cure))

    def recovered(self) -> None:
        """It can be read again, and everything in it is known: what was gone meanwhile is not held for a moment."""
        with self._lock:
            self._reducer.release()
        since, self._failing_since, self._mistaken = self._failing_since, None, False
        self._error, self._kind = ("", ""), ""
        if since is not None:
            self._tell(DiscoveryRecovered(str(self._target), self._clock() - since))
        self._notify()

    def skipped(self, what: str, reason: str) -> None:
        """Something in it made no sense."""
        self._tell(Skipped(str(self._target), what, reason))

    def orphaned(self) -> None:
        """In a forked child. The thread that held our lock, and may have been writing just then, is not here."""
        self._renew()

    def _tell(self, event: Event) -> None:
        self._emit(event)


def _nobody() -> None:
    """Do nothing: no caller asked to be told."""
