"""Whose a connection is: a forked child has copies of its parent's, and their sockets speak for the parent.

Of asyncio the selector is one for both, too. Even to close such a socket there, or to stop reading from it, makes the
parent deaf; over TLS a goodbye would be written. So a child does nothing with what it has not made.
"""

from kubelb.adapters._httpx.http2.endings import Judged, with_judgement
from kubelb.model import Verdict
from kubelb.process import here, on_settle

__all__ = ["foreign", "forks", "not_ours"]

forks = [0]
"""How many forks are between this process and the first one: what is made here remembers it."""


def foreign(made: int) -> bool:
    """Whether what was made when `forks` was so much is another process's."""
    return not here[0] or made != forks[0]


def not_ours(kind: type[Exception]) -> Exception:
    """Return httpcore's exception of this kind for one that reads or writes there: no fault of the endpoint."""
    words = "the connection is the parent process's"
    return with_judgement(kind(words), Judged(Verdict.NEUTRAL, retryable=False, reason="the parent's connection"))


def _count() -> None:
    forks[0] += 1


on_settle(_count)
