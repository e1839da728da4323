"""How events are counted: a metric for each kind, and by what it tells them apart.

Names begin with ``kubelb.``, attributes too where OpenTelemetry's semantic conventions have none of their own. No
attribute names an endpoint: pods come and go, and each would leave its series behind.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple, TypeAlias

__all__ = ["OBSERVED", "OTHER", "Attribute", "Attributes", "Counter"]

Attributes: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values, in a form that can be a key."""

OTHER = "_OTHER"
"""OpenTelemetry's word for a value beyond those that are told apart."""


class Attribute(NamedTuple):
    """By what a counter tells its events apart; never an endpoint, for each would leave its series behind."""

    name: str
    field: str
    """The field, or property, of the event that it is the value of."""
    values: tuple[str, ...]
    """All that are known beforehand, for which the counter is there at zero; none where any word may come."""
    tells: str
    """What it says, for the documentation."""

    def of(self, event: object) -> str:
        """Return its value: of a flag ``"true"`` or ``"false"``."""
        value = getattr(event, self.field)
        if isinstance(value, str):
            return value if value or self.values else OTHER
        return "true" if value else "false"


OBSERVED = Attribute(
    "kubelb.observed",
    "observed",
    ("false", "true"),
    "`true` where a mechanism with `observe=True` would have acted, and did not",
)


class Counter(NamedTuple):
    """The metric that counts one kind of event."""

    name: str
    unit: str
    description: str
    attributes: tuple[Attribute, ...] = ()

    def beforehand(self, *, possible: bool = True, observing: bool = True) -> Iterator[Attributes]:
        """Return every set of attributes that is known before anything is counted.

        Not `possible`: one set, so that the counter is there all the same. Not `observing`: nothing can be observed
        only, so those sets are left out.
        """
        names = [each.name for each in self.attributes]
        values = [(each.values if possible else ()) or (OTHER,) for each in self.attributes]
        for chosen in product(*values):
            attributes = tuple(zip(names, chosen, strict=True))
            if observing or (OBSERVED.name, "true") not in attributes:
                yield attributes
