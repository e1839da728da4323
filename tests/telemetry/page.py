"""The reference page of metrics, made of the one table of names.

    python tests/telemetry/page.py          writes docs/reference/metrics.md

A test compares what stands there with what this makes.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from kubelb.core.events import Event
from kubelb.telemetry.names import INSTRUMENTS, SERVICE, SPANS, TELLS

PAGE = Path(__file__).parents[2] / "docs/reference/metrics.md"

HEAD = """\
# Metrics and attributes

Every name that kubelb reports under. [Metrics and traces](../guides/observability.md) is the guide to them.

This page is made of the table that the code goes by, `kubelb.telemetry.names`, and of the [events](events.md).
"""

ZEROS = """\
A counter is there at zero from the first collection on, for each value that is listed here, and for each combination
where it has several; but not for `kubelb.observed` of `true` where nothing has `observe=True`. Steps from one
source to another can only happen to a target without a scheme: of others that counter has one zero, with `_OTHER`.
"""


def table(titles: str, rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    names = titles.split(", ")
    yield f"| {' | '.join(names)} |"
    yield f"| {' | '.join('---' for _ in names)} |"
    for row in rows:
        yield f"| {' | '.join(row)} |".replace("|  |", "| |")


def code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def instruments() -> Iterator[tuple[str, ...]]:
    for name, kind, unit, description, attributes in INSTRUMENTS:
        told = code(each for each in attributes if each != SERVICE)
        yield f"`{name}`", kind.replace("_", " "), f"`{unit}`", told, description.rstrip(".")


def attributes_of_events() -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for kind in Event.kinds():
        for each in kind.counter.attributes if kind.counter else ():
            tells = each.tells + (f": {code(each.values)}" if each.values and each.values != ("false", "true") else "")
            found.setdefault((each.name, tells), []).append(kind.counter.name if kind.counter else "")
    return found


def render() -> str:
    """Return the page."""
    own = sorted(TELLS.items())
    events = sorted((name, code(of), tells) for (name, tells), of in attributes_of_events().items())
    return "\n".join(
        (
            HEAD,
            "## Instruments\n",
            f"Each has the attribute `{SERVICE}` too; durations of HTTP and RPC have `server.address` in its place.\n",
            *table("instrument, kind, unit, other attributes, tells", instruments()),
            "\n## Spans\n",
            *table("span, attributes", ((name, code(attributes)) for name, attributes in SPANS.items())),
            "\n## Attributes\n",
            *table("attribute, tells", ((f"`{name}`", tells) for name, tells in own)),
            "\n## Attributes of counters of events\n",
            ZEROS,
            *table("attribute, of, tells", ((f"`{name}`", of, tells) for name, of, tells in events)),
            "",
        )
    )


if __name__ == "__main__":
    PAGE.write_text(render())
