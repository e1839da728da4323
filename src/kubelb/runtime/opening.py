"""Opening: when the discovery of one service begins, ends and begins again, and in which process.

It begins with the first call that needs endpoints, is begun by the next pick where a seed serves until then, and ends
with `close`. A forked child has no threads, so what a parent had begun is begun there once more, on first use. Where
threads have become greenlets too late, nothing can work: the next pick says so.
"""

import threading
from collections.abc import Callable
from typing import Any

from kubelb.clock import Clock
from kubelb.core.balancer import Balancer
from kubelb.core.events import DiscoveryFailed, Emit
from kubelb.discovery.base import Discovery
from kubelb.model import Snapshot
from kubelb.runtime.feed import Feed
from kubelb.runtime.fork import settled
from kubelb.runtime.greenlets import TOO_LATE, PatchedTooLate, look
from kubelb.runtime.worker import worker

__all__ = ["Opening"]


class Opening:
    """Of one balancer. What it is given holds its owner weakly: threads would keep alive what is dropped unclosed."""

    def __init__(
        self,
        balancer: Balancer,
        make: Callable[[], Discovery | None],
        publish: Callable[[Snapshot], Any],
        tell: Emit,
        gone: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._balancer = balancer
        self._make = make
        self._publish = publish
        self._tell = tell
        self._gone = gone
        self._clock = clock
        self.new_lock()
        self.now: Feed | None = None
        """The feed, for as long as it is open."""
        self.closed = False
        self.broken = ""
        """Why nothing can work any more."""
        self._resume = False
        """Whether discovery, which a parent had begun, is still to begin here."""

    def feed(self) -> Feed | None:
        """Begin discovery if it has not begun; returns what tells of news, None where it was closed.

        Raises RuntimeError where there is no thread to be had, or threads have become greenlets meanwhile.
        """
        look()
        with self._lock:
            if self.closed:
                return None
            if self.now is None:
                self.now = Feed(self._make, self._publish, worker, self._clock, gone=self._gone)
            self.now.start()
            return self.now

    def begin_at_next_pick(self) -> None:
        """Begin discovery while requests are served from what is known."""
        self._balancer.at_next_pick(self._begin)

    def go_on(self) -> None:
        """Where a parent had begun discovery, begin it here too: not only picks want to hear of new endpoints."""
        settled()
        if self._resume and not self.broken:
            self._begin()

    def close(self) -> None:
        """End it; idempotent."""
        with self._lock:
            self.closed = True
            feed, self.now = self.now, None
        self._balancer.close()
        if feed is not None:
            feed.close()

    def new_lock(self) -> None:
        """In a forked child, and once threads are greenlets."""
        self._lock = threading.Lock()

    def after_fork_in_child(self) -> None:
        """The parent's stream is the parent's: begin anew, on first use."""
        feed, self.now = self.now, None
        if feed is not None:
            feed.abandon()
            self._resume = True
        if self._resume:
            self.begin_at_next_pick()

    def too_late(self) -> None:
        """Refuse, from the next pick on, what could only hang."""
        self.broken = TOO_LATE
        self._balancer.at_next_pick(self._refuse)

    def _refuse(self) -> None:
        raise PatchedTooLate(f"{self._balancer.service}: {TOO_LATE}")

    def _begin(self) -> None:
        """What discovery lacks costs no request."""
        try:
            self.feed()
            self._resume = False
        except PatchedTooLate:
            raise
        except RuntimeError as error:
            cure = "is this process at a limit (ulimit, pids)?"
            reason = f"discovery cannot begin: {error}"
            self._tell(DiscoveryFailed(self._balancer.service, "internal", reason, cure))
            self.begin_at_next_pick()
