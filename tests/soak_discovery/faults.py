"""What goes wrong, one kind a function: makes the fault, lets it last, mends it, and tells of it.

A fault is mended when it returns, as far as the control plane goes: the API server is ready, the role has an effect.
`rest` waits while it lasts, and does there what has to be done all the time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.soak_discovery.churn import Churn
from tests.soak_discovery.plane import Plane

__all__ = ["KINDS", "Fault", "Scene", "lasting"]


@dataclass
class Scene:
    """What a fault is made with."""

    plane: Plane
    churn: Churn
    dice: random.Random
    rest: Callable[[float], None]


@dataclass
class Fault:
    """What happened. Moments are of the monotonic clock."""

    kind: str
    began: float
    away: list[tuple[float, float]] = field(default_factory=list)
    """From when to when the API server did not answer at all."""
    refused: list[tuple[float, float]] = field(default_factory=list)
    """From when to when it answered, and refused whatever was asked."""
    mended: float = 0.0
    returned: bool = False
    """Whether every stream had to begin anew: then the first second after its return is looked at."""

    @property
    def lasted(self) -> float:
        return self.mended - self.began


def killed(scene: Scene, seconds: float, fault: Fault) -> None:
    """kill -9, and away for a while."""
    died = scene.plane.kill()
    scene.rest(seconds)
    _come_back(scene, fault, died)


def restarted(scene: Scene, seconds: float, fault: Fault) -> None:
    """kill -9, and started at once."""
    _come_back(scene, fault, scene.plane.kill())


def _come_back(scene: Scene, fault: Fault, died: float) -> None:
    fault.away.append((died, scene.plane.start()))
    scene.plane.wait_ready()
    fault.returned = True


def stopped(scene: Scene, seconds: float, fault: Fault) -> None:
    """SIGSTOP: connections stay and are accepted, nothing is answered; then SIGCONT."""
    began = time.monotonic()
    scene.plane.server.freeze()
    scene.rest(seconds)
    scene.plane.server.thaw()
    fault.away.append((began, time.monotonic()))
    scene.plane.wait_ready()


def stopped_and_cut(scene: Scene, seconds: float, fault: Fault) -> None:
    """The same, and a proxy resets the streams, so that every one of them has to begin anew with a silent server."""
    began = time.monotonic()
    scene.plane.server.freeze()
    scene.plane.gate.cut()
    scene.rest(seconds)
    scene.plane.server.thaw()
    fault.away.append((began, time.monotonic()))
    fault.returned = True
    scene.plane.wait_ready()


def role_taken(scene: Scene, seconds: float, fault: Fault) -> None:
    """No permission, and streams that are cut; then permission."""
    scene.plane.take_role()
    _refused(scene, seconds, fault, scene.plane.give_role)


def token_taken(scene: Scene, seconds: float, fault: Fault) -> None:
    """A token that is no good, expired or forged, and streams that are cut; then another one."""
    scene.plane.take_token(forged=scene.dice.random() < 0.5)
    _refused(scene, seconds, fault, scene.plane.give_token)


def _refused(scene: Scene, seconds: float, fault: Fault, mend: Callable[[], None]) -> None:
    began = time.monotonic()
    scene.plane.gate.cut()
    scene.rest(seconds)
    mend()
    fault.refused.append((began, time.monotonic()))


def etcd_compacted(scene: Scene, seconds: float, fault: Fault) -> None:
    """History is gone and etcd restarts while the API server is away; so what it knew is too old when it is back."""
    died = scene.plane.kill()
    scene.rest(seconds / 2)
    scene.churn.halt()
    scene.plane.compact_and_restart()
    scene.churn.go()
    scene.rest(seconds / 2)
    _come_back(scene, fault, died)


def dns_killed(scene: Scene, seconds: float, fault: Fault) -> None:
    """CoreDNS dies and starts anew, while slices can be read."""
    scene.plane.dns.kill()
    scene.rest(seconds)
    scene.plane.dns.start()


def both_killed(scene: Scene, seconds: float, fault: Fault) -> None:
    """The API server away, and CoreDNS too for the middle of that time."""
    died = scene.plane.kill()
    scene.rest(seconds / 3)
    scene.plane.dns.kill()
    scene.rest(seconds / 3)
    scene.plane.dns.start()
    scene.rest(seconds / 3)
    _come_back(scene, fault, died)


def cut(scene: Scene, seconds: float, fault: Fault) -> None:
    """A proxy resets all streams of a server that is well."""
    scene.plane.gate.cut()


KINDS: dict[str, Callable[[Scene, float, Fault], None]] = {
    "killed": killed,
    "restarted": restarted,
    "stopped": stopped,
    "stopped and cut": stopped_and_cut,
    "role taken": role_taken,
    "token taken": token_taken,
    "etcd compacted": etcd_compacted,
    "dns killed": dns_killed,
    "both killed": both_killed,
    "cut": cut,
}


def lasting(dice: random.Random) -> float:
    """Seconds of the next fault: some are over before the ladder steps down (10 s), some not."""
    return dice.choice([dice.uniform(0.5, 4.0), dice.uniform(4.0, 12.0), dice.uniform(12.0, 25.0)])
