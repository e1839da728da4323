"""Which of two resourceVersions is older, and what has been seen of each slice.

Since KEP 5504 (stable in 1.35) the versions of one resource type are integers that only grow, compared as
apimachinery's resourceversion package does: by length, then by text. "0", leading zeros and anything but digits are no
such number, and two versions of which one is no number cannot be compared: then the newcomer is believed, as before.
"""

__all__ = ["KEPT", "LONGEST", "Seen", "number", "older"]

# Deletions remembered between two lists. The server replays at most its watch cache after a reconnect; what is
# forgotten here costs a deleted slice that returns until the next list, and only if the server replays out of order.
KEPT = 1000
LONGEST = 128
"""Characters. etcd's are of 64 bits, which is 20 digits; Python itself makes no number of more than 4300."""


def number(version: str) -> int | None:
    """The version as a number, None where it is none."""
    comparable = len(version) <= LONGEST and version.isascii() and version.isdigit() and version[0] != "0"
    return int(version) if comparable else None


def older(version: str, than: str) -> bool:
    """Whether `version` is certainly older.

    >>> older("9", "10"), older("10", "10"), older("abc", "10"), older("", "10")
    (True, False, False, False)
    """
    left, right = number(version), number(than)
    return left is not None and right is not None and left < right


class Seen:
    """The newest version of each slice, deleted ones included, so that a replayed event changes nothing."""

    __slots__ = ("_deleted", "_live")

    def __init__(self) -> None:
        self._live: dict[str, str] = {}
        self._deleted: dict[str, str] = {}

    def version(self, name: str) -> str:
        """The newest one, "" where it is not known."""
        return self._live.get(name, "")

    def upsert(self, name: str, version: str) -> bool:
        """Note a slice's version; False if it is older than what is known, or than its deletion."""
        if older(version, self._live.get(name, "")) or older(version, self._deleted.get(name, "")):
            return False
        self._deleted.pop(name, None)
        self._live[name] = version
        return True

    def delete(self, name: str, version: str) -> bool:
        """Note a deletion; False if it is older than what is known."""
        if older(version, self._live.get(name, "")) or older(version, self._deleted.get(name, "")):
            return False
        self._live.pop(name, None)
        self._deleted[name] = version
        if len(self._deleted) > KEPT:
            del self._deleted[next(iter(self._deleted))]
        return True

    def replace(self, versions: dict[str, str]) -> set[str]:
        """A list is the truth: forget everything else. Returns the names that are gone."""
        gone = self._live.keys() - versions.keys()
        self._live = versions
        self._deleted = {}
        return gone
