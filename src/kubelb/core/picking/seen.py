"""Seen: what the next pickers are to be built from, as it stands at one moment.

It is taken under the balancer's lock, so nothing foreign runs in here and nothing is kept: tuples go out.
"""

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple, TypeAlias

from kubelb.core.health.circuits import Circuit
from kubelb.core.health.guards import Guards
from kubelb.core.health.sinkholes import Sinkhole
from kubelb.core.state import EndpointState
from kubelb.model import Address, Snapshot

__all__ = ["Seen", "look", "without"]

States: TypeAlias = tuple[EndpointState, ...]

NEAR = 64
"""States at the end among which newcomers are looked for."""


class Seen(NamedTuple):
    """What was seen."""

    generation: int
    """Of the state that this is a picture of; a picker built from an older one is thrown away."""
    snapshot: Snapshot | None
    everyone: States
    """All that are in use."""
    eligible: States
    """In use, not ejected, their circuits closed."""
    awake: States
    """Those of them that do not rest: what is picked as long as that is possible."""
    newcomers: States
    """Those in use that are in their slow start."""
    bounded: tuple[Sinkhole, ...]
    """Those awake that get no more than their fair share."""
    due: States
    """Those whose probe or trials are due, as often as they are."""
    gate: Circuit | None
    """The service's circuit where that is not closed."""
    oldest: float
    """When the slow start of the newcomer that has been here longest began; infinity where there is none."""
    wake: float
    """When something changes by itself."""


def look(
    generation: int,
    snapshot: Snapshot | None,
    used: Mapping[Address, EndpointState],
    newcomers: Collection[EndpointState],
    guards: Guards,
    now: float,
) -> Seen:
    """Look at the states in use, of which `newcomers` are in their slow start."""
    everyone = eligible = tuple(used.values())
    if guards.barring():
        eligible = tuple(state for state in everyone if not guards.bars(state))
    awake = guards.rests.awake(eligible)
    return Seen(
        generation,
        snapshot,
        everyone,
        eligible,
        awake,
        tuple(newcomers),
        guards.sinkholes.among(awake),
        tuple(guards.due()),
        guards.gate,
        min((state.warm_since for state in newcomers), default=math.inf),
        guards.wake(now),
    )


def without(states: States, some: Collection[EndpointState]) -> States:
    """Return those that are not among `some`; empty where either is.

    What entered last stands last, so the few newcomers of an ordinary change are found at the end, and the others are
    one copy: 10 000 take a fifth of what a dict takes for them, and that a fifth of a loop.
    """
    if not (states and some):
        return ()
    sought, rest, kept = set(some), states, list[EndpointState]()
    if len(sought) < NEAR:
        end = len(states)
        for state in reversed(states[-NEAR:]):
            if not sought:
                break
            end -= 1
            if state in sought:
                sought.discard(state)
            else:
                kept.append(state)
        rest = states[:end]
    if sought:  # many, or some of them rest or are ejected
        others = dict.fromkeys((*rest, *reversed(kept)))
        for state in sought:
            others.pop(state, None)
        return tuple(others)
    return rest + tuple(reversed(kept)) if kept else rest
