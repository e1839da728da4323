"""Events: values that say by themselves all that is told of them."""

import copy
import json
import logging
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import kubelb.events
from kubelb.core import events
from kubelb.core.events import Counter, Event
from kubelb.core.local import NO_ROUTE
from kubelb.telemetry.logs import LEVELS

RECORDED = json.loads((Path(__file__).parents[1] / "telemetry/recorded_events.json").read_text())
"""What logs and metrics made of each kind of event before events said it themselves."""
KINDS = [kind for kind in Event.kinds() if kind.__module__.startswith("kubelb.")]


def made(row: dict[str, Any]) -> Event:
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in row["fields"].items()}
    event: Event = getattr(events, row["kind"])(**fields)
    return event


@pytest.mark.parametrize("row", RECORDED, ids=lambda row: f"{row['kind']}-{row['level']}")
def test_what_an_event_says_is_what_was_always_said(row: dict[str, Any]) -> None:
    """The kind of fault: a dashboard, an alert or a search of logs that finds nothing any more."""
    event = made(row)
    assert event.level == row["level"]
    assert event.key == tuple(row["key"])
    assert event.text == row["text"]
    assert event.counter is not None
    assert list(event.counter[:3]) == row["counter"]
    assert event.attributes == tuple(map(tuple, row["attributes"]))


