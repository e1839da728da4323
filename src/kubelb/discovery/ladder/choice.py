"""Which rung of the ladder to stand on. Pure: what each rung said in, a Decision out.

The first rung that works is used. What "works" means leans towards staying where we are:

- A rung that has never answered has `LATE` seconds before the next one is tried beside it. One that failed has none:
  there is nothing to lose.
- A rung that has answered and now fails keeps its endpoints in use for `PATIENCE` seconds. An API server that restarts
  needs no fallback. That is for the rung in use: one that was left is used again when it has recovered, and not a
  moment before, for what it knew is the past.
- A rung further down that has no endpoints does not work: DNS cannot tell "empty" from "unknown", nor from "not here".
  The first rung, the slices, can; there, empty is an answer.
- A rung further down whose addresses have none in common with the pods known from the first, by IP and port, is a
  stranger: most often the Service's own address (ClusterIP), or the pods with a port that they do not listen on. Pods
  that were known a moment ago are the better choice; after `STRANGER` seconds without news of them they no longer are,
  unless traffic reaches them.
- Where traffic reaches none of the endpoints in use, and the rung they are from fails, there is nothing to wait for:
  neither patience nor strangeness keeps the next rung from being used.
- Where no rung works, the one in use stays, also where it knows of no endpoint any more: what a rung above knew before
  it failed is older than that.

As soon as a rung further up works again, it is used again.
"""

from collections.abc import Sequence
from typing import NamedTuple

from kubelb.model import Endpoint

__all__ = ["LATE", "PATIENCE", "STRANGER", "Decision", "Standing", "Trouble", "decide", "stranger"]

LATE = 2.0
PATIENCE = 10.0
STRANGER = 300.0


class Trouble(NamedTuple):
    """What is wrong with a rung. `kind` is a word of `DiscoveryFailed`, or ``late``, ``empty``, ``missing-extra``."""

    kind: str
    reason: str
    cure: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"


class Standing(NamedTuple):
    """What is known of a rung that runs."""

    since: float
    """When it was started, or, where it fails, began to."""
    synced: bool = False
    endpoints: tuple[Endpoint, ...] = ()
    """Those that it would have us use."""
    failing: Trouble | None = None


class Decision(NamedTuple):
    """`use` is a rung's number, None for none yet; `run` is how many rungs have to run, from the first on."""

    use: int | None
    run: int
    due: float | None = None
    """When to decide again, if nothing is heard until then."""


def decide(
    standings: Sequence[Standing], rungs: int, current: int | None, now: float, reached: bool | None = None
) -> Decision:
    """Choose among `rungs`, of which the first `len(standings)` run.

    `reached` is whether traffic reaches the endpoints in use, None where that is not known.
    """
    due: float | None = None
    for number, rung in enumerate(standings):
        if not rung.synced and rung.failing is None and now < rung.since + LATE:
            return Decision(_held(standings, current), number + 1, _least(due, rung.since + LATE))
        if not rung.synced or (number and not rung.endpoints):
            continue
        if number and number != current and reached is not False and stranger(rung, standings[0]):
            if reached:
                continue
            known = standings[0].since + STRANGER
            if now < known:
                due = _least(due, known)
                continue
        if rung.failing is None:
            return Decision(number, number + 1, due)
        if number == current and reached is False:
            continue
        if rung.endpoints and now < rung.since + PATIENCE and (current is None or number >= current):
            return Decision(number, number + 1, _least(due, rung.since + PATIENCE))
    return Decision(_held(standings, current), min(len(standings) + 1, rungs), due)


def _held(standings: Sequence[Standing], current: int | None) -> int | None:
    """Where no rung works: the one in use, if it has anything, else the first below it that has."""
    order = range(current or 0, len(standings))
    return next((number for number in order if standings[number].endpoints), current)


def stranger(rung: Standing, first: Standing) -> bool:
    """Whether a rung's endpoints have none in common with those that the first one knew."""
    known = {endpoint.address for endpoint in first.endpoints}
    return bool(known and rung.endpoints) and known.isdisjoint(endpoint.address for endpoint in rung.endpoints)


def _least(one: float | None, other: float) -> float:
    return other if one is None else min(one, other)
