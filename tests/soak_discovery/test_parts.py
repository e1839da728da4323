"""The parts of the soak that say what is right: each sees what it is there to see."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.soak_discovery import audit, oracle
from tests.soak_discovery.audit import Asked
from tests.soak_discovery.faults import Fault
from tests.soak_discovery.line import Line
from tests.soak_discovery.services import PORT, Service, World
from tests.soak_discovery.verdict import FIRST, Quiet, Report


def world(seed: int = 1) -> World:
    services = [Service(f"s{number}", number < 2, number < 4) for number in range(6)]
    return World(services, random.Random(seed))


def listed(made: World) -> list[dict[str, Any]]:
    """All slices as a server that was told everything has them."""
    return [body for each in made.services for name in each.slices if (body := made.body(each, name)) is not None]


@pytest.mark.parametrize("seed", range(3))
def test_changes_keep_the_rules(seed: int):
    """No address comes twice or after it was over, a service that exists has ready pods, the oracle reads the same."""
    made = world(seed)
    made.populate()
    over: dict[str, float] = {}
    for number in range(300):
        change = made.change()
        ready = {pod.address for each in made.services for pod in each.ready}
        assert not ready & over.keys()
        over = dict(made.over)
        if number % 50 == 0:
            made.calm()
        assert change.kind == "service deleted" or len(change.service.ready) >= 2
        usable = {name: used for name, used in made.usable().items() if used}
        assert oracle.usable(listed(made)) == usable
    flickered = {pod.address for each in made.services for pod in each.pods if pod.flickered}
    assert not flickered & made.over.keys()


def heard(made: World, *lines: dict[str, Any]) -> Line:
    """A line that was told all this, without a process behind it."""
    line = Line.__new__(Line)
    line.begin(made)
    text = "".join(json.dumps(said) + "\n" for said in lines)
    line._process = SimpleNamespace(stdout=io.StringIO(text))  # type: ignore[assignment]
    line._read()
    return line


def test_an_address_that_comes_back_is_seen():
    """Over, gone and in use again is a fault; not ready for a while, or late, is none."""
    made = world()
    made.over = {"10.244.1.1": 5.0, "10.244.1.3": 5.0}
    one, two, three = (f"10.244.1.{number}:{PORT}" for number in (1, 2, 3))
    sets = [(1.0, [one, two]), (2.0, [one]), (3.0, [one, two]), (6.0, [two]), (7.0, [two, three]), (8.0, [one, two])]
    line = heard(made, *({"at": at, "service": "s0", "used": used} for at, used in sets))
    assert len(line.again) == 1
    assert f"s0 uses {one} again" in line.again[0]
    assert line.late == 1
    assert (line.snapshots, line.changed, line.used) == (6, {"s0": 8.0}, {"s0": frozenset({one, two})})


def report(line: Line, fault: Fault, asked: list[Asked], took: float | None = 0.1) -> Report:
    said = Report(1.0, [fault], [Quiet(fault, fault.mended, {"s0": took, "s1": took}, 0.0)])
    said.judge(line, asked)
    return said


def well(made: World, **more: Any) -> Line:
    return heard(made, {"dials": more.get("dials", []), "ok": 3}, {"left": more.get("left", [])})


def test_each_bound_is_seen():
    """What is well is told as such; each thing that is not is wrong by itself, and named."""
    made = world()
    fault = Fault("killed", 10.0, away=[(10.0, 20.0)], mended=22.0, returned=True)
    answers = [Asked(20.5 + number / 10, "list", 200, 20.55 + number / 10) for number in range(FIRST + 1)]
    assert not report(well(made), fault, answers[:FIRST]).wrong
    for line, asked, took, said in (
        (well(made), answers[:FIRST], None, "never right: s0, s1"),
        (well(made), answers[:FIRST], 9.0, "right after 9.00 s at most"),
        (well(made, dials=[11.0 + number / 20 for number in range(11)]), answers[:1], 0.1, "11 connects in one second"),
        (well(made), answers, 0.1, "6 requests in the first second after 'killed'"),
        (well(made, left=["kubelb-watch"]), answers[:1], 0.1, "threads are left"),
        (heard(made), answers[:1], 0.1, "no request was answered"),
    ):
        wrong = report(line, fault, asked, took).wrong
        assert any(said in each for each in wrong), (said, wrong)
    failed = {"at": 12.0, "service": "s0", "failed": "ConnectError: refused", "source": "dns+srv", "began": 11.0}
    assert "ConnectError" in report(heard(made, {"dials": [], "ok": 3}, failed), fault, answers[:1]).wrong[0]


def test_the_audit_log_is_read(tmp_path: Path):
    """One request is one, whatever the stages that are told of it; a line that was cut off and others' are left out."""
    stages = [("RequestReceived", 0), ("ResponseStarted", 200), ("ResponseComplete", 200)]
    moment = "2026-01-01T00:00:0{}.000000Z"
    events = [
        {
            "auditID": "a",
            "verb": "watch",
            "userAgent": "kubelb",
            "requestReceivedTimestamp": moment.format(1),
            "stageTimestamp": moment.format(number + 1),
            "stage": stage,
            "responseStatus": {"code": code},
        }
        for number, (stage, code) in enumerate(stages)
    ]
    log = tmp_path / "audit.log"
    lines = [json.dumps(event) for event in (*events, {**events[0], "auditID": "b", "userAgent": "coredns"})]
    log.write_text("\n".join(lines) + '\n{"auditID": "c", "user', encoding="utf-8")
    (asked,) = audit.read(log)
    assert (asked.verb, asked.code) == ("watch", 200)
    assert asked.answered is not None
    assert asked.answered - asked.received == pytest.approx(1.0)


def test_the_busiest_second():
    """Any second, not one of the clock's, and only between the two moments."""
    moments = [0.1, 0.9, 1.05, 1.2, 1.85, 5.0]
    assert audit.busiest(moments, 0.0, 10.0) == 4
    assert audit.busiest(moments, 1.0, 10.0) == 3
    assert audit.busiest([], 0.0, 1.0) == 0
