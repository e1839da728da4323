"""What must hold, and what was seen: each line is a figure, and says so where it is out of bounds."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from statistics import median

from tests.soak_discovery.audit import Asked, busiest
from tests.soak_discovery.faults import Fault
from tests.soak_discovery.line import Line

__all__ = ["START", "Quiet", "Report"]

MEDIAN, MOST = 3.0, 8.0
"""Seconds after a recovery until a service's set is right."""
AWAY = 10
"""Requests a second, by a process, of an API server that is away."""
FIRST = 5
"""Requests in the first second after it answered."""
START = "start"
"""The kind of the first quiet point: nothing went wrong before it."""


@dataclass
class Quiet:
    """A point at which nothing changes any more: seconds until each service's set was right, None for never."""

    fault: Fault
    begun: float
    took: dict[str, float | None]
    stall: float
    """The longest time for which the machine did not let a thread run meanwhile."""

    @property
    def right(self) -> list[float]:
        return sorted(took for took in self.took.values() if took is not None)


@dataclass
class Report:
    """Of one soak; `patience` multiplies all bounds of times and rates, for a machine that does other things, too."""

    patience: float
    faults: list[Fault] = field(default_factory=list)
    quiet: list[Quiet] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    behind: float = 0.0
    """Seconds for which the API server itself did not know what had changed, at most."""

    @property
    def away_bound(self) -> float:
        return AWAY * self.patience

    @property
    def first_bound(self) -> float:
        return FIRST * self.patience

    def judge(self, line: Line, asked: list[Asked]) -> None:
        """Look at everything, once it is over."""
        self._sets(line, asked)
        self._requests_away(line, asked)
        self._first_second(asked)
        self._again(line)
        self._calls(line)
        self._ladder(line)
        if line.left:
            self.wrong.append(f"threads are left: {line.left}")

    def print(self) -> None:
        for fact in self.facts:
            print(fact)
        for wrong in self.wrong[:50]:
            print(f"WRONG: {wrong}")
        print("all is well" if not self.wrong else f"{len(self.wrong)} things are wrong")

    def _sets(self, line: Line, asked: list[Asked]) -> None:
        by_kind: dict[str, list[Quiet]] = defaultdict(list)
        for quiet in self.quiet:
            by_kind[quiet.fault.kind].append(quiet)
            never = [name for name, took in quiet.took.items() if took is None]
            what = f"after {quiet.fault.kind!r} of {quiet.fault.lasted:.1f} s"
            stalled = f" (the machine stood still for {quiet.stall:.2f} s meanwhile)"
            if never:
                self.wrong.append(f"{what} never right: {', '.join(never)}")
            right = quiet.right if quiet.fault.kind != START else []  # a start is told, and bound by nothing
            if right and median(right) > MEDIAN * self.patience:
                self.wrong.append(f"{what} right after {median(right):.2f} s in the median{stalled}")
            if right and right[-1] > MOST * self.patience:
                slow = ", ".join(name for name, took in quiet.took.items() if took and took > MOST * self.patience)
                self.wrong.append(f"{what} right after {right[-1]:.2f} s at most: {slow}{stalled}")
            if never or (right and right[-1] > MOST * self.patience):
                self.facts.append(self._course(quiet, line, asked))
        self.facts.append(f"{'fault':18} times  lasted s     right after, s: median  of medians  most")
        for kind, points in sorted(by_kind.items()):
            lasted = [quiet.fault.lasted for quiet in points]
            right = sorted(took for quiet in points for took in quiet.right)
            medians = [median(quiet.right) for quiet in points if quiet.right]
            if right:
                self.facts.append(
                    f"{kind:18} {len(points):5}  {min(lasted):4.1f} - {max(lasted):4.1f} {median(right):22.2f}"
                    f"{max(medians):12.2f}{right[-1]:6.2f}"
                )

    @staticmethod
    def _course(quiet: Quiet, line: Line, asked: list[Asked]) -> str:
        """What happened, in seconds after everything was well again."""
        begun, since = quiet.begun, quiet.fault.began - quiet.begun
        dials = [f"{at - begun:.2f}" for at in line.dials if since <= at - begun < 2 * MOST]
        reached = [
            f"{each.received - begun:.2f} {each.verb} {each.code}"
            + (f" at {each.answered - begun:.2f}" if each.answered else "")
            for each in asked
            if since <= each.received - begun < 2 * MOST
        ]
        steps = [f"{at - begun:.2f} {name} {to}" for at, name, to, _ in line.steps if since <= at - begun < 2 * MOST]
        took = [
            f"{name} {seconds}" if seconds is None else f"{name} {seconds:.2f}" for name, seconds in quiet.took.items()
        ]
        return (
            f"the course of {quiet.fault.kind!r}: right {', '.join(took)}; connects {', '.join(dials)}; "
            f"requests {', '.join(reached)}; steps {', '.join(steps)}"
        )

    def _requests_away(self, line: Line, asked: list[Asked]) -> None:
        received = [each.received for each in asked]
        away, refused = [0], [0]
        for fault in self.faults:
            for span in fault.away:
                away.append(most := busiest(line.dials, *span))
                if most > self.away_bound:
                    self.wrong.append(
                        f"{most} connects in one second while away, {fault.kind!r} of {fault.lasted:.1f} s"
                    )
            for span in fault.refused:
                refused.append(most := busiest(received, *span))
                if most > self.away_bound:
                    self.wrong.append(f"{most} requests in one second, {fault.kind!r} of {fault.lasted:.1f} s")
        self.facts.append(f"the API server itself was behind for {self.behind:.2f} s at most")
        self.facts.append(
            f"while the API server was away: {max(away)} connects in the busiest second (bound {self.away_bound:g})"
        )
        self.facts.append(
            f"while it let us do nothing: {max(refused)} requests in the busiest second (bound {self.away_bound:g})"
        )

    def _first_second(self, asked: list[Asked]) -> None:
        firsts: list[int] = []
        for fault in self.faults:
            if not fault.returned:
                continue
            again = fault.away[-1][1]
            answered = (each for each in asked if each.answered is not None and each.answered >= again)
            first_one = min(answered, key=lambda each: each.answered or 0.0, default=None)
            if first_one is None:
                continue
            back = max(again, first_one.received)
            first = sum(back <= each.received < back + 1.0 for each in asked)
            firsts.append(first)
            if first > self.first_bound:
                self.wrong.append(f"{first} requests in the first second after {fault.kind!r} of {fault.lasted:.1f} s")
        seen = ", ".join(f"{count} x {number}" for number, count in sorted(Counter(firsts).items())) or "no return"
        self.facts.append(f"requests in the second from the first answered one on (bound {self.first_bound:g}): {seen}")

    def _again(self, line: Line) -> None:
        self.facts.append(
            f"{line.snapshots} sets came into use; {line.late} addresses came late, {len(line.again)} came back after "
            "they were gone for good"
        )
        self.wrong += line.again

    def _calls(self, line: Line) -> None:
        self.facts.append(f"requests: {line.answered} answered, {len(line.failed)} failed")
        if not line.answered:
            self.wrong.append("no request was answered")
        for failed in line.failed:
            near = next((fault.kind for fault in reversed(self.faults) if fault.began <= failed["at"]), "no fault yet")
            self.wrong.append(
                f"{failed['at']:.3f}: a request to {failed['service']} failed on {failed['source']} ({near}) after "
                f"{failed['at'] - failed['began']:.2f} s: {failed['failed']}"
            )

    def _ladder(self, line: Line) -> None:
        steps = Counter(source for _, _, source, _ in line.steps)
        kinds = Counter(kind for *_, kind in line.steps)
        self.facts.append(
            f"steps of the ladder: {steps['dns+srv']} down, {steps['endpointslices']} up; "
            + ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
        )
        self.facts.append("troubles told: " + ", ".join(f"{kind} {n}" for kind, n in line.trouble.most_common()))
