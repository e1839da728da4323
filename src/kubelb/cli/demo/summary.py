"""The figures at the end: as a table, in words, as JSON. Every number is measured, every word follows from a number.

The keys of the JSON object (seconds everywhere; a percentile is null where there was no request):

    kubelb               version
    ok                   whether kubelb's side had no error: the exit code
    seed, rate, seconds  as chosen; `seconds` is how long traffic did run
    timeout              what a failed request counts as in percentiles
    forwarder            median that the forwarder adds to a request of the plain side
    retries, ejections   requests that kubelb sent again, pods that it set aside
    acts                 list of {name, phase, words}
    sides                {"kubelb": ..., "plain httpx": ...}, each with
      requests, errors   of all phases
      kinds              errors by kind, {"ReadError": 3}
      phases             {"warm-up", "before", "faults", "after"}, each {requests, errors, p50, p95, p99}
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text

import kubelb
from kubelb.cli.demo.measure import KUBELB, PLAIN, SIDES, Figures, Record, figures
from kubelb.cli.demo.script import AFTER, BEFORE, FAULTS, WARM_UP, Act
from kubelb.cli.demo.settings import TIMEOUT, Settings
from kubelb.cli.demo.view import COLOURS, in_words

__all__ = ["Summary", "as_dict", "notes", "sentences", "summarize", "table"]

PHASES = {BEFORE: "before faults", FAULTS: "during faults", AFTER: "afterwards"}


@dataclass(frozen=True, slots=True)
class Summary:
    """What was measured."""

    settings: Settings
    seconds: float
    acts: Sequence[Act]
    forwarder: float
    retries: int
    ejections: int
    totals: Mapping[str, Figures]
    phases: Mapping[str, Mapping[str, Figures]]
    kinds: Mapping[str, Mapping[str, int]]

    @property
    def ok(self) -> bool:
        """Whether kubelb kept its word: traffic, and not one error."""
        total = self.totals[KUBELB]
        return total.requests > 0 and total.errors == 0


def summarize(
    settings: Settings,
    seconds: float,
    acts: Sequence[Act],
    record: Record,
    *,
    forwarder: float,
    retries: int,
    ejections: int,
) -> Summary:
    """Make the figures of a performance that is over."""

    def of(side: str, phase: str) -> Figures:
        return figures(record.of(side, [index for index, act in enumerate(acts) if act.phase == phase]))

    return Summary(
        settings,
        seconds,
        acts,
        forwarder,
        retries,
        ejections,
        {side: figures(record.of(side)) for side in SIDES},
        {side: {phase: of(side, phase) for phase in (WARM_UP, *PHASES)} for side in SIDES},
        {side: record.errors(side) for side in SIDES},
    )


def table(summary: Summary) -> Text:
    """Phases down, sides across; 80 columns. Both sides get the same requests, so these are said once."""
    text = Text(no_wrap=True)
    text.append(f"{'requests':>22}", "dim")
    for side in SIDES:
        text.append(f"{side:>29}", COLOURS[side])
    text.append("\n" + " " * 22 + f"{'errors':>8}{'p50':>7}{'p95':>7}{'p99':>7}" * len(SIDES), "dim")
    for phase, words in PHASES.items():
        _row(text, words, {side: summary.phases[side][phase] for side in SIDES})
    _row(text, "all", summary.totals)
    return text


def _row(text: Text, words: str, sides: Mapping[str, Figures]) -> None:
    counts = dict.fromkeys(str(sides[side].requests) for side in SIDES)
    text.append(f"\n{words:<13}{'/'.join(counts):>9}")
    for side in SIDES:
        each = sides[side]
        text.append(f"{each.errors:>8}", "bold red" if each.errors else "green")
        text.append("".join(f"{in_words(seconds):>7}" for seconds in (each.p50, each.p95, each.p99)))


def sentences(summary: Summary) -> str:
    """What the table says, in words; it claims no victory where there is none."""
    ours, theirs = summary.totals[KUBELB], summary.totals[PLAIN]
    broken, plainly = summary.phases[KUBELB][FAULTS], summary.phases[PLAIN][FAULTS]
    text = (
        f"Callers through kubelb saw {_count(ours.errors, 'error')} and, while pods broke, "
        f"a p95 of {in_words(broken.p95)} and a p99 of {in_words(broken.p99)}; those of plain httpx behind a "
        f"kube-proxy saw {_count(theirs.errors, 'error')}, {in_words(plainly.p95)} and {in_words(plainly.p99)}."
    )
    if ours.errors:
        kinds = ", ".join(f"{count} x {kind}" for kind, count in summary.kinds[KUBELB].items())
        text += f" kubelb should have had none: {kinds}."
    elif not theirs.errors and (plainly.p99 or 0.0) <= (broken.p99 or 0.0):
        text += " So plain httpx came off no worse this time: on which pods its connections land is chance."
    return text


def notes(summary: Summary) -> str:
    """What belongs to the figures."""
    return (
        f"kubelb sent {_count(summary.retries, 'request')} again and ejected {_count(summary.ejections, 'pod')}. "
        f'A failed request counts as {TIMEOUT:.0f} s in percentiles. "all" includes the warm-up. The forwarder that '
        f"plays kube-proxy adds {in_words(summary.forwarder)} to requests of plain httpx. "
        f"The same chances again: --seed {summary.settings.seed}"
    )


def as_dict(summary: Summary) -> dict[str, Any]:
    """The JSON object."""
    sides = {
        side: {
            "requests": summary.totals[side].requests,
            "errors": summary.totals[side].errors,
            "kinds": dict(summary.kinds[side]),
            "phases": {phase: each._asdict() for phase, each in summary.phases[side].items()},
        }
        for side in SIDES
    }
    return {
        "kubelb": kubelb.__version__,
        "ok": summary.ok,
        "seed": summary.settings.seed,
        "rate": summary.settings.rate,
        "seconds": round(summary.seconds, 3),
        "timeout": TIMEOUT,
        "forwarder": summary.forwarder,
        "retries": summary.retries,
        "ejections": summary.ejections,
        "acts": [{"name": act.name, "phase": act.phase, "words": act.words} for act in summary.acts],
        "sides": sides,
    }


def _count(count: int, noun: str) -> str:
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"
