"""What a look-up asks of its driver, and what the driver answers. Values only."""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from kubelb.model import Address

__all__ = [
    "CONFIG",
    "HOSTS",
    "RESYNC",
    "Answer",
    "Ask",
    "Config",
    "Enough",
    "Failure",
    "Hosts",
    "Question",
    "Replies",
    "Reply",
    "Rest",
    "Sleep",
    "Srv",
    "Step",
    "Trouble",
]


class Config(NamedTuple):
    """Which nameservers to ask, and what to make of a name that is not complete: what ``/etc/resolv.conf`` says."""

    servers: tuple[Address, ...]
    search: tuple[str, ...] = ()
    ndots: int = 1
    timeout: float | None = None
    """Seconds until the next nameserver is asked; ours where None."""
    attempts: int | None = None
    """Rounds through all of them; ours where None."""
    rotate: bool = False
    """Each question begins with another nameserver."""
    use_vc: bool = False
    """TCP alone ("virtual circuits")."""
    no_aaaa: bool = False
    """Nothing is asked about IPv6."""


class Question(NamedTuple):
    """One name, complete, lower case and with a dot at its end; `kind` is ``"A"``, ``"AAAA"`` or ``"SRV"``."""

    name: str
    kind: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class Srv(NamedTuple):
    """One SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    target: str


class Answer(NamedTuple):
    """What a nameserver knows about one question. Nothing found is an answer, too."""

    srv: tuple[Srv, ...] = ()
    addresses: tuple[str, ...] = ()
    """Canonical texts."""
    ttl: float = 0.0
    """Seconds, the least of everything that led here; of a negative answer how long that may be believed."""
    exists: bool = True
    """False: NXDOMAIN, no record of any kind has this name."""
    partial: bool = False
    """It did not even fit into TCP (64 KiB): what is here is true, what is missing may be there."""
    alias: str = ""
    """The name is another's (CNAME), and of that nothing was said: ask for it."""
    also: Mapping[str, tuple[str, ...]] = {}
    """Addresses of targets, by name, sent along."""


LIES = "ask the nameserver by hand (dig), and see who else may write to this zone"
"""The cure of an answer that makes no sense."""


class Failure(NamedTuple):
    """No answer of any nameserver. `kind` is a word of `DiscoveryFailed`."""

    kind: str
    reason: str
    cure: str = ""


class Trouble(Exception):
    """A look-up that did not succeed. Raised and caught inside the poller only."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


Enough: TypeAlias = Callable[[Question, Answer], bool]
"""Whether an answer is one to go on with."""


class Ask(NamedTuple):
    """Ask all of these at the same time.

    With `enough`, what has come is the reply as soon as one answer is, and no other comes for a moment (`SETTLE`).
    Those that are still missing are None in it, and go on being asked for: see `Rest`.
    """

    questions: tuple[Question, ...]
    enough: Enough | None = None


class Rest(NamedTuple):
    """Wait for those that were missing, so many seconds at most, or until a resync; the others are given up then."""

    questions: tuple[Question, ...]
    seconds: float


class Sleep(NamedTuple):
    """Wait; a resync may end it sooner unless `through`."""

    seconds: float
    through: bool = False


class _Word(Enum):
    CONFIG = "config"
    HOSTS = "hosts"
    RESYNC = "resync"


CONFIG: Final = _Word.CONFIG
"""What resolv.conf says now."""

HOSTS: Final = _Word.HOSTS
"""What /etc/hosts says now."""

RESYNC: Final = _Word.RESYNC
"""An answer to Sleep: everything is to be fetched again."""

Hosts: TypeAlias = Mapping[str, tuple[str, ...]]
"""Addresses by name, in lower case."""

Replies: TypeAlias = tuple[Answer | Failure | None, ...]
Step: TypeAlias = Ask | Rest | Sleep | _Word
Reply: TypeAlias = Replies | Config | Failure | Hosts | _Word | None
"""To Ask and Rest: an Answer or Failure for each question, in order, None where it is missing. To CONFIG: Config or
Failure. To HOSTS: Hosts. To Sleep: None or RESYNC."""
