"""Where this process is: what one load balancer learnt of the own node's zone, all that mean the same cluster know.

A zone is learnt from any slice with an endpoint on the own node, which needs no permission to read Nodes. A service of
three pods has none there as a rule, but some other service of the process may. What a service's own slices say counts
before what is told here.

No lock: each step is a single operation on a dict, so it is right in threads, in finalizers and in forked children.
"""

from collections.abc import Callable
from typing import Protocol
from weakref import ref

from kubelb.discovery.kube.access import Locator
from kubelb.records import record

__all__ = ["CURE", "UNPLACED", "Place", "after_fork_in_child", "join", "tell", "zone_of"]

UNPLACED = "the slices ask to stay in the own zone (topology hints), and the zone of this process is unknown"
CURE = (
    "set KUBELB_ZONE through the downward API (fieldRef metadata.labels['topology.kubernetes.io/zone'], Kubernetes "
    "1.35 and later), or give DiscoveryOptions(zone=...); with NODE_NAME (fieldRef spec.nodeName) it is learnt from "
    "any Service called here that has a pod on this node"
)


@record(frozen=True, slots=True)
class Place:
    """A node of a cluster, the cluster named by the way to it."""

    locator: Locator
    node: str


class Listener(Protocol):
    """Receives the own zone."""

    def placed(self, zone: str) -> None:
        """The own node is in this zone. Must not raise."""


_zones: dict[Place, str] = {}
_listeners: dict[int, tuple[Place, ref[Listener]]] = {}


def zone_of(place: Place) -> str:
    """Return the zone that was learnt last, "" for none."""
    return _zones.get(place, "")


def join(place: Place, listener: Listener) -> None:
    """Tell it, for as long as it lives or until a fork, what is learnt from now on."""
    number = id(listener)
    _listeners[number] = place, ref(listener, _leaver(number))


def tell(place: Place, zone: str) -> None:
    """Take over what a service's slices say, and tell all others."""
    if _zones.get(place) != zone:
        _zones[place] = zone
        for other, reference in tuple(_listeners.values()):
            if other == place and (listener := reference()) is not None:
                listener.placed(zone)


def after_fork_in_child() -> None:
    """Forget all listeners: a thread that is not here may hold the lock of one. Those that start here join again."""
    _listeners.clear()


def _leaver(number: int) -> Callable[[object], None]:
    return lambda _: _listeners.pop(number, None) and None
