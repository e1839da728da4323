"""Asks sooner where requests say that what DNS gave is dead.

Pods that were all replaced leave addresses that refuse, and DNS says so only when the TTL has passed. So where requests
reach none of the endpoints, DNS is asked at once: once a second at most, as ever, and where that brings nothing new
after 1, 2, 4 seconds and so on. A service that is simply down costs its nameserver no more than its TTL does.
"""

from collections.abc import Callable, Collection
from typing import TypeAlias

from kubelb.discovery.dns.finding import CEILING, FLOOR
from kubelb.model import Address

__all__ = ["LOOK", "Reached", "Urgency"]

LOOK = 1.0
"""Seconds between two looks at traffic."""

Reached: TypeAlias = Callable[[Collection[Address] | None], bool | None]
"""Whether requests reach any of these endpoints; None where that is not known."""


class Urgency:
    """Watches over the endpoints of one source. Called by one thread at a time."""

    def __init__(self, reached: Reached) -> None:
        self._reached = reached
        self._look = self._due = float("-inf")
        self._pause = FLOOR

    def look(self, endpoints: Collection[Address], now: float) -> tuple[bool, float | None]:
        """Whether to ask now, and when to look again."""
        if not endpoints:
            return False, None
        if now < self._look:
            return False, self._look
        self._look = now + LOOK
        if self._reached(endpoints) is not False:
            self._due, self._pause = float("-inf"), FLOOR
            return False, self._look
        if now < self._due:
            return False, self._look
        self._due, self._pause = now + self._pause, min(2 * self._pause, CEILING)
        return True, self._look
