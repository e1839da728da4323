"""What happens, act by act.

Which pods are hit is drawn from the seed, not chosen for effect: whether the plain side has a connection to the pod
that turns slow is chance, as it is in a cluster.
"""

import random
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from kubelb.cli.demo.settings import REPLICAS, Settings
from kubelb.cli.demo.stage import Stage
from kubelb.clock import Clock, monotonic

__all__ = ["AFTER", "BEFORE", "FAULTS", "WARM_UP", "Act", "Play", "Script", "the_script"]

WARM_UP, BEFORE, FAULTS, AFTER = "warm-up", "before", "faults", "after"

SLOWDOWN = 10
JOINING = 2


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Act:
    """`do` happens at its beginning; it lasts `seconds`, or until `do` is done. Figures are kept by `phase`."""

    name: str
    phase: str
    seconds: float
    words: str
    do: Callable[[], None] = _nothing


Script: TypeAlias = Callable[[Stage, Settings], Sequence[Act]]


def the_script(stage: Stage, settings: Settings) -> Sequence[Act]:
    """Calm, a slow pod, a crash, two newcomers, a rolling restart, calm."""
    unit = settings.seconds / 35
    slow, dead = random.Random(settings.seed).sample(stage.service.backends, 2)  # by chance, but the same again
    alive = REPLICAS - 1 + JOINING
    grace = min(0.8, 6.5 * unit / alive * 0.8)
    return (
        Act("warm-up", WARM_UP, 2 * unit, "Both sides open their connections; latencies do not count yet."),
        Act("calm", BEFORE, 7 * unit, f"{REPLICAS} healthy pods: what each side is like before anything happens."),
        Act(
            "slow pod",
            FAULTS,
            6 * unit,
            f"{slow.name} turns slow: its answers take {SLOWDOWN} times as long. It stays ready.",
            lambda: stage.slow_down(slow, SLOWDOWN),
        ),
        Act(
            "crash",
            FAULTS,
            5 * unit,
            f"{dead.name} crashes: its connections are reset. Its slice says so after {stage.lag:.1f} s.",
            lambda: stage.crash(dead),
        ),
        Act(
            "scale up",
            FAULTS,
            4 * unit,
            f"{JOINING} pods join: {REPLICAS - 1} were left, {alive} are wanted.",
            lambda: stage.service.scale(alive),
        ),
        Act(
            "restart",
            FAULTS,
            6.5 * unit,
            f"A rolling restart replaces all {alive} pods one by one, {slow.name} among them.",
            lambda: stage.service.rolling_restart(grace=grace),
        ),
        Act("calm again", AFTER, 4.5 * unit, "Quiet: new pods only, all of them healthy."),
    )


class Play:
    """Performs the acts on a thread of its own. Each of `tell` hears of an act before it begins."""

    def __init__(self, acts: Sequence[Act], tell: Iterable[Callable[[Act], None]] = ()) -> None:
        self.acts = acts
        self.index = 0
        self.done = threading.Event()
        self.error: BaseException | None = None
        self._tell = tuple(tell)
        self._clock: Clock = monotonic
        self._began = self._clock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubelb-demo-script", daemon=True)

    @property
    def act(self) -> Act:
        """The one that is on."""
        return self.acts[self.index]

    @property
    def elapsed(self) -> float:
        """Seconds since the first act began."""
        return self._clock() - self._began

    def start(self) -> None:
        """Begin with the first act."""
        self._began = self._clock()
        self._thread.start()

    def stop(self) -> None:
        """Begin no other act; one that is being done ends with the cluster."""
        self._stop.set()

    def _run(self) -> None:
        try:
            for index, act in enumerate(self.acts):
                until = self._clock() + act.seconds
                self.index = index
                for tell in self._tell:
                    tell(act)
                act.do()
                if self._stop.wait(max(0.0, until - self._clock())):
                    return
        except BaseException as error:  # noqa: BLE001  told by what waits for `done`
            self.error = error
        finally:
            self.done.set()
