"""What the pods of one service share behind its public face: its spec, its slices, the cluster's moving parts."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from kubelb.testing import objects
from kubelb.testing.doorman import Doorman
from kubelb.testing.slices import Pod, SliceSet
from kubelb.testing.threads import Threads
from kubelb.testing.timers import Timers


@dataclass(slots=True)
class Machinery:
    """One of each for a cluster. `lock` guards what pods are and which slices say so; nothing waits under it."""

    doorman: Doorman
    timers: Timers
    lag: float
    threads: Threads = field(default_factory=Threads)
    lock: threading.RLock = field(default_factory=threading.RLock)


@dataclass(slots=True)
class Workload:
    """A service as its backends see it. `listens` False: endpoints on paper, without servers.

    `tls` is for a protocol that a backend's front terminates.
    """

    spec: objects.ServiceSpec
    machinery: Machinery
    slices: SliceSet
    hints: str | None
    publish_not_ready: bool
    listens: bool
    tls: ssl.SSLContext | None
    deleted: bool = False

    def sync(self, *, add: Iterable[Pod] = (), touch: Iterable[Pod] = (), remove: Iterable[Pod] = ()) -> None:
        """Bring the slices up to date with these pods."""
        with self.machinery.lock:
            if not self.deleted:
                self.slices.sync(add=add, touch=touch, remove=remove)

    def delete(self) -> None:
        """The slices go with the service; what pods do afterwards is written nowhere."""
        with self.machinery.lock:
            self.deleted = True
            self.slices.clear()
