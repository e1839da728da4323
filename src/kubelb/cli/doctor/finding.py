"""What one check found: a tick, or what is wrong and its cure."""

from dataclasses import dataclass
from enum import Enum

from kubelb.printable import printable

__all__ = ["Finding", "Mark", "bad", "good", "note"]


class Mark(Enum):
    """How much it matters."""

    GOOD = "ok"
    NOTE = "note"
    """Works without, or cannot be told from here."""
    BAD = "bad"
    """kubelb will not work like this."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`what` was looked at, a word or two; `text` is what was seen, `cure` what to do about it, "" where nothing is."""

    what: str
    mark: Mark
    text: str
    cure: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", printable(self.text))
        object.__setattr__(self, "cure", printable(self.cure))


def good(what: str, text: str) -> Finding:
    """As it should be."""
    return Finding(what, Mark.GOOD, text)


def note(what: str, text: str, cure: str = "") -> Finding:
    """Worth knowing."""
    return Finding(what, Mark.NOTE, text, cure)


def bad(what: str, text: str, cure: str = "") -> Finding:
    """In the way."""
    return Finding(what, Mark.BAD, text, cure)
