"""What one look-up found out: the value that goes from the look-up to the reducer."""

from collections.abc import Mapping

from kubelb.discovery.special import CURE, left_out, screened
from kubelb.model import Endpoint
from kubelb.records import field, record, replace

__all__ = ["CEILING", "FAMILIES", "FLOOR", "KINDS", "Finding", "family_of", "screened_finding"]

FAMILIES = "IPv4", "IPv6"
"""In order of preference, unless another is asked for; one of them is used."""
KINDS = {"IPv4": "A", "IPv6": "AAAA"}
"""The records that hold a family's addresses."""
FLOOR = 1.0
CEILING = 30.0
"""Seconds for which an answer is believed, at least and at most."""


@record(frozen=True, slots=True)
class Finding:
    """An answer, if only that there is nothing. Failures are no findings: they change nothing that is known."""

    ttl: float
    """Seconds until it is to be asked again."""
    endpoints: Mapping[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    """By family. A family that is not in it was not learnt about this time: what is known of it stays."""
    at: float | None = None
    """When it was heard, where that was not just now."""
    early: bool = False
    """The look-up goes on: what was slow comes with the next one."""
    partial: bool = False
    """What is not in it may be there all the same."""
    absent: str = ""
    """``"NXDOMAIN"`` or ``"no such record"``: there is no such name, or it has no record of this kind, just now."""
    none: bool = False
    """The target "." (RFC 2782): decidedly no service here."""
    virtual: str = ""
    """The address of the Service itself (a ClusterIP), which is no pod's."""
    ports: tuple[str, ...] = ()
    """The ports that there are, as ``:number``, where the one that was asked for is not."""
    host_exists: bool = False
    """The name without its port is known."""
    warnings: tuple[tuple[str, str], ...] = ()
    """What was left out, and why."""
    refused: tuple[str, ...] = ()
    """Addresses that are not dialled, left out as well."""
    where: str = ""
    """What says so, where that is not DNS: the path of the hosts file."""

    @property
    def lies(self) -> bool:
        """Whether it has nothing but addresses that are not dialled: that is no answer, and empties nothing."""
        return bool(self.refused) and not any(self.endpoints.values())


def screened_finding(finding: Finding) -> Finding:
    """Return the finding without addresses that are no server's (see `kubelb.discovery.special`).

    A family that has no others is left out: a lie says nothing of what there is.
    """
    good, refused = dict[str, tuple[Endpoint, ...]](), list[str]()
    for family, endpoints in finding.endpoints.items():
        fine, bad = screened(endpoints)
        refused += bad
        if fine or not bad:
            good[family] = fine
    if not refused:
        return finding
    warning = "a part of the answer", f"{left_out(refused)}; {CURE}"
    return replace(finding, endpoints=good, warnings=(*finding.warnings, warning), refused=tuple(refused))


def family_of(ip: str) -> str:
    """One of `FAMILIES`."""
    return "IPv6" if ":" in ip else "IPv4"
