"""What is shown: a heading and a table, lines of what has changed, or a dictionary for JSON."""

from dataclasses import asdict
from typing import Any, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from kubelb.core.view import EndpointView
from kubelb.model import Health

__all__ = ["Look", "Seen", "as_dict", "picture"]

COLOURS = {"ready": "green", "terminating": "blue", "not ready": "red", "elsewhere": "dim"}


class Look(NamedTuple):
    """A target at one moment."""

    target: str
    health: Health
    endpoints: tuple[EndpointView, ...]
    problem: str
    """Why there is nothing to send to; "" where there is."""


def picture(look: Look) -> RenderableType:
    """A heading, what is wrong, and a line for each endpoint in the order of their addresses."""
    table = Table(box=None, pad_edge=False)
    longest = max((len(view.address) for view in look.endpoints), default=0)
    table.add_column("ADDRESS", no_wrap=True, min_width=longest)  # on a narrow terminal the others give way
    table.add_column("STATE", no_wrap=True, min_width=len("terminating"))
    for name in ("ZONE", "NODE", "POD"):
        table.add_column(name, no_wrap=True)
    table.add_column("WHY")
    for view in sorted(look.endpoints, key=_order):
        state = Text(view.state, style=COLOURS.get(view.state, "yellow"))
        rest = (*(text or "-" for text in (view.zone, view.node, view.pod)), _why(view))
        table.add_row(view.address, state, *map(Text, rest))  # as Text: a plain string is read for rich's markup
    parts: list[RenderableType] = [Text(heading(look), style="bold")]
    parts += [Text(text, style="red") for text in _troubles(look)]
    return Group(*parts, *([table] if look.endpoints else []))


def heading(look: Look) -> str:
    """The target, how many endpoints there are by state, where that is known from and since when."""
    health = look.health
    counts = ", ".join(f"{count} {state}" for state, count in health.counts.items()) or "no endpoints"
    age = "" if health.age is None else f", heard of {health.age:.0f} s ago"
    return f"{look.target}: {counts} ({health.source}{age}{', stale' if health.stale else ''})"


def as_dict(look: Look) -> dict[str, Any]:
    """Everything, by the names of `Health` and `EndpointView`; what only a process with traffic knows is left out."""
    said = asdict(look.health)
    del said["circuit"]
    return {
        "target": look.target,
        "problem": look.problem,
        **said,
        "endpoints": [
            {name: getattr(view, name) for name in ("address", "state", "zone", "node", "pod", "weight", "reasons")}
            for view in sorted(look.endpoints, key=_order)
        ],
    }


class Seen:
    """Tells one look from the one before, in lines."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}
        self._troubles: list[str] = []

    def lines(self, look: Look) -> list[str]:
        """Return what has changed: ``+`` came, ``-`` went, ``~`` another state, ``!`` trouble or its end."""
        states = {view.address: _line(view) for view in sorted(look.endpoints, key=_order)}
        before, self._states = self._states, states
        lines = [f"- {address}" for address in before if address not in states]
        for address, line in states.items():
            if before.get(address) != line:
                lines.append(f"{'~' if address in before else '+'} {address}  {line}")
        troubles = _troubles(look)
        if troubles != self._troubles:
            lines += [f"! {trouble}" for trouble in troubles or ["all is well again"]]
        self._troubles = troubles
        return lines


def _order(view: EndpointView) -> tuple[str, str]:
    return view.state if view.state != "ready" else "", view.address


def _line(view: EndpointView) -> str:
    return "  ".join(text for text in (view.state, view.zone, view.node, view.pod, _why(view)) if text)


def _why(view: EndpointView) -> str:
    return "; ".join(view.reasons)


def _troubles(look: Look) -> list[str]:
    health = look.health
    troubles = [look.problem] if look.problem else []
    if health.error and health.error not in look.problem:
        troubles.append(f"discovery: {health.error}")
    if health.fallback:
        troubles.append(f"fallback: {health.fallback}")
    if health.cure and health.cure not in look.problem:
        troubles.append(f"cure: {health.cure}")
    return troubles
