"""Topology hints are followed as long as any endpoint that they name answers.

    FOLLOWED --none of the hinted endpoints answers--> SPREAD --one of them does, 10 s later at the soonest--> FOLLOWED

A slice says that a pod is ready until its readiness probe has failed some times, and where a zone is cut off it may say
so for ever. While spread, the endpoints of the own zone stay in use among all others, and outlier detection keeps
trying them: so their return is seen.
"""

from collections.abc import Callable, Collection
from typing import TypeAlias

from kubelb.discovery.kube.reducer import Reducer
from kubelb.model import Address

__all__ = ["LOOK", "Reached", "Spill"]

LOOK = 1.0
"""Seconds between two looks at traffic, where hints decide."""
LEAST = 10.0
"""Seconds for which hints are left, at least."""

Reached: TypeAlias = Callable[[Collection[Address] | None], bool | None]
"""Whether requests reach any of these endpoints, or, without them, any in use; None where that is not known."""


class Spill:
    """Watches over the hints of one reducer. Called under its lock."""

    def __init__(self, reached: Reached) -> None:
        self._reached = reached
        self._home: tuple[Address, ...] = ()
        self._since = 0.0
        self._next = float("-inf")

    def look(self, reducer: Reducer, now: float) -> tuple[bool | None, str, float | None]:
        """Follow hints or leave them; returns whether they were left just now (None: no change), why, and when next."""
        spread = reducer.view.spread
        home = self._home if spread else reducer.hinted()
        if not home:
            return None, "", None
        if now < self._next:
            return None, "", self._next
        self._next = now + LOOK
        answers = self._reached(home)
        if not spread and answers is False:
            self._home, self._since = home, now
            reducer.spread(True)
            return True, f"none of the {len(home)} endpoints that they name answers", self._next
        if spread and answers and now - self._since >= LEAST:
            self._home = ()
            reducer.spread(False)
            return False, "an endpoint that they name answers", self._next
        return None, "", self._next
