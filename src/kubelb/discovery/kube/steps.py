"""What the reflector asks of its driver, and what the driver answers. Values only."""

from collections.abc import Callable
from enum import Enum
from typing import Final, TypeAlias

from kubelb.records import record

__all__ = ["PAUSE", "READ", "RESYNC", "ROUSED", "Answer", "Failure", "Get", "Phase", "Reply", "Sleep", "Step"]


@record(frozen=True, slots=True)
class Get:
    """GET a path. The body of a watch that is answered 200 is still to be read; any other body comes with the Reply."""

    path: str
    watch: bool = False
    fresh: bool = False
    """Read the credentials again first."""
    spent: float = 0.0
    """Seconds of what an answer may take that went into the pages before it."""


@record(frozen=True, slots=True)
class Sleep:
    """Wait; a resync may end it sooner unless `through`."""

    seconds: float
    through: bool = False
    roused: Callable[[], bool] | None = None
    """Whether another stream's news ended it (`comeback.py`); None sleeps on."""


class _Word(Enum):
    READ = "read"
    PAUSE = "pause"
    RESYNC = "resync"
    ROUSED = "roused"


READ: Final = _Word.READ
"""The next bytes of the open watch."""

PAUSE: Final = _Word.PAUSE
"""A good moment to be stopped, in the middle of long work."""

RESYNC: Final = _Word.RESYNC
"""An answer to READ or Sleep: everything is to be fetched again."""

ROUSED: Final = _Word.ROUSED
"""An answer to Sleep: another stream was answered, so the server is there again."""


@record(frozen=True, slots=True)
class Reply:
    """An answer of the server, or of something in between."""

    status: int
    body: bytes = b""
    retry_after: float = 0.0
    server: str = ""
    """Where it came from, ``https://10.96.0.1:443``, for messages."""
    origin: str = ""
    """Where the credentials came from, for messages."""


class Phase(Enum):
    """How far a request got. What a timeout means depends on this, not on the exception: a TLS handshake that times out
    surfaces as a read timeout."""

    CREDENTIALS = "reading the credentials"
    RESOLVE = "looking up the name of"
    CONNECT = "connecting to"
    TLS = "in the TLS handshake with"
    HEADERS = "waiting for an answer from"
    BODY = "reading the answer of"
    STREAM = "watching"


@record(frozen=True, slots=True)
class Failure:
    """No answer, or the end of one that was being read."""

    phase: Phase
    reason: str
    cure: str = ""
    silent: bool = False
    """Nothing came for as long as something should have."""
    missing_extra: bool = False
    """A package is not installed."""
    malformed: bool = False
    """What came is no answer: it has no end, or cannot be read."""


Step: TypeAlias = Get | Sleep | _Word
Answer: TypeAlias = Reply | Failure | bytes | _Word | None
"""To Get: Reply or Failure. To READ: bytes (b"" at the end), Failure or RESYNC. To Sleep: None, RESYNC or ROUSED."""
