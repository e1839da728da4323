"""Hints: what the caller knows of the requests it is about to make, whatever client makes them.

    with kubelb.hints(key=user_id, deadline=2.0):
        client.get("http://reviews.prod/ratings/7")
        stub.Get(request)

They are kept in a context variable, so they are a thread's or a task's own, and a task begun inside inherits them. What
is said with a request itself (a client's own way, or the arguments of `LoadBalancer.call`) takes precedence. Deadlines
alone are different: no block can give more time than there is, so the earliest counts.
"""

import math
from types import TracebackType
from typing import NamedTuple, Self

from kubelb.clock import Clock, monotonic
from kubelb.core.options import number
from kubelb.masking import MASK
from kubelb.printable import shown
from kubelb.runtime.scoped import Scoped

__all__ = ["Hinted", "current", "hints", "seconds"]


def seconds(name: str, value: float) -> float:
    """Return the seconds that are left as they are, zero or less where none are; raises ValueError for no number."""
    if math.isnan(number(value)):
        raise ValueError(f"{name}={value!r}: give a number of seconds, or None")
    return value


class Hinted(NamedTuple):
    """The hints in force, those of the blocks around included. A key may be a session's, so no repr shows it."""

    key: str | bytes | None
    idempotent: bool | None
    until: float
    """When time is over, by `clock`; infinity where no block said."""
    clock: Clock

    @property
    def left(self) -> float | None:
        """Seconds until time is over; negative when it is, None where no block said."""
        return None if self.until == math.inf else self.until - self.clock()

    def __repr__(self) -> str:
        return f"Hinted(key={None if self.key is None else MASK}, idempotent={self.idempotent}, until={self.until})"

    def beside(
        self, key: str | bytes | None, idempotent: bool | None, deadline: float | None
    ) -> tuple[str | bytes | None, bool | None, float | None]:
        """Return what counts for a call that says so much itself."""
        left = self.left
        return (
            self.key if key is None else key,
            self.idempotent if idempotent is None else idempotent,
            left if deadline is None else deadline if left is None else min(seconds("deadline", deadline), left),
        )


_current: Scoped[Hinted] = Scoped("kubelb_hints")
current = _current.get
"""The hints in force; None outside every block."""


class hints:  # noqa: N801  # used as a verb: `with kubelb.hints(...)`
    """A block in which requests carry hints, with every client and in `LoadBalancer.call`.

    - `key`: what policies that hash go by, text or bytes;
    - `idempotent`: whether a request may be sent again although it may have been processed; by default what the
      client's protocol says, e.g. True for GET;
    - `deadline`: seconds from the beginning of the block after which every request in it has ended, all tries included;
      what is left of a budget may be zero or less, and then it is over already: each request raises what its client
      has for a deadline that is over (`DeadlineExceeded`), and nothing is sent. Infinity bounds nothing.

    Blocks nest: the inner one's `key` and `idempotent` replace the outer one's where they are given, and the earlier
    deadline counts. Raises `ValueError` for a deadline that is NaN, `TypeError` for one of another type.

    >>> import kubelb
    >>> lb = kubelb.LoadBalancer("static:///127.0.0.1:80")
    >>> with kubelb.hints(deadline=2.0):
    ...     lb.call(lambda attempt: attempt.timeout <= 2.0)
    True
    """

    __slots__ = ("_clock", "_deadline", "_idempotent", "_key")

    def __init__(
        self,
        *,
        key: str | bytes | None = None,
        idempotent: bool | None = None,
        deadline: float | None = None,
        clock: Clock = monotonic,
    ) -> None:
        if not isinstance(key, str | bytes | None):
            raise TypeError(f"hints(key={shown(key)}): give text or bytes, e.g. str(key)")
        if not isinstance(idempotent, bool | None):
            raise TypeError(f"hints(idempotent={shown(idempotent)}): give True or False")
        if not isinstance(deadline, int | float | None):
            raise TypeError(f"hints(deadline={shown(deadline)}): give a number of seconds, or None")
        if deadline is not None and math.isnan(deadline):
            raise ValueError(f"hints(deadline={deadline!r}): give a number of seconds, or None")
        self._key = key
        self._idempotent = idempotent
        self._deadline = deadline
        self._clock = clock

    def __enter__(self) -> Self:
        key, idempotent, until = self._key, self._idempotent, math.inf
        if self._deadline is not None:
            until = self._clock() + self._deadline
        if (outer := current()) is not None:
            key = outer.key if key is None else key
            idempotent = outer.idempotent if idempotent is None else idempotent
            left = outer.left
            until = until if left is None else min(until, self._clock() + left)
        _current.enter(Hinted(key, idempotent, until, self._clock))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.leave()
