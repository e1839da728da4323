"""What is to be seen while it runs: a table that renews itself on a terminal, elsewhere one line for each act.

The table is made anew four times a second and always has the same height and column widths, so that nothing jumps.
Everything that a colour says a word or a number says too.
"""

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kubelb.cli.demo.measure import KUBELB, SIDES, Record, figures
from kubelb.cli.demo.pods import WINDOW, Roster, Row
from kubelb.cli.demo.script import BEFORE, Act, Play
from kubelb.cli.demo.settings import SERVICE, TIMEOUT, Settings
from kubelb.cli.demo.stage import Stage

__all__ = ["COLOURS", "LEAST", "act_line", "frame", "in_words", "title"]

LEAST = 80, 24
"""Columns and lines below which there are lines of text instead."""
ROWS = 9
"""Pods that are shown at a time: six, and those that come or leave in a rolling restart."""
COLOURS = {SIDES[0]: "cyan", SIDES[1]: "magenta"}
STATES = {
    "ready": "green",
    "slow": "yellow",
    "warming": "yellow",
    "probing": "yellow",
    "terminating": "blue",
    "not ready": "red",
    "crashed": "bold red",
    "gone": "dim",
}
WIDE = 100


def title(settings: Settings) -> str:
    """What is being shown, in a line."""
    return f"kubelb demo: {SERVICE} on loopback, {settings.rate:g} requests/s a side, seed {settings.seed}"


def act_line(elapsed: float, act: Act) -> str:
    """An act, as a line of plain text."""
    return f"{elapsed:5.1f} s  {act.name:<10}  {act.words}"


def in_words(seconds: float | None) -> str:
    """A latency, rounded to what matters: "0.4 ms", "16 ms", "5.0 s"."""
    if seconds is None:
        return "-"
    milliseconds = seconds * 1000
    if milliseconds >= 999.5:
        return f"{seconds:.1f} s"
    return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"


def frame(
    stage: Stage, settings: Settings, play: Play, record: Record, roster: Roster, now: float, console: Console
) -> RenderableType:
    """The whole picture at this moment."""
    wide = console.width >= WIDE
    ascii_only = console.options.ascii_only
    elapsed = min(play.elapsed, settings.seconds)
    balancer = stage.balancer
    footer = (
        f"Pods: the last {WINDOW:.0f} s. A failed request counts as {TIMEOUT:.0f} s. Ctrl-C ends it.",
        f"kubelb so far: requests sent again {balancer.retries}, pods ejected {balancer.ejections}.",
    )
    return Group(
        Text(title(settings), style="bold"),
        Text(),
        _acts(play.acts, play.index, ascii_only=ascii_only),
        Text(play.act.words, no_wrap=True, overflow="ellipsis"),
        ProgressBar(total=settings.seconds, completed=elapsed, width=min(console.width, WIDE) - 2),
        Text("\n"),  # the bar ends without a line break
        _pods(roster.rows(record, now), wide=wide, ascii_only=ascii_only),
        Text(),
        _sides(play, record),
        Text(),
        *(Text(line, style="dim", no_wrap=True) for line in footer),
    )


def _acts(acts: Sequence[Act], current: int, *, ascii_only: bool) -> Text:
    pointer = ">" if ascii_only else "▸"
    line = Text(no_wrap=True, overflow="ellipsis")
    for index, act in enumerate(acts):
        style = "bold" if index == current else "dim"
        line.append(f"{pointer if index == current else ' '}{act.name}  ", style)
    return line


def _pods(rows: Sequence[Row], *, wide: bool, ascii_only: bool) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    table.add_column("pod", width=10, no_wrap=True)
    table.add_column("state", width=11, no_wrap=True)
    table.add_column("kubelb sees", width=12, no_wrap=True)
    table.add_column("in flight", width=9, justify="right")
    table.add_column("latency", width=7, justify="right")
    bar = 12 if wide else 0
    for side in SIDES:
        table.add_column(f"{side} share" if wide else side, width=bar + 6 if wide else max(6, len(side)), no_wrap=True)
    for row in rows[-ROWS:]:
        shares = [
            _share(share, bar, COLOURS[side], ascii_only=ascii_only)
            for side, share in zip(SIDES, row.shares, strict=True)
        ]
        table.add_row(
            row.name,
            _state(row.state),
            _state(row.seen),
            str(row.in_flight),
            in_words(row.latency),
            *shares,
            style="dim" if row.state == "gone" else "",
        )
    for _ in range(ROWS - len(rows)):
        table.add_row()
    return table


def _state(word: str) -> Text:
    return Text(word, style="red" if word.startswith("ejected") else STATES.get(word, ""))


def _share(share: float, width: int, colour: str, *, ascii_only: bool) -> Text:
    text = Text(f"{share:5.0%} ", style="" if share else "dim")
    return text.append(_bar(share, width, ascii_only=ascii_only), colour) if width else text


def _bar(share: float, width: int, *, ascii_only: bool) -> str:
    """As long as the share is large; half of everything fills it."""
    eighths = min(8 * width, round(share * 2 * 8 * width))
    if ascii_only:
        return "#" * round(eighths / 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _sides(play: Play, record: Record) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    table.add_column("", width=11)
    for column in ("requests", "errors", "p50 now", "p99 now", "p50 calm", "p99 calm"):
        table.add_column(column, width=9, justify="right", no_wrap=True)
    before = [index for index, act in enumerate(play.acts) if act.phase == BEFORE]
    for side in SIDES:
        total = figures(record.of(side))
        now, calm = figures(record.of(side, (play.index,))), figures(record.of(side, before))
        errors = Text(str(total.errors), style="bold red" if total.errors else "green" if side == KUBELB else "")
        times = [in_words(seconds) for seconds in (now.p50, now.p99, calm.p50, calm.p99)]
        table.add_row(Text(side, style=COLOURS[side]), str(total.requests), errors, *times)
    return table
