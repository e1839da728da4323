"""Survey: what the next picker is to be built from, as it stands at one moment.

It is taken under the balancer's lock, so nothing foreign runs in here and nothing is kept: tuples go out.
"""

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

from kubelb.core.health.ejector import Ejector
from kubelb.core.state import EndpointState, Phase
from kubelb.model import Address, Snapshot

__all__ = ["Survey", "survey"]

States = tuple[EndpointState, ...]


class Survey(NamedTuple):
    """What was seen."""

    generation: int
    """Of the state that this is a picture of; a picker built from an older one is thrown away."""
    snapshot: Snapshot | None
    eligible: States
    """In use and not ejected."""
    elders: States
    """The eligible ones beside newcomers; empty where nobody is new."""
    due: States
    """Ejected ones whose probe is due."""
    oldest: float
    """When the slow start of the newcomer that has been here longest began; infinity where there is none."""
    wake: float
    """When something changes by itself."""


def survey(
    generation: int,
    snapshot: Snapshot | None,
    used: Mapping[Address, EndpointState],
    newcomers: Collection[EndpointState],
    ejector: Ejector | None,
    now: float,
) -> Survey:
    """Look at the states in use, of which `newcomers` are in their slow start."""
    away = ejector.away if ejector and ejector.enforces else []
    eligible = tuple(used.values())
    if away:
        eligible = tuple(state for state in eligible if state.phase is Phase.ACTIVE)
    return Survey(
        generation,
        snapshot,
        eligible,
        _without(eligible, newcomers),
        tuple(state for state in away if state.phase is Phase.DUE),
        min((state.warm_since for state in newcomers), default=math.inf),
        ejector.wake(now) if ejector else math.inf,
    )


def _without(states: States, some: Collection[EndpointState]) -> States:
    """Return those that are not among `some`; empty where `some` is. A dict does 10 000 in a fifth of a loop's time."""
    if not some:
        return ()
    rest = dict.fromkeys(states)
    for state in some:
        rest.pop(state, None)
    return tuple(rest)
