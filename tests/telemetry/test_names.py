"""The one table of names: what is reported is in it, what is in it is reported, and the documentation is made of it."""

import ast
import re
from pathlib import Path

import pytest

import kubelb
from kubelb.core import events
from kubelb.service import service_of
from kubelb.telemetry import names
from kubelb.telemetry.looking import ROWS
from kubelb.telemetry.names import INSTRUMENTS, SPANS, TELLS
from telemetry.kit import Sdk
from telemetry.page import PAGE, attributes_of_events, render

SOURCE = Path(kubelb.__file__).parent
NAME = re.compile(r"(?:kubelb|http|rpc|network|server|url|error|client|k8s)\.[a-z_]+(?:\.[a-z_]+)*")
COUNTERS = {row.name for row in ROWS if row.kind == "counter"}


def test_the_page_is_what_the_table_says() -> None:
    """The kind of fault: a guide that lists what was. `python tests/telemetry/page.py` writes it."""
    assert PAGE.read_text() == render()


def test_the_guides_speak_of_no_other_name() -> None:
    """What a guide calls a metric or an attribute is one."""
    known = {each.name for each in INSTRUMENTS} | set(TELLS) | {name for name, _ in attributes_of_events()}
    for guide in (SOURCE.parents[1] / "docs").rglob("*.md"):
        said = set(re.findall(r"`(kubelb\.(?:[a-z_]+\.)*[a-z_]+)`", guide.read_text()))
        rooms = {each.split(".")[1] for each in known if each.startswith("kubelb.")}
        assert {name for name in said if name.split(".")[1] in rooms} <= known, guide.name


def test_names_are_well_formed() -> None:
    """Once each, with words for the documentation; every attribute that is reported is told of."""
    listed = [each.name for each in INSTRUMENTS]
    assert len(set(listed)) == len(listed)
    assert {row.name for row in ROWS} | {each.name for each in names.DURATIONS} == set(listed)
    counted = {name for name, _ in attributes_of_events()}
    for each in INSTRUMENTS:
        assert set(each.attributes) <= set(TELLS) | counted
    for attributes in SPANS.values():
        assert set(attributes) <= set(TELLS)
    used = {name for each in INSTRUMENTS for name in each.attributes} | {each for s in SPANS.values() for each in s}
    assert set(TELLS) <= used


def test_names_stand_in_one_place() -> None:
    """The kind of fault: a name that is spelled where it is used, and that no table knows. Events spell their own."""
    for path in (SOURCE / "telemetry").glob("*.py"):
        if path.name == "names.py":
            continue
        tree = ast.parse(path.read_text())
        said = {each.value for each in ast.walk(tree) if isinstance(each, ast.Constant) and isinstance(each.value, str)}
        assert not {each for each in said if NAME.fullmatch(each)}, path.name


@pytest.mark.parametrize("target", ["reviews.prod:http", "static:///10.0.0.1:80,10.0.0.2:80"])
def test_counters_are_there_at_zero(sdk: Sdk, target: str) -> None:
    """The kind of fault: the first ejection raises no alert, for a series that begins with 1 has not risen."""
    with kubelb.LoadBalancer(target, telemetry=sdk.telemetry()):
        points = sdk.points()
        assert set(points) >= COUNTERS
        set_at_once = {"kubelb.discovery.updates"} if target.startswith("static") else set()
        for name in COUNTERS - set_at_once:
            assert {point.value for point in points[name].values()} == {0}, name
        for kind in events.Event.kinds():
            if kind.counter is None or kind.counter.name not in COUNTERS or (kind.schemes and "static" in target):
                continue
            for each in kind.counter.attributes:
                said = {dict(key)[each.name] for key in points[kind.counter.name]}
                known = {"false"} if each.name == "kubelb.observed" else set(each.values or {"_OTHER"})
                assert said == known, each.name
        assert len(points["kubelb.discovery.source.changes"]) == (1 if "static" in target else 45)


def test_what_is_observed_is_there_at_zero_where_something_observes(sdk: Sdk) -> None:
    """And nowhere else: it would be twice as many series, none of which ever moves."""
    outliers = kubelb.OutlierDetection(observe=True)
    with kubelb.LoadBalancer("reviews.prod:http", telemetry=sdk.telemetry(), outliers=outliers):
        said = {dict(key)["kubelb.observed"] for key in sdk.points()["kubelb.ejections"]}
        assert said == {"true", "false"}


def test_zeros_of_a_forked_child_and_of_several(sdk: Sdk) -> None:
    """Zeros add nothing: those of two load balancers of one name are one, and one that has counted keeps it."""
    with (
        kubelb.LoadBalancer("reviews.prod:http", telemetry=sdk.telemetry()) as one,
        kubelb.LoadBalancer("reviews.prod:http", telemetry=sdk.telemetry()) as two,
    ):
        service_of(one).tell(events.Ejected("s", "10.0.0.1:80", "why", 1.0, 1, "failure-share"))
        assert sdk.counted("kubelb.ejections") == {"failure-share": 1}
        service_of(two).tell(events.Ejected("s", "10.0.0.1:80", "why", 1.0, 1, "failure-share"))
        one.close()
        assert sdk.counted("kubelb.ejections") == {"failure-share": 2}
        service_of(two).watch.after_fork_in_child(service_of(two))
        assert sdk.values("kubelb.ejections")["failure-share"] == 0
