"""A Discovery made of several: it stands on the best rung that works, and steps down and up by itself.

Every step is an event with its reason, and `health()` says for how long as it lasts. An endpoint that two rungs know
keeps its connections and all that was measured of it: its address is the same, and what only slices can tell of it
(pod, uid, zone, node) is kept from the last slices that named it. So when slices are back, a pod that took over the
address of another meanwhile is told apart from it.

Everything happens in `poll`, which one thread at a time calls; what the rungs' threads tell only makes it come. So it
needs no lock, and `stop` waits for nothing: a rung that is being started meanwhile finds out by itself.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from kubelb.clock import Clock, monotonic
from kubelb.core.events import Emit, SourceChanged, discard
from kubelb.discovery.ladder.choice import Standing, Trouble, decide, stranger
from kubelb.discovery.ladder.rung import Make, Rung
from kubelb.model import Endpoint, Health, Snapshot
from kubelb.records import replace

__all__ = ["Ladder"]

RETRY = 1.0
"""Seconds until a rung that could not be started is started again."""
LOOK = 1.0
"""Seconds between two looks at traffic, while the rung in use fails."""

Reached: TypeAlias = Callable[[], bool | None]


def _who_knows() -> bool | None:
    return None


class Ladder:
    """`rungs` are names and makers of sources, the best first."""

    def __init__(
        self,
        service: str,
        rungs: Sequence[tuple[str, Make]],
        *,
        clock: Clock = monotonic,
        emit: Emit = discard,
        reached: Reached = _who_knows,
    ) -> None:
        """`reached` says whether traffic reaches the endpoints in use; it is asked while their rung fails."""
        self._service = service
        self._reached = reached
        self._rungs = [
            Rung(name, make, service=service, clock=clock, emit=emit, wanted=self._wanted) for name, make in rungs
        ]
        self._emit = emit
        self._notify: Callable[[], None] = _nobody
        self._on = False
        self._withheld = "", ""
        """What a rung further down knows and why that is not used; and a cure."""
        self._use: int | None = None
        self._version = 0
        self._given: tuple[int, int] | None = None
        """Rung and version of what was published last."""

    def __repr__(self) -> str:
        return f"<Ladder {self._service} on {self._name(self._use)}>"

    def start(self, notify: Callable[[], None]) -> None:
        """Start the first rung."""
        self._notify, self._on = notify, True
        if not self._rungs[0].running:
            self._rungs[0].start(notify)
        notify()

    def poll(self, now: float) -> tuple[Snapshot | None, float | None]:
        """Ask the rungs that run, choose one, start and stop those below it; return its Snapshot where that is news."""
        if not self._on:
            return None, None
        running = self._running()
        polled = [rung.poll(now) for rung in running]
        due = [later for _, later in polled if later is not None]
        fresh = {number for number, (snapshot, _) in enumerate(polled) if snapshot is not None}
        standings = [rung.standing() for rung in running]
        use = self._use
        reached, fails = None, use is not None and use < len(standings) and standings[use].failing is not None
        if fails:
            reached = self._reached()
            due.append(now + LOOK)
        decision = decide(standings, len(self._rungs), use, now, reached)
        if decision.due is not None:
            due.append(decision.due)
        self._withheld = _withheld(standings, decision.use) if fails else ("", "")
        changed = self._step(decision.use)
        started = self._run(decision.run)
        if started is not None:  # one that cannot be built, or not now, says nothing by itself
            due.append(now if started else now + RETRY)
        news = self._news(fresh) if changed or self._use in fresh else None
        return news, min(due, default=None)

    def health(self) -> Health:
        """The state of the rung in use, with what is wrong with those above it, and why we are not there."""
        use = self._use
        each = [rung.health() for rung in self._running()[: None if use is None else use + 1]]
        withheld, advice = self._withheld
        error = "; ".join(dict.fromkeys(text for text in (*(each.error for each in each), withheld) if text))
        cure = "; ".join(dict.fromkeys(text for text in (*(each.cure for each in each), advice) if text))
        if use is None or use >= len(each):
            kind = each[0].kind if each else ""
            return Health(self._rungs[0].name, error=error or ("" if each else "not started"), cure=cure, kind=kind)
        why = str(self._rungs[0].trouble()) if use else ""
        return replace(each[use], error=error, cure=cure, fallback=why)

    @property
    def waiting(self) -> bool:
        """Whether any rung that runs is still on its way to its first answer, or first failure."""
        return any(rung.waiting for rung in self._running())

    def resync_now(self) -> None:
        """Have every rung that runs fetch everything again."""
        for rung in self._rungs:
            rung.resync()

    def stop(self) -> None:
        """End every rung."""
        self._on = False
        for rung in self._rungs:
            rung.stop()

    def _wanted(self) -> bool:
        return self._on

    def _running(self) -> list[Rung]:
        return [rung for rung in self._rungs if rung.running]

    def _step(self, use: int | None) -> bool:
        """Stand on the rung that was chosen; returns whether it is another."""
        before = self._use
        if use is None or use == before:
            return False
        self._use = use
        left = before or 0
        if use > left:
            why = self._rungs[left].trouble()
        elif use < left:
            why = Trouble("recovered", f"{self._name(use)} can be read again")
        else:
            return True  # the first answer of the first rung is no step
        self._emit(SourceChanged(self._service, self._name(use), self._name(left), why.kind, why.reason, why.cure))
        return True

    def _run(self, count: int) -> bool | None:
        """Have exactly so many rungs running; returns whether one that had to be could be started, None for none."""
        started: bool | None = None
        for number, rung in enumerate(self._rungs):
            if number < count and not rung.running:
                started = rung.start(self._notify)
            elif number >= count and rung.running:
                rung.stop()
        return started

    def _news(self, fresh: set[int]) -> Snapshot | None:
        use = self._use
        snapshot = None if use is None else self._rungs[use].snapshot
        if use is None or snapshot is None:
            return None
        base, given = self._version, self._given
        self._version += 1
        self._given = use, snapshot.version
        if use:
            recall = self._recall()
            used, parked = tuple(map(recall, snapshot.endpoints)), tuple(map(recall, snapshot.parked))
            return replace(snapshot, version=self._version, endpoints=used, parked=parked, changes=None)
        changes = snapshot.changes
        follows = changes is not None and given == (use, changes.base) and use in fresh
        return replace(
            snapshot,
            version=self._version,
            changes=changes._replace(base=base) if changes is not None and follows else None,
        )

    def _recall(self) -> Callable[[Endpoint], Endpoint]:
        """What makes of an endpoint the same one with what the last slices knew of it."""
        slices = self._rungs[0].snapshot
        known = {each.address: each for each in (*slices.endpoints, *slices.parked)} if slices else {}

        def recalled(endpoint: Endpoint) -> Endpoint:
            before = known.get(endpoint.address)
            if before is None:
                return endpoint
            return before._replace(
                ready=True, serving=True, terminating=False, weight=endpoint.weight, priority=endpoint.priority
            )

        return recalled

    def _name(self, number: int | None) -> str:
        return "nothing yet" if number is None else self._rungs[number].name


def _withheld(standings: Sequence[Standing], use: int | None) -> tuple[str, str]:
    """Reason and cure of what is known further down and not used, because none of that was known before."""
    for rung in standings[(use or 0) + 1 :]:
        if not stranger(rung, standings[0]):
            continue
        there = ", ".join(endpoint.authority for endpoint in rung.endpoints[:3])
        pods = {endpoint.ip: endpoint.port for endpoint in standings[0].endpoints}
        port = next((pods[endpoint.ip] for endpoint in rung.endpoints if endpoint.ip in pods), None)
        if port is not None:
            return (
                f"DNS gives {there}: the pods' addresses with a port of none of them",
                f"is fallback_port={port} meant?",
            )
        return f"DNS gives {there}, which was no pod of this service", ""
    return "", ""


def _nobody() -> None:
    """Nothing asked to be told."""
