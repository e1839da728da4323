"""One rung: a source that is built when it is needed, and what it has said so far.

What a source reports as events goes on to what listens, under the ladder's own name; its failures and recoveries are
also noted here, for the choice. `start` and `poll` are called by one thread at a time, the rest by any.
"""

import threading
from collections.abc import Callable
from functools import partial

from kubelb.clock import Clock
from kubelb.core.events import DiscoveryFailed, DiscoveryRecovered, Emit, Event
from kubelb.discovery.base import Discovery
from kubelb.discovery.ladder.choice import LATE, Standing, Trouble
from kubelb.model import Health, Snapshot
from kubelb.records import replace

__all__ = ["Make", "Rung"]

Make = Callable[[Emit], Discovery]
"""Builds the source, not yet started; may raise ImportError."""


class Rung:
    """`name` is what `Health.source` says of the source: ``"endpointslices"``, ``"dns+srv"``, ``"dns"``."""

    def __init__(
        self, name: str, make: Make, *, service: str, clock: Clock, emit: Emit, wanted: Callable[[], bool]
    ) -> None:
        self.name = name
        self.snapshot: Snapshot | None = None
        """The last one; kept when the rung is stopped, for it is what was known last."""
        self._make = make
        self._service = service
        self._clock = clock
        self._emit = emit
        self._wanted = wanted
        self._lock = threading.Lock()
        self._source: Discovery | None = None
        self._life: object | None = None
        self._since = 0.0
        self._synced = False
        self._failing: Trouble | None = None
        self._failed: Trouble | None = None
        """The same just before it was polled last."""

    @property
    def running(self) -> bool:
        """Whether it was started, if only to find that it cannot be."""
        return self._life is not None

    def start(self, notify: Callable[[], None]) -> bool:
        """Build the source and start it. One whose package is missing is a rung that fails.

        False where it cannot be started just now, as there is no descriptor or no thread: it counts as not tried.
        """
        life = object()
        with self._lock:
            self._life, self._since, self._synced = life, self._clock(), False
            self._failing = self._failed = None
        try:
            self._source = source = self._make(partial(self._note, life, notify))
            source.start(notify)
        except ImportError as error:
            cure = "install kubelb with what it depends on"
            self._failing = Trouble("missing-extra", f"the package {error.name} is not installed", cure)
            return True
        except (OSError, RuntimeError) as error:
            self.stop()
            reason = f"{self.name} cannot be started: {error}"
            self._emit(DiscoveryFailed(self._service, "internal", reason, "is this process at a limit (ulimit, pids)?"))
            return False
        if not self._wanted():  # meanwhile: it may have been stopped before it was started
            source.stop()
        return True

    def stop(self) -> None:
        """End the source. What its thread still says is not heard."""
        with self._lock:
            source, self._source = self._source, None
            self._life = self._failing = self._failed = None
        if source is not None:
            source.stop()

    def resync(self) -> None:
        """Have it fetch everything again."""
        source = self._source
        if source is not None:
            source.resync_now()

    def poll(self, now: float) -> tuple[Snapshot | None, float | None]:
        """Ask the source for news."""
        # A source recovers after it has learnt everything. So it is asked for news after it was seen to be well, or
        # what it knew before would pass for what it knows now.
        self._failed = self._failing
        source = self._source
        if source is None:
            return None, None
        snapshot, due = source.poll(now)
        if snapshot is not None:
            self.snapshot, self._synced = snapshot, True
        return snapshot, due

    @property
    def waiting(self) -> bool:
        """Whether it is still on its way to the first answer, or the first failure."""
        return bool(getattr(self._source, "waiting", False))

    def standing(self) -> Standing:
        """What is known of it, for the choice."""
        with self._lock:
            since, failing = self._since, self._failing or self._failed
        known = self.snapshot if self._synced else None
        return Standing(since, self._synced, known.endpoints if known else (), failing)

    def trouble(self) -> Trouble:
        """Why it is not the one in use."""
        failing = self._failing
        if failing is not None:
            return failing
        if self._synced:
            return Trouble("empty", (self.snapshot.problem if self.snapshot else "") or "it has no endpoints")
        health = self.health()
        return Trouble("late", f"no answer within {LATE:g} s: {health.error}", health.cure)

    def health(self) -> Health:
        """The source's own."""
        source, failing = self._source, self._failing
        if source is not None:
            health = source.health()
            known = self.snapshot if self._synced else None
            empty = known.problem if known is not None and not known.endpoints else ""
            if empty and empty not in health.error:  # it can be read, and that is what it says
                health = replace(health, error=f"{health.error}; {empty}" if health.error else empty)
            return health
        if failing is None:
            return Health(self.name)
        return Health(self.name, error=failing.reason, cure=failing.cure, kind=failing.kind)

    def _note(self, life: object, notify: Callable[[], None], event: Event) -> None:
        """Take an event of the source, on whatever thread it comes."""
        with self._lock:
            if life is not self._life:
                return
            if isinstance(event, DiscoveryFailed):
                if self._failing is None:
                    self._since = self._clock()
                self._failing = Trouble(event.kind, event.reason, event.cure)
            elif isinstance(event, DiscoveryRecovered):
                self._failing = None
        self._emit(event.named(self._service))
        notify()
