"""A Discovery of the user's own, held to its contract: what it does wrong is told, in words, and harms no request.

It goes by the same feed as kubelb's own sources, so pace, last known good set, ejection and all else are the same. What
comes on top: a Snapshot is looked at before it is used, and what `health()` says becomes events. So logs, metrics and
`on_event` tell of its failures, and a call that has waited in vain for its first endpoints is not followed by others.
"""

import math
from collections.abc import Callable
from typing import Any

from kubelb.clock import Clock
from kubelb.core.events import DiscoveryFailed, DiscoveryRecovered, Emit
from kubelb.core.options import whole
from kubelb.core.whence import whence
from kubelb.discovery.base import Discovery
from kubelb.model import Endpoint, Health, Snapshot
from kubelb.printable import printable, shown
from kubelb.records import replace
from kubelb.threads import report

__all__ = ["OwnDiscovery", "is_discovery", "name_of"]

METHODS = "start", "poll", "health", "resync_now", "stop"
CURE = "its traceback went to threading.excepthook, once, which writes to standard error by default"
AGAIN = 1.0
"""Seconds until one that has failed is asked again."""
PACE = 0.05
"""Seconds between two polls at the least: twenty a second."""


class _Slip(TypeError):
    """The contract was not kept; said without anything that came from outside."""


def is_discovery(source: object) -> bool:
    """Whether it is a Discovery; raises TypeError for what is half of one, or a class."""
    missing = [name for name in METHODS if not callable(getattr(source, name, None))]
    if len(missing) == len(METHODS):
        return False
    if isinstance(source, type):
        raise TypeError(f"{source.__name__} is a class; give an object of it, {source.__name__}()")
    if missing:
        raise TypeError(f"{shown(source)} is no Discovery: it has no {', no '.join(f'{name}()' for name in missing)}")
    return True


def name_of(source: object) -> str:
    """Return what it calls itself, ``str(source)``; its class's name where that has no ``__str__``."""
    kind = type(source)
    return kind.__name__ if kind.__str__ is object.__str__ else printable(str(source)) or kind.__name__


class OwnDiscovery:
    """See the module; a Discovery around another one."""

    def __init__(self, source: Discovery, clock: Clock, emit: Emit) -> None:
        self._source = source
        self._name = name_of(source)
        self._clock = clock
        self._emit = emit
        self._last: Snapshot | None = None
        self._raised = ""
        """What the last start or poll raised."""
        self._place = ""
        """The kind and place of what the last poll raised."""
        self._next = -math.inf
        """Before this time it is not polled."""
        self._since: float | None = None
        """Since when it fails."""
        self._begun = False
        """Whether its `start` has returned."""

    def __repr__(self) -> str:
        return f"<OwnDiscovery {self._name}>"

    def start(self, notify: Callable[[], None]) -> None:
        """Begin, or begin anew in a forked child."""
        self._last, self._next = None, -math.inf
        try:
            self._source.start(notify)
        except Exception as error:
            self._failed(error, "start")
            raise
        self._begun = True
        self._raised = ""

    def poll(self, now: float) -> tuple[Snapshot | None, float | None]:
        """Ask it; raises what it raises, and TypeError for what is no Snapshot to use."""
        if now < self._next:  # it has called `notify` again, as it may
            return None, self._next
        self._next = now + PACE
        try:
            snapshot, again = self._polled(now)
        except Exception as error:
            before, self._place = self._place, whence(error)
            self._failed(error, "poll")
            if self._place == before:  # the same again: its traceback has been told
                return None, now + AGAIN
            raise
        self._raised = self._place = ""
        self._look()
        return snapshot, None if again is None else max(again, self._next)

    def health(self) -> Health:
        """Return what it says; what it raised comes first."""
        try:
            health = self._source.health()
        except Exception as error:  # noqa: BLE001
            return Health(self._name, error=f"health() raised {type(error).__name__}", kind="internal")
        if not isinstance(health, Health):
            return Health(self._name, error=f"health() returned {shown(health)}: give a kubelb.Health", kind="internal")
        return replace(health, error=self._raised, cure=CURE, kind="internal") if self._raised else health

    def resync_now(self) -> None:
        """Pass it on, if it has begun: requests ask for this, too, so what it raises is told and goes no further."""
        if self._begun:
            self._guarded(self._source.resync_now, "resync_now")

    def stop(self) -> None:
        """Pass it on, also where `start` failed half-way; what it raises would hide what `close` was called for."""
        self._guarded(self._source.stop, "stop")

    def _guarded(self, job: Callable[[], None], where: str) -> None:
        try:
            job()
        except Exception as error:  # noqa: BLE001
            report(error)
            self._failed(error, where)

    def _polled(self, now: float) -> tuple[Snapshot | None, float | None]:
        made: object = self._source.poll(now)
        if not isinstance(made, tuple) or len(made) != 2:
            raise _Slip(f"poll() returned {shown(made)}: give (Snapshot or None, time of the next poll or None)")
        snapshot, again = made
        if again is not None and (not isinstance(again, int | float) or math.isnan(again)):
            raise _Slip(f"poll() returned the time {shown(again)}: give seconds as `now` counts them, or None")
        if again == math.inf:
            again = None
        if snapshot is not None:
            self._check(snapshot)
            self._last = snapshot
        return snapshot, again

    def _check(self, snapshot: object) -> None:
        if not isinstance(snapshot, Snapshot):
            raise _Slip(f"poll() returned {shown(snapshot)}: give a kubelb.Snapshot, or None for no news")
        last = self._last
        version: object = snapshot.version
        if not whole(version) or version < 1:
            raise _Slip(f"Snapshot(version={shown(version)}): give whole numbers, upwards from 1")
        if last is not None and snapshot.version <= last.version and snapshot != last:
            raise _Slip(
                f"Snapshot(version={snapshot.version}) came after version {last.version}: give each a higher one"
            )
        for endpoint in snapshot.endpoints + snapshot.parked:
            ip: Any = endpoint[0] if type(endpoint) is Endpoint else None
            if not isinstance(ip, str) or not whole(endpoint[1]):
                raise _Slip(f"a Snapshot holds {shown(endpoint)}: give kubelb.Endpoint(ip, port), text and number")

    def _failed(self, error: Exception, where: str) -> None:
        # Words of the user's own code may hold what it choked on; those of a slip are kubelb's.
        self._raised = str(error) if isinstance(error, _Slip) else f"{where}() raised {type(error).__name__}"
        self._look()

    def _look(self) -> None:
        """Tell where it begins to fail, and where it is well again."""
        health = self.health()
        if health.error:
            if self._since is None:
                self._since = self._clock()
                self._emit(DiscoveryFailed(self._name, health.kind or "internal", health.error, health.cure))
        elif self._since is not None:
            since, self._since = self._since, None
            self._emit(DiscoveryRecovered(self._name, self._clock() - since))