def test_every_kind_was_recorded() -> None:
    """Each is public, has a docstring of its own and a level that logging has a method of."""
    assert {row["kind"] for row in RECORDED} == {kind.__name__ for kind in KINDS}
    for kind in KINDS:
        assert getattr(kubelb.events, kind.__name__) is kind
        assert kind.__doc__
    assert {row["level"] for row in RECORDED} == set(LEVELS)
    assert all(callable(getattr(logging.Logger, level)) for level in LEVELS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_pod_stands_beside_each_address(kind: type[Event]) -> None:
    """The kind of fault: an address in a log that is another pod's by the time it is read."""
    if "endpoint" not in kind.fields:
        assert not {"address", "pod"} & set(kind.fields)
        return
    (row, *_) = [row for row in RECORDED if row["kind"] == kind.__name__]
    fields = {**row["fields"], "endpoint": "[fd00::7]:80"}
    assert "(" not in kind(**fields).text.partition("[fd00::7]:80")[2][:3]
    event = kind(**fields, pod="reviews-7f9c\x1b[31m")
    assert "[fd00::7]:80 (reviews-7f9c)" in event.text
    assert "reviews-7f9c" not in str((event.key, event.attributes))


def test_pods_of_a_set_that_changes() -> None:
    """Up to five of each, in the order of the addresses; one whose pod is not known has its address alone."""
    event = events.EndpointsChanged("s", 1, 2, 0, ("a", "b"), ("c",), "", ("pod-a", ""), ("pod-c",))
    assert event.text == "2 endpoints in use, 0 parked, +a (pod-a) +b, -c (pod-c)"
    many = tuple(f"pod-{number}" for number in range(7))
    event = events.EndpointsChanged("s", 1, 7, 0, tuple("abcdefg"), (), "", many)
    assert event.text.endswith("+d (pod-3) +e (pod-4) and 2 more")


def test_events_are_values() -> None:
    """Equal by kind and fields, whichever way they were made; they can be keys, and matched by their places."""
    one = events.Returned("s", "e", "probe")
    assert one == events.Returned(service="s", why="probe", endpoint="e", observed=False)
    assert one != events.Returned("s", "e", "probe", observed=True)
    assert one != events.BudgetExhausted("s", "probe")
    assert one != ("s", "e", "probe", False, "")
    assert len({one, events.Returned("s", "e", "probe"), events.Returned("s", "e", "correlated")}) == 2
    assert repr(one) == "Returned(service='s', endpoint='e', why='probe', observed=False, pod='')"
    assert str(one) == "s: e is back: probe"
    assert one.as_dict() == {"service": "s", "endpoint": "e", "why": "probe", "observed": False, "pod": ""}
    match one:
        case events.Returned("s", endpoint, why="probe"):
            assert endpoint == "e"
    for copied in (pickle.loads(pickle.dumps(one)), copy.copy(one), copy.deepcopy(one), one.named("s")):
        assert copied == one
        assert type(copied) is events.Returned
    assert one.named("other") == events.Returned("other", "e", "probe")


def test_what_has_happened_is_not_changed() -> None:
    """Neither a field, nor anything else: there is no room for it."""
    event = events.BudgetExhausted("s", "503")
    for name in ("reason", "other"):
        with pytest.raises(AttributeError, match=f"BudgetExhausted.{name} cannot be changed"):
            setattr(event, name, "x")
    with pytest.raises(AttributeError, match="cannot be changed"):
        del event.reason
    assert not hasattr(event, "__dict__")


@pytest.mark.parametrize(
    ("values", "named", "said"),
    [
        ((), {}, r"BudgetExhausted\(\.\.\.\) lacks service, reason: its fields are service, reason"),
        (("s",), {}, "lacks reason"),
        (("s", "r", "x"), {}, "has no room for 'x'"),
        (("s", "r"), {"reason": "x"}, "has no room for reason"),
        (("s", "r"), {"cause": "x"}, "has no room for cause"),
    ],
)
def test_what_makes_no_event(values: tuple[str, ...], named: dict[str, str], said: str) -> None:
    """As of a function: what is missing, too much, twice, or unknown."""
    with pytest.raises(TypeError, match=said):
        events.BudgetExhausted(*values, **named)


def test_no_event_holds_a_secret_or_a_control_character() -> None:
    """The kind of fault: a field that its author forgot to name. All are looked through, but for words of our own."""

    class Seen(Event):
        what: str
        things: tuple[str, ...]
        count: int = 3
        most: int | None = 7

    evil = "it said\x1b[31m\nWARNING password=hunter2"
    event = Seen("s", evil, ("fine", evil))
    assert event.what == event.things[1] == "it said WARNING password=***"
    assert event.things[0] == "fine"
    assert event.text == f"what {event.what}, things {event.things}, count 3, most 7"
    assert Seen("s", "", ()).values == ("s", "", (), 3, 7)


def test_a_kind_of_ones_own_is_one_class() -> None:
    """With everything that it is told by; fields of its bases come first."""

    class PickedTwice(Event):
        endpoint: str
        attempts: int = 2

        counter = Counter("kubelb.picks.twice", "{pick}", "Second attempts on the endpoint of the first.")

    class PickedOften(PickedTwice):
        reason: str = "few"

    assert PickedTwice("s", "e").attempts == 2
    assert (PickedTwice("s", "e").level, PickedTwice("s", "e").attributes) == ("warning", ())
    assert PickedTwice("s", "e").key == ("PickedTwice", "s")
    assert PickedOften("s", "e", 3).values == ("s", "e", 3, "few")
    assert PickedOften in Event.kinds()
    assert PickedOften.schemes is None


def test_fields_where_annotations_are_a_function() -> None:
    """CPython 3.14 keeps them so, and evaluates them when they are asked for."""
    kind = type(Event)
    made = kind("Later", (Event,), {"__module__": "x", "__annotate_func__": lambda _: {"what": str}, "what": "nothing"})
    assert made("s").what == "nothing"  # type: ignore[call-arg, attr-defined]


def test_what_is_known_beforehand() -> None:
    """Every set of attributes; one where the event cannot happen; none that are observed where nothing observes."""
    counter = events.LimitReached.counter
    assert counter is not None
    assert len(set(counter.beforehand())) == 8
    seen = set(counter.beforehand(observing=False))
    assert len(seen) == 4
    assert all(dict(each)["kubelb.observed"] == "false" for each in seen)
    source = events.SourceChanged.counter
    assert source is not None
    (only,) = source.beforehand(possible=False)
    assert only == (("kubelb.discovery.reason", "_OTHER"), ("kubelb.discovery.source", "_OTHER"))
    assert list(Counter("a", "b", "c").beforehand()) == [()]


def test_words_that_are_known_beforehand_are_those_that_are_said() -> None:
    """The kind of fault: a word is added where it is said, and its counter begins with its first event."""
    from kubelb.core.health.ejector import CONSECUTIVE, SHARE
    from kubelb.core.health.limits import ConcurrencyLimits
    from kubelb.core.local import _BY_NUMBER, _MEMORY, _THREADS
    from kubelb.discovery.kube.diagnose import _KINDS, Code

    def known(kind: type[Event], name: str) -> set[str]:
        assert kind.counter is not None
        (found,) = [each for each in kind.counter.attributes if each.name == name]
        return set(found.values)

    limits = {name for name in ConcurrencyLimits.__dataclass_fields__ if name.startswith("max_")}
    assert known(events.LimitReached, "kubelb.limit") == limits
    assert known(events.Ejected, "kubelb.ejection.rule") == {CONSECUTIVE, SHARE}
    troubles = {each.kind for each in (*_BY_NUMBER.values(), _MEMORY, _THREADS, NO_ROUTE)}
    assert known(events.LocalTrouble, "error.type") == troubles
    assert known(events.DiscoveryFailed, "error.type") >= {_KINDS.get(code, code.value) for code in Code}


def test_signatures_are_shown() -> None:
    """To `help` and to editors: names and defaults."""
    import inspect

    shown = "(service, endpoint, why, observed=False, pod='')"
    assert str(inspect.signature(events.Returned)) == shown


def test_their_classes_cost_an_import_little() -> None:
    """The kind of fault: classes whose methods are compiled at import. No dataclass is made for an event."""
    program = (
        "import sys, dataclasses\n"
        "made = []\n"
        "whole = dataclasses._process_class\n"
        "dataclasses._process_class = lambda kind, *given: made.append(kind.__module__) or whole(kind, *given)\n"
        "import kubelb.events\n"
        "print([name for name in made if name.startswith('kubelb.core.events')])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
