"""What happens to the knowledge of endpoints: new sets, sources that fail and recover, files of certificates."""

from kubelb.core.events.base import Event, Level, place
from kubelb.core.events.counters import Attribute, Counter

__all__ = [
    "DiscoveryFailed",
    "DiscoveryRecovered",
    "EndpointsChanged",
    "Skipped",
    "SourceChanged",
    "SpilledOver",
    "TlsFilesChanged",
]

NAMED = 5
"""Endpoints that a line names; of more it says how many."""

FAILURES = (
    *("unreachable", "unauthorized", "forbidden", "throttled", "server-error", "malformed", "credentials"),
    *("missing-extra", "expired", "silent", "absent", "internal"),
)


class EndpointsChanged(Event):
    """A new set is in use, or, with a `problem`, none: an unknown service is not the same as an empty one.

    `used` endpoints are to be picked from, `parked` ones known and not picked now. `added` and `removed` are addresses,
    `added_pods` and `removed_pods` the names of their pods in the same order, "" where discovery knows none.
    """

    version: int
    used: int
    parked: int
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    problem: str = ""
    added_pods: tuple[str, ...] = ()
    removed_pods: tuple[str, ...] = ()

    counter = Counter("kubelb.discovery.updates", "{update}", "Sets of endpoints that were taken into use.")

    @property
    def level(self) -> Level:
        return "warning" if self.problem else "info"

    @property
    def numbers(self) -> str:
        """How many there are now, in words."""
        return f"{self.used} endpoints in use, {self.parked} parked"

    @property
    def text(self) -> str:
        if self.problem:
            went = f", {len(self.removed)} went" if self.removed else ""
            return f"{self.numbers}{went}: {self.problem}"
        return self.numbers + self.names

    @property
    def names(self) -> str:
        """Those that came and went: up to five of each, and how many more."""
        return _names(" +", self.added, self.added_pods) + _names(" -", self.removed, self.removed_pods)

    @property
    def key(self) -> tuple[str, ...]:
        return self._key(self.problem)


class DiscoveryFailed(Event):
    """The source can't be read for now; the last known good set stays in use.

    `kind` is a stable word: ``unreachable``, ``unauthorized``, ``forbidden``, ``throttled``, ``server-error``,
    ``malformed``, ``credentials``, ``missing-extra``, ``expired``, ``silent``, ``absent`` (DNS has the name no more,
    which is not believed at once), ``internal`` (a mistake of kubelb's own, or of a `Discovery` of yours, or a limit
    of the process). A `Discovery` of yours may have words of its own.
    """

    kind: str
    reason: str
    cure: str = ""

    counter = Counter(
        "kubelb.discovery.failures",
        "{failure}",
        "Failures to read the source of endpoints.",
        (Attribute("error.type", "kind", FAILURES, "the `kind` of a Discovery of yours, or what kind of failure"),),
    )

    @property
    def text(self) -> str:
        return f"discovery {self.kind}: {self.reason}{_cure(self.cure)}; what is known of endpoints stays in use"

    @property
    def key(self) -> tuple[str, ...]:
        return self._key(self.kind)


class DiscoveryRecovered(Event):
    """The source is read again after a failure that lasted `seconds`."""

    seconds: float

    counter = Counter("kubelb.discovery.recoveries", "{recovery}", "Times the source of endpoints could be read again.")

    @property
    def level(self) -> Level:
        return "info"

    @property
    def text(self) -> str:
        return f"discovery is back after {self.seconds:.1f} s"


class SourceChanged(Event):
    """Endpoints come from another rung of the ladder: `source` now, `before` until now.

    `kind` says why: a word of `DiscoveryFailed`, ``late`` (no answer yet), ``empty`` (no endpoints there), or
    ``recovered`` for the way up.
    """

    source: str
    before: str
    kind: str
    reason: str
    cure: str = ""

    schemes = frozenset({""})
    counter = Counter(
        "kubelb.discovery.source.changes",
        "{change}",
        "Steps from one source of endpoints to another.",
        (
            Attribute("kubelb.discovery.reason", "kind", (*FAILURES, "late", "empty", "recovered"), "why"),
            Attribute("kubelb.discovery.source", "source", ("endpointslices", "dns+srv", "dns"), "the one now"),
        ),
    )

    @property
    def level(self) -> Level:
        return "info" if self.kind == "recovered" else "warning"

    @property
    def text(self) -> str:
        steps = f"endpoints come from {self.source}, no longer from {self.before}"
        return f"{steps}: {self.kind}, {self.reason}{_cure(self.cure)}"

    @property
    def key(self) -> tuple[str, ...]:
        return self._key(self.source, self.kind)


class SpilledOver(Event):
    """Topology hints are not followed (`over`), because no endpoint that they name answers; or they are again."""

    over: bool
    reason: str

    counter = Counter(
        "kubelb.discovery.spills",
        "{change}",
        "Times that topology hints were left, as no endpoint they name answered, and followed again.",
        (Attribute("kubelb.discovery.spill", "change", ("over", "back"), "whether they are left, or followed again"),),
    )

    @property
    def change(self) -> str:
        """``"over"`` or ``"back"``."""
        return "over" if self.over else "back"

    @property
    def level(self) -> Level:
        return "warning" if self.over else "info"

    @property
    def text(self) -> str:
        return f"topology hints are {'not followed for now' if self.over else 'followed again'}: {self.reason}"

    @property
    def key(self) -> tuple[str, ...]:
        return self._key(str(self.over))


class Skipped(Event):
    """Something in the source made no sense and was left out."""

    what: str
    reason: str

    counter = Counter(
        "kubelb.discovery.skipped", "{item}", "Things in the source that made no sense and were left out."
    )

    @property
    def text(self) -> str:
        return f"{self.what} left out: {self.reason}"

    @property
    def key(self) -> tuple[str, ...]:
        return self._key(self.what)


class TlsFilesChanged(Event):
    """A CA or certificate file is not what it was; new connections use it, unless `error` says why they cannot."""

    files: tuple[str, ...]
    error: str = ""

    counter = Counter(
        "kubelb.tls.changes",
        "{change}",
        "TLS files that were not what they had been.",
        (Attribute("kubelb.tls.usable", "usable", ("true", "false"), "whether new connections use them"),),
    )

    @property
    def usable(self) -> bool:
        """Whether new connections use them."""
        return not self.error

    @property
    def level(self) -> Level:
        return "warning" if self.error else "info"

    @property
    def text(self) -> str:
        files = ", ".join(self.files)
        if self.error:
            return f"{files}: changed, and cannot be used ({self.error}); what was read before still is"
        return f"{files}: changed, and read again"

    @property
    def key(self) -> tuple[str, ...]:
        return self._key(*([self.error] if self.error else []))


def _cure(cure: str) -> str:
    return f"; {cure}" if cure else ""


def _names(sign: str, addresses: tuple[str, ...], pods: tuple[str, ...]) -> str:
    """Name up to five endpoints and count the rest."""
    if not addresses:
        return ""
    named = map(place, addresses[:NAMED], pods[:NAMED] or ("",) * NAMED)
    rest = f" and {len(addresses) - NAMED} more" if len(addresses) > NAMED else ""
    return "," + sign + f" {sign.strip()}".join(named) + rest
