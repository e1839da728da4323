"""Readiness: whether the first endpoints are known, and how long is waited for them.

Only the first snapshot is waited for. After a call that waited in vain, calls fail at once for as long as discovery has
nothing else to say; every few seconds one of them has it ask again, out of its turn.
"""

from kubelb.clock import Clock
from kubelb.core.balancer import Balancer
from kubelb.core.events import DiscoveryFailed, DiscoveryRecovered, Event
from kubelb.core.options import number
from kubelb.printable import shown
from kubelb.runtime.feed import Feed
from kubelb.runtime.waiting import await_until, wait_until

__all__ = ["Readiness", "check_timeout"]

PROBE = 5.0
"""Seconds between two times that calls which fail at once have discovery ask again, out of its own turn."""


class Readiness:
    """Of one balancer."""

    def __init__(self, balancer: Balancer, timeout: float, clock: Clock) -> None:
        check_timeout(timeout)
        self.timeout = timeout
        """Seconds that a call waits at most for the first endpoints."""
        self._balancer = balancer
        self._clock = clock
        self._failing: float | None = None
        """Since when discovery has told of failures; None while it is well."""
        self._in_vain = False
        """Whether a call has waited since then for the first endpoints, and got none."""
        self._probe_at = float("-inf")

    def known(self, feed: Feed | None) -> bool:
        """Whether there is nothing to wait for: endpoints are known, or discovery cannot begin, or all is closed."""
        return self._balancer.closed or (feed is not None and bool(feed.problem)) or (self._balancer.version or 0) > 0

    def wait(self, feed: Feed, until: float) -> None:
        """Block until the first endpoints are known, or `until`."""
        while not self.known(feed) and self._clock() < until:
            wait_until(feed, lambda: self.known(feed), until, self._clock)

    async def wait_async(self, feed: Feed, until: float) -> None:
        """The same for asyncio."""
        while not self.known(feed) and self._clock() < until:
            await await_until(feed, lambda: self.known(feed), until, self._clock)

    def heard(self, event: Event) -> None:
        """Learn how discovery fares."""
        if isinstance(event, DiscoveryFailed):
            if self._failing is None:
                self._failing = self._clock()
        elif isinstance(event, DiscoveryRecovered):
            self.forget()

    def forget(self) -> None:
        """Discovery is well, or begins anew."""
        self._failing, self._in_vain = None, False

    def gave_up(self, feed: Feed | None) -> None:
        """A call has waited in vain."""
        self._in_vain = self._stuck(feed)

    def first_wait(self, feed: Feed | None) -> float:
        """Return the seconds to wait for the first endpoints; none where a call has waited for the same in vain."""
        since = self._failing
        if feed is None or since is None:
            return self.timeout
        now = self._clock()
        # A client's own timeout may be no longer than this wait, so that no call ever comes to its end.
        if not (self._in_vain or (now >= since + self.timeout and self._stuck(feed))):
            return self.timeout
        if now >= self._probe_at:
            self._probe_at = now + PROBE
            feed.resync_now()
        return 0.0

    def _stuck(self, feed: Feed | None) -> bool:
        """Whether discovery has failed in every way that it knows, and is trying none for the first time just now."""
        return self._failing is not None and not (feed is not None and getattr(feed.source, "waiting", False))


def check_timeout(ready_timeout: object) -> None:
    """Raise ValueError for what is no number of seconds."""
    if not number(ready_timeout) >= 0:
        raise ValueError(f"ready_timeout={shown(ready_timeout)}: give a number of seconds, 0 or more")
