"""Which endpoints to use, as kube-proxy would: CategorizeEndpoints in kubernetes/pkg/proxy/topology.go.

Usable are the ready ones that topology allows. If none is ready at all: those still serving while they terminate, from
anywhere (KEP-1669), never mixed with the ready. One that terminates and does not serve is never used, even alone.

Topology is read off the hints of the ready endpoints alone, all or nothing (KEP-3015): if every one names nodes and one
names mine, those that name my node; else if every one names zones and one names mine, those that name my zone; else
everything. Hints are not looked at while `spread` is set: kube-proxy cannot know that no endpoint they name answers, we
can. `traffic_policy="Local"` replaces all of that by: those on my node, ready, else serving and terminating,
else nothing.

Every rule above asks only *whether* there are endpoints with certain marks, so the marks of an endpoint are one small
integer, and the whole choice is made from how many endpoints there are of each: at most 128 counts in a service of any
size, kept up to date one endpoint at a time.
"""

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from kubelb.model import Endpoint
from kubelb.records import record

__all__ = ["NOBODY", "Choice", "Mode", "View", "decide", "mark"]

READY = 1
DRAINING = 2
"""Serving and terminating: what is left to use when nothing is ready."""
LOCAL = 4
NODE_HINTED = 8
NODE_MINE = 16
ZONE_HINTED = 32
ZONE_MINE = 64


@record(frozen=True, slots=True)
class View:
    """Where the caller is and what counts as ready for it. "" is unknown: no endpoint is there, no hint names it."""

    node: str = ""
    zone: str = ""
    local: bool = False
    """``traffic_policy="Local"``."""
    require_serving: bool = False
    """With publishNotReadyAddresses an endpoint is ready although it does not serve; leave those out."""
    avoid_terminating: bool = False
    """The same for those which are ready although they terminate."""
    spread: bool = False
    """Hints are not followed for now."""


class Mode(Enum):
    """Why the chosen are chosen."""

    READY = "ready"
    NODE = "hinted to this node"
    ZONE = "hinted to this zone"
    LOCAL = "ready on this node"
    DRAINING = "none is ready: serving while terminating"
    LOCAL_DRAINING = "none is ready on this node: serving while terminating there"
    NONE = "none can be used"


class Choice(NamedTuple):
    """Used is every endpoint whose marks include all of `need`."""

    mode: Mode
    need: int


NOBODY = Choice(Mode.NONE, 1 << 20)  # a mark that no endpoint has


def mark(endpoint: Endpoint, view: View) -> int:
    """Everything about an endpoint that the choice depends on."""
    marks = 0
    if (
        endpoint.ready
        and (endpoint.serving or not view.require_serving)
        and not (endpoint.terminating and view.avoid_terminating)
    ):
        marks = READY
    if endpoint.terminating and endpoint.serving:
        marks |= DRAINING
    if endpoint.node == view.node and view.node:
        marks |= LOCAL
    if endpoint.node_hints:
        marks |= NODE_HINTED | NODE_MINE if view.node in endpoint.node_hints and view.node else NODE_HINTED
    if endpoint.zone_hints:
        marks |= ZONE_HINTED | ZONE_MINE if view.zone in endpoint.zone_hints and view.zone else ZONE_HINTED
    return marks


def decide(tally: Mapping[int, int], view: View) -> Choice:
    """The choice for a service that has `tally[marks]` endpoints of each kind."""
    present = [marks for marks, count in tally.items() if count]
    if view.local:
        return _first(present, Choice(Mode.LOCAL, READY | LOCAL), Choice(Mode.LOCAL_DRAINING, DRAINING | LOCAL))
    ready = [marks for marks in present if marks & READY]
    if not ready:
        return _first(present, Choice(Mode.DRAINING, DRAINING))
    if view.spread:
        return Choice(Mode.READY, READY)
    if all(marks & NODE_HINTED for marks in ready) and any(marks & NODE_MINE for marks in ready):
        return Choice(Mode.NODE, READY | NODE_MINE)
    if all(marks & ZONE_HINTED for marks in ready) and any(marks & ZONE_MINE for marks in ready):
        return Choice(Mode.ZONE, READY | ZONE_MINE)
    return Choice(Mode.READY, READY)


def _first(present: list[int], *choices: Choice) -> Choice:
    for choice in choices:
        if any(marks & choice.need == choice.need for marks in present):
            return choice
    return NOBODY
