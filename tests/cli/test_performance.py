"""A performance from inside: made to fail, cut short, on one address only."""

import io
import json
import random
import threading
import time
from contextlib import contextmanager

import pytest
from rich.console import Console

from kubelb.cli.demo import stage as stage_module
from kubelb.cli.demo.command import run_command
from kubelb.cli.demo.measure import KUBELB, PLAIN, Record
from kubelb.cli.demo.pods import Roster
from kubelb.cli.demo.script import AFTER, BEFORE, FAULTS, Act, Play
from kubelb.cli.demo.settings import Settings
from kubelb.cli.demo.show import show
from kubelb.cli.demo.stage import Stage
from kubelb.cli.demo.traffic import Side, Traffic
from kubelb.cli.demo.view import frame
from kubelb.clock import monotonic
from kubelb.testing import LocalCluster

pytestmark = pytest.mark.slow
SETTINGS = Settings(seconds=5.0, rate=60.0, seed=1)


def everything_fails(stage, settings):
    """A script in which no client can help its callers."""

    def fail():
        for backend in stage.service:
            backend.fail(500)

    return (
        Act("calm", BEFORE, 0.5, "calm"),
        Act("all fail", FAULTS, 0.5, "all fail", fail),
        Act("end", AFTER, 0.2, "end"),
    )


def calm(stage, settings):
    return Act("calm", BEFORE, 0.6, "calm"), Act("calm", FAULTS, 0.4, "calm"), Act("calm", AFTER, 0.2, "calm")


def quiet() -> Console:
    return Console(file=io.StringIO(), width=100)


@contextmanager
def no_thread_left():
    before = set(threading.enumerate())
    yield
    until = time.monotonic() + 2.0
    while left := [thread for thread in threading.enumerate() if thread not in before and "kubelb-demo" in thread.name]:
        assert time.monotonic() < until, left
        time.sleep(0.01)


def test_errors_on_our_side_are_exit_code_1(capsys):
    """Where kubelb's callers do see errors, the figures, the words and the exit code say so."""
    with no_thread_left():
        code = run_command(seconds=5, rate=60, seed=1, plain=True, as_json=True, script=everything_fails)
    out, err = capsys.readouterr()
    assert code == 1
    found = json.loads(out)
    assert found["ok"] is False
    assert set(found["sides"]["kubelb"]["kinds"]) == {"HTTP 500"}
    assert found["sides"]["kubelb"]["errors"] > 0
    assert found["sides"]["kubelb"]["phases"]["faults"]["p99"] >= found["timeout"]  # failing fast is not fast
    assert "should have had none" in err


def test_calm_is_exit_code_0(capsys):
    """The same without trouble, and without a claim that the figures do not bear out."""
    with no_thread_left():
        assert run_command(seconds=5, rate=60, seed=1, plain=True, as_json=False, script=calm) == 0
    assert "no errors" in capsys.readouterr().out


def test_a_script_that_breaks_is_told(capsys):
    """An act that raises ends the performance with a line, not with figures of half a play."""

    def broken(stage, settings):
        return (Act("calm", BEFORE, 0.1, "calm"), Act("odd", FAULTS, 0.1, "odd", lambda: stage.no_such_thing))

    with no_thread_left():
        assert run_command(seconds=5, rate=20, seed=1, plain=True, as_json=False, script=broken) == 1
    assert "'odd' could not be performed" in capsys.readouterr().err


def test_both_sides_get_the_same_schedule():
    """Each request is due at the same time on both sides, and belongs to the same act."""
    kept = []

    class Kept(Record):
        def __init__(self):
            super().__init__()
            kept.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kubelb.cli.demo.show.Record", Kept)
        show(SETTINGS, quiet(), plain=True, script=calm)
    (record,) = kept
    ours, theirs = ({(each.due, each.act) for each in record.of(side)} for side in (KUBELB, PLAIN))
    assert ours == theirs
    assert ours


def test_where_only_one_address_can_be_bound(monkeypatch):
    """Pods that differ by port alone (macOS) do as well."""
    monkeypatch.setattr(stage_module, "LocalCluster", lambda **options: LocalCluster(single_address=True, **options))
    summary = show(SETTINGS, quiet(), plain=True, script=calm)
    assert summary.ok
    assert summary.totals[PLAIN].errors == 0


def test_all_pods_get_traffic_from_kubelb():
    """Shares of the table come from who answered, and add up to one on each side."""
    with Stage(SETTINGS) as stage:
        record, roster = Record(), Roster(stage)
        sides = [Side(KUBELB, stage.kubelb, record), Side(PLAIN, stage.plain, record)]
        traffic = Traffic(sides, 200.0, random.Random(1), lambda: 0)
        traffic.start()
        time.sleep(1.0)
        rows = roster.rows(record, monotonic())
        play = Play(calm(stage, SETTINGS))
        console = Console(file=io.StringIO(), width=100, height=30)
        console.print(frame(stage, SETTINGS, play, record, roster, monotonic(), console))
        traffic.finish(5.0)
    assert [row.name for row in rows] == [f"reviews-{number}" for number in range(5)]
    assert {row.state for row in rows} == {"ready"}
    assert all(row.shares[0] > 0.02 for row in rows)
    assert sum(row.shares[0] for row in rows) == pytest.approx(1)
    assert sum(row.shares[1] for row in rows) == pytest.approx(1)
    assert "reviews-4" in console.file.getvalue()
