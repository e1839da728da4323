"""One soak from its beginning to its verdict: churn, a fault, its end, a quiet point, and again."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from statistics import median

from tests.integration.binaries import find_binaries
from tests.integration.processes import wait_for
from tests.soak_discovery import audit, oracle
from tests.soak_discovery.churn import Churn
from tests.soak_discovery.faults import KINDS, Fault, Scene, lasting
from tests.soak_discovery.line import Line
from tests.soak_discovery.network import Network, Pods
from tests.soak_discovery.plane import Plane
from tests.soak_discovery.services import PORT, Pod, Service, World
from tests.soak_discovery.verdict import START, Quiet, Report
from tests.stalls import Stalls

__all__ = ["soak"]

SERVICES, LIVE, LADDER = 30, 6, 20
RATE = 20.0
"""Changes a second."""
PATIENCE = 45.0
"""Seconds for sets to become right, before they count as never right."""
SETTLED = 0.5
"""Seconds for which they have to stay right."""
GRACE = 2.0
"""Seconds from the end of a pod to the end of its server, at least."""


def soak(
    seconds: float,
    seed: int,
    *,
    patience: float = 1.0,
    namespaces: int = 1,
    script: list[tuple[str, float]] | None = None,
    logs: Path | None = None,
) -> Report:
    """Let things go wrong for so many seconds, or as the script has it: kinds of faults, and how long each lasts.

    The servers' logs are kept in the folder `logs`, where one is given.
    """
    place = nullcontext(logs) if logs else tempfile.TemporaryDirectory(prefix="kubelb-soak-")
    with place as folder, Network() as network:
        dice = random.Random(seed)
        with Plane(find_binaries(), Path(folder), network, seconds, _named(namespaces)) as plane:
            return _Soak(plane, network, Path(folder), dice, patience).run(seconds, script)


def _named(namespaces: int) -> list[str]:
    return [f"soak-{number}" for number in range(namespaces)]


class _Soak:
    def __init__(self, plane: Plane, network: Network, folder: Path, dice: random.Random, patience: float) -> None:
        where = plane.namespaces
        services = [
            Service(f"s{number}", number < LIVE, number < LADDER, where[number % len(where)])
            for number in range(SERVICES)
        ]
        self._world = World(services, random.Random(dice.random()))
        self._world.on_birth = self._birth
        self._pods = Pods(network, PORT)
        self._plane = plane
        self._dice = dice
        self._folder = folder
        self._report = Report(patience)
        self._calm = 0.0
        self._needs: list[dict[str, float]] = []
        """Of the caller, at each quiet point."""
        self._churn = Churn(self._world, plane.api, RATE)
        self._line: Line

    def run(self, seconds: float, script: list[tuple[str, float]] | None) -> Report:
        plane, churn, report = self._plane, self._churn, self._report
        churn.begin()
        assert plane.volume is not None
        nameserver = f"{plane.dns.host}:{plane.dns.port}"
        line = self._line = Line(
            self._world, plane.volume.folder, plane.gate.port, nameserver, self._folder / "caller.log"
        )
        try:
            began = time.monotonic()
            self._settle(Fault(START, began, mended=began))
            end = time.monotonic() + seconds
            faults = self._drawn(end) if script is None else iter(script)
            for kind, lasts in faults:
                churn.go()
                self._rest(self._dice.uniform(2.0, 5.0) if script is None else 1.0)
                fault = Fault(kind, time.monotonic())
                KINDS[kind](Scene(plane, churn, self._dice, self._rest), lasts, fault)
                fault.mended = time.monotonic()
                report.faults.append(fault)
                self._settle(fault)
            churn.end()
            lines = line.end()
        finally:
            line.kill()
        asked = audit.read(plane.audit_log)
        report.judge(line, asked)
        needs = ", ".join(f"{name} {value:.0f}" for name, value in line.most.items())
        quiet = [point for point in self._needs[1:] if point] or [line.most]
        first, last = (", ".join(f"{name} {each[name]:.0f}" for name in ("threads", "descriptors", "mb"))
                       for each in (quiet[0], quiet[-1]))  # fmt: skip
        rate = churn.made.total() / max(churn.running, 1e-9)
        report.facts += [
            f"changes: {churn.made.total()}, {rate:.1f} a second; "
            + ", ".join(f"{kind} {count}" for kind, count in churn.made.most_common()),
            f"requests that reached the API server: {len(asked)}; connects: {len(line.dials)}",
            f"the caller at the first quiet point after a fault: {first}; at the last: {last}",
            f"the caller needed at most: {needs} (CPU in seconds, of {time.monotonic() - began:.0f})",
        ]
        if "Traceback" in lines:
            report.wrong.append("the caller's log has a traceback:\n" + lines[lines.index("Traceback") :][:3000])
        return report

    def _drawn(self, end: float) -> Iterator[tuple[str, float]]:
        """Every kind once, in an order of chance, then again."""
        while True:
            kinds = list(KINDS)
            self._dice.shuffle(kinds)
            for kind in kinds:
                if time.monotonic() > end:
                    return
                yield kind, lasting(self._dice)

    def _settle(self, fault: Fault) -> None:
        """Nothing changes from now on: wait until every set is right, and note how long that took."""
        self._churn.halt()
        halted, line, server = time.monotonic(), self._line, self._plane.server.api
        written = self._world.usable()
        there = {name: used for name, used in written.items() if used}
        if oracle.usable(oracle.read(self._plane.api, self._plane.namespaces)) != there:
            raise RuntimeError("what was written is not what the API server has: the soak itself is wrong")
        # What stood still has to read what it missed, and a reader cannot know it sooner.
        wait_for(
            lambda: oracle.usable(oracle.cached(server, self._plane.namespaces)) == there,
            PATIENCE,
            what="the server's own cache",
        )
        begun = time.monotonic()
        with Stalls() as machine:
            while True:
                wrong = [name for name in written if line.used.get(name) != written[name]]
                last = max(begun, *line.changed.values()) if line.changed else begun
                now = time.monotonic()
                if now > begun + PATIENCE or (not wrong and now > last + SETTLED):
                    break
                self._rest(0.02)
        took = {name: None if name in wrong else max(0.0, line.changed[name] - begun) for name in written}
        point = Quiet(fault, begun, took, machine.longest)
        self._report.quiet.append(point)
        self._report.behind = max(self._report.behind, begun - halted)
        self._needs.append(dict(line.needs))
        self._world.calm()
        self._calm = time.monotonic()
        for name in wrong:
            missing, extra = written[name] - line.used.get(name, set()), line.used.get(name, set()) - written[name]
            self._report.facts.append(
                f"{name} after {fault.kind!r}, from {line.source.get(name)}: misses {missing}, has too many {extra}"
            )
        right = point.right or [-1.0]
        print(
            f"{fault.kind:18} {fault.lasted:5.1f} s; right after {median(right):5.2f} s in the median, "
            f"{right[-1]:5.2f} s at most, {len(wrong)} never; "
            f"requests failed so far {len(line.failed)}, addresses back again {len(line.again)}",
            flush=True,
        )

    # -- pods

    def _birth(self, service: Service, pod: Pod) -> None:
        if service.live:
            self._pods.up(pod.address)

    def _rest(self, seconds: float) -> None:
        """Let time pass; the servers of pods that are over end meanwhile."""
        until = time.monotonic() + seconds
        while True:
            self._line.check()
            self._reap()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.1))

    def _reap(self) -> None:
        """End servers of pods that are over, as long as the process under test knows enough that live.

        It always knows two pods that live, and at most one that is dead: so no request has to fail, however long
        discovery is blind; and where DNS has told it of the others, the ones that it knew before are dead.
        """
        now, over = time.monotonic(), self._world.over
        for address in sorted(self._pods.living & over.keys(), key=over.__getitem__):
            if over[address] + GRACE > now:
                continue
            service = self._world.owner[address].name
            known = {where.partition(":")[0] for where in self._line.used.get(service, ())}
            living = known & self._pods.living
            dead = known - living
            # One that was never in use may yet be, for a moment, where a stream tells what it missed.
            told = f"{address}:{PORT}" in self._line.seen or over[address] < self._calm
            if (address not in known and told) or (len(living) > 2 and not dead and address in known):
                self._pods.down(address)
