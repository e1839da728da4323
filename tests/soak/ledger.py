"""What was sent, and what came of it: written by every worker, read once at the end."""

import threading
from collections import Counter, defaultdict
from itertools import count

__all__ = ["Ledger"]


class Ledger:
    """Calls by client and by how they ended.

    `name` tells the marks of one ledger from another's; a mark names one call of the user's, however often it is sent.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.ends: dict[str, Counter[str]] = defaultdict(Counter)
        self.answered: set[str] = set()
        """Marks of what must not be repeated and was answered."""
        self.once: set[str] = set()
        """Marks of all that must not be repeated."""
        self._numbers = count()
        self._lock = threading.Lock()

    def mark(self, client: str, *, once: bool) -> str:
        """Return a new mark."""
        mark = f"{self._name}-{client}-{next(self._numbers)}"
        if once:
            self.once.add(mark)
        return mark

    def ended(self, client: str, mark: str, how: str) -> None:
        """Note the end of a call: "ok", or the name of what was raised."""
        with self._lock:
            self.ends[client][how] += 1
        if how == "ok" and mark in self.once:
            self.answered.add(mark)

    def calls(self, client: str) -> int:
        """How many calls have ended."""
        return self.ends[client].total()
