"""The feed: takes Snapshots from a source to a balancer, at a measured pace, and wakes what waits for one.

The source only says that there may be news (`notify`). The feed then polls it on a runner thread: at once when the last
publish is `PACE` old, else when it will be. So a burst of events is one Snapshot, a single change is published without
delay, and no balancer sees more than 20 a second. A poll runs on one thread at a time; news during it cause another.

    IDLE --notify--> SCHEDULED --due--> RUNNING --done--> IDLE
                                          |  ^
                                        notify: AGAIN, scheduled when done

The source's times are in its own clock; pacing is in the worker's, which keeps the appointments. A source or a consumer
that raises is reported by `threading.excepthook`, and the source asked again after `RETRY`; so is one that cannot be
started just now, as there is no descriptor or no thread. One that cannot be built, as a kubeconfig is not there yet, is
tried again as discovery asks a server again (`backoff.py`), and at once by `resync_now`.

A feed does not keep its consumer alive: where that was dropped without a `close`, the feed finds so within `LOOK` and
closes itself. It looks, rather than being told by a finalizer, since stopping a source takes locks, and finalizers run
inside other people's.

Waiters come from both worlds: each is a callable that is called once, from the publishing thread, and must return at
once. One that gives up is removed.
"""

import math
import random
import threading
from collections.abc import Callable
from enum import Enum

from kubelb.clock import Clock
from kubelb.discovery.backoff import Backoff
from kubelb.discovery.base import Discovery
from kubelb.errors import TargetError
from kubelb.model import Snapshot
from kubelb.runtime.weakly import weakly
from kubelb.runtime.worker import Worker

__all__ = ["PACE", "Feed"]

PACE = 0.05
"""Seconds between two snapshots, at least."""
RETRY = 1.0
"""Seconds until a source that raised is polled, or started, again."""
LOOK = 30.0
"""Seconds between two looks whether the consumer is still there."""


class _State(Enum):
    IDLE = 0
    SCHEDULED = 1
    RUNNING = 2
    AGAIN = 3


class Feed:
    """Connects one source with one consumer. `publish(snapshot)` runs on a runner thread and must not raise.

    `make` builds the source, on a runner thread too: that may import a client library. `gone` says whether the
    consumer is not there any more; then `make` may return None.
    """

    def __init__(
        self,
        make: Callable[[], Discovery | None],
        publish: Callable[[Snapshot], None],
        worker: Worker,
        clock: Clock,
        gone: Callable[[], bool] = lambda: False,
    ) -> None:
        self._make = make
        self._publish = publish
        self._worker = worker
        self._clock = clock
        self._gone = gone
        self._lock = threading.Lock()
        self._state = _State.IDLE
        self._due = 0.0
        self._last = float("-inf")
        self._opens = math.inf
        """When the source is to be built or started, in the worker's time; inf where that is under way, or done."""
        self._hurry = False
        """Whether `resync_now` was called while it is being built: if in vain, it is built again at once."""
        self._backoff = Backoff(worker.clock, random.Random())
        self._started = False
        self._closed = False
        self._waiters: set[Callable[[], None]] = set()
        self.source: Discovery | None = None
        """None until it is built."""
        self.problem = ""
        """Why it could not be built the last time; "" when it is."""

    def start(self) -> None:
        """Build and start the source, then publish what it says; idempotent, so an interrupted one can be repeated."""
        if not self._started:
            self._worker.retain()
            try:
                self._open_at(self._worker.clock())
            except RuntimeError:  # no thread to be had: the caller is told, and may try again
                self._worker.release()
                raise
            self._started = True
            self._look_later()

    def close(self) -> None:
        """Stop the source and wake all waiters; idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            source = self.source
        try:
            if source is not None:
                source.stop()
        finally:
            self._wake()
            self._worker.release()

    def abandon(self) -> None:
        """In a forked child: publish nothing more; its threads are not here, or greenlets that survived."""
        self._closed = True

    def resync_now(self) -> None:
        """Have the source fetch everything again; where it could not be built, build it now."""
        if self.source is not None:
            self.source.resync_now()
            return
        with self._lock:
            if self._opens == math.inf:  # it is being built, of what was there before
                self._hurry = True
            if self._closed or self._hurry:
                return
            self._opens = now = self._worker.clock()
        self._worker.call_at(now, self._open)

    def _open_at(self, when: float) -> None:
        self._opens = when
        self._worker.call_at(when, self._open)

    def _open(self) -> None:
        with self._lock:
            # An appointment that an earlier one has superseded finds nothing to do, or a later time.
            if self._closed or self._worker.clock() < self._opens:
                return
            self._opens, self._hurry = math.inf, False
        if self._gone():
            self.close()
            return
        source = self.source or self._build()
        if source is None:
            return
        with self._lock:
            if self._closed:
                return
            self.source = source
        try:
            source.start(self.notify)
        except Exception:
            self._open_at(self._worker.clock() + RETRY)
            raise
        if self._closed:  # meanwhile: it may have been stopped before it was started
            source.stop()
        self.notify()

    def _build(self) -> Discovery | None:
        try:
            source = self._make()
        except Exception as error:  # noqa: BLE001
            # An error of ours says it in words that need no class.
            self.problem = str(error) if isinstance(error, TargetError) else f"{type(error).__name__}: {error}"
            self._wake()
            # Files may be there later, or a descriptor to read them; what is never there costs one look in 30 s.
            self._open_at(self._worker.clock() + (0.0 if self._hurry else self._backoff.next()))
            return None
        self.problem = ""
        return source

    def notify(self) -> None:
        """There may be news; may be called from any thread, returns at once."""
        self._schedule(0.0)

    def add_waiter(self, waiter: Callable[[], None]) -> None:
        """Have `waiter` called at the next snapshot, or when the feed closes."""
        with self._lock:
            if not self._closed:
                self._waiters.add(waiter)
                return
        waiter()

    def remove_waiter(self, waiter: Callable[[], None]) -> None:
        """Take back `add_waiter`."""
        with self._lock:
            self._waiters.discard(waiter)

    def _look_later(self) -> None:
        # Weakly: the appointment of a feed that was closed must not keep what it knew for the rest of the time.
        self._worker.call_at(self._worker.clock() + LOOK, weakly(self._look))

    def _look(self) -> None:
        if self._gone():
            self.close()
        elif not self._closed:
            self._look_later()

    def _schedule(self, delay: float) -> None:
        with self._lock:
            if self._closed:
                return
            if self._state in {_State.RUNNING, _State.AGAIN}:
                self._state = _State.AGAIN
                return
            due = max(self._worker.clock() + delay, self._last + PACE)
            if self._state is _State.SCHEDULED and self._due <= due:
                return
            self._state = _State.SCHEDULED
            self._due = due
        self._worker.call_at(due, self._run)

    def _run(self) -> None:
        with self._lock:
            source = self.source
            # A job that was superseded by an earlier one comes late and finds nothing scheduled, or not yet due.
            now = self._worker.clock()
            if source is None or self._closed or self._state is not _State.SCHEDULED or now < self._due:
                return
            self._state = _State.RUNNING
        delay: float | None = RETRY
        try:
            asked = self._clock()
            snapshot, again = source.poll(asked)
            if snapshot is not None and not self._closed:
                self._last = now
                try:
                    self._publish(snapshot)
                finally:
                    self._wake()
            delay = None if again is None else max(0.0, again - asked)
        finally:
            with self._lock:
                if self._state is _State.AGAIN:
                    delay = 0.0
                self._state = _State.IDLE
            if delay is not None:
                self._schedule(delay)

    def _wake(self) -> None:
        with self._lock:
            waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            waiter()
