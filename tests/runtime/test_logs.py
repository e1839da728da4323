"""Log lines: one a change of state, repeated ones held back and counted, nothing unless it is asked for."""

import logging
import re
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from core.kit import Clock, pods
from kubelb import LoadBalancer, UnknownService
from kubelb.core import events
from kubelb.service import service_of
from kubelb.telemetry.logs import QUIET, REMEMBERED, LogSink

from .kit import Source, balancer, until

ALL = [
    (events.EndpointsChanged("s", 1, 3, 1, tuple("abcdefg"), ("z",)), "INFO", "+a +b +c +d +e and 2 more, -z"),
    (
        events.EndpointsChanged("s", 2, 0, 0, (), ("z",), "there is no Service s"),
        "WARNING",
        "0 endpoints in use, 0 parked, 1 went: there is no Service s",
    ),
    (events.Ejected("s", "e", "5 failures in a row", 10.0, 1), "WARNING", "e ejected for 10.0 s: 5 failures in a row"),
    (events.Ejected("s", "e", "its probe failed", 20.0, 2), "WARNING", "its probe failed, ejection 2 in a row"),
    (events.Ejected("s", "e", "why", 10.0, 1, observed=True), "WARNING", "why (observed only: nothing was done)"),
    (events.EjectionSpared("s", "e", "it is the last endpoint"), "WARNING", "e fails and is kept"),
    (events.Returned("s", "e", "probe"), "INFO", "e is back: probe"),
    (events.ShareBounded("s", "e", True, "why"), "WARNING", "e gets its fair share and no more: why"),
    (events.ShareBounded("s", "e", False, "why"), "INFO", "e is bounded to its fair share no longer: why"),
    (events.Retried("s", "e", 2, "503", 0.025), "DEBUG", "attempt 2 follows in 25 ms: e 503"),
    (events.BudgetExhausted("s", "503"), "WARNING", "the retry budget is used up"),
    (events.LimitReached("s", "max_requests", 3), "WARNING", "max_requests=3 is reached, and what is more refused"),
    (
        events.LimitReached("s", "max_requests_per_endpoint", 3, "e", observed=True),
        "WARNING",
        "e: max_requests_per_endpoint=3 is reached, and what is more refused (observed only: nothing was done)",
    ),
    (events.LocalTrouble("s", "e", "ports", "no port", "wait"), "WARNING", "e is not to blame: no port; wait"),
    (
        events.CircuitChanged("s", "e", "open", "11 of 20 calls failed", 20, 11, 0, 10.0),
        "WARNING",
        "the circuit of e is open for 10.0 s: 11 of 20 calls failed",
    ),
    (events.CircuitChanged("s", "", "closed", "why"), "INFO", "the circuit of the service is closed: why"),
    (events.DiscoveryFailed("s", "forbidden", "403", "add a Role"), "WARNING", "403; add a Role; what is known"),
    (events.DiscoveryFailed("s", "unreachable", "no route"), "WARNING", "no route; what is known"),
    (events.DiscoveryRecovered("s", 3.0), "INFO", "discovery is back after 3.0 s"),
    (events.Skipped("s", "slice x", "no ports"), "WARNING", "slice x left out: no ports"),
    (
        events.SourceChanged("s", "dns+srv", "endpointslices", "forbidden", "403", "add a Role"),
        "WARNING",
        "endpoints come from dns+srv, no longer from endpointslices: forbidden, 403; add a Role",
    ),
    (
        events.SourceChanged("s", "endpointslices", "dns+srv", "recovered", "it can be read again"),
        "INFO",
        "endpoints come from endpointslices, no longer from dns+srv: recovered, it can be read again",
    ),
    (events.TlsFilesChanged("s", ("a.pem", "b.pem")), "INFO", "a.pem, b.pem: changed, and read again"),
    (
        events.TlsFilesChanged("s", ("a.pem",), "SSLError: no"),
        "WARNING",
        "a.pem: changed, and cannot be used (SSLError: no); what was read before still is",
    ),
]


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, logger="kubelb")
    return caplog


@pytest.mark.parametrize(("event", "level", "text"), ALL)
def test_each_event_has_a_line(heard: pytest.LogCaptureFixture, event: events.Event, level: str, text: str) -> None:
    """With the service, at the level that it deserves."""
    LogSink(Clock())(event)
    (record,) = heard.records
    assert (record.name, record.levelname) == ("kubelb", level)
    assert record.getMessage().startswith("s: ")
    assert text in record.getMessage()


def test_repeated_lines_are_held_back_and_counted(heard: pytest.LogCaptureFixture) -> None:
    """A thousand equal events in ten seconds are one line; the next says how many there were."""
    clock = Clock()
    sink = LogSink(clock)
    for _ in range(1000):
        sink(events.BudgetExhausted("s", "503"))
        clock.advance(QUIET / 1001)
    sink(events.BudgetExhausted("other", "503"))
    assert len(heard.records) == 2
    clock.advance(1)
    sink(events.BudgetExhausted("s", "503"))
    assert heard.records[-1].getMessage().endswith("(999 more like it)")


class Endpoints:
    """A set that churns, and whoever is asked to do something later."""

    def __init__(self) -> None:
        self.clock, self.jobs, self.version = Clock(), [], 0
        self.sink = LogSink(self.clock, self.later)

    def later(self, delay: float, job: Callable[[], None]) -> None:
        self.jobs.append((self.clock() + delay, job))

    def change(self, used: int, came: int = 0, went: int = 0, problem: str = "") -> None:
        self.version += 1
        names = tuple(f"10.0.0.{n}:80" for n in range(max(came, went)))
        self.sink(events.EndpointsChanged("s", self.version, used, 0, names[:came], names[:went], problem))

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        due = [job for when, job in self.jobs if when <= self.clock()]
        self.jobs = [each for each in self.jobs if each[0] > self.clock()]
        for job in due:
            job()


def test_a_set_that_churns_is_one_line_in_ten_seconds(heard: pytest.LogCaptureFixture) -> None:
    """The kind: a rolling restart fills the log, as every snapshot differs. The last line says how the set is now."""
    pods = Endpoints()
    pods.change(3, came=3)
    for number in range(1000):
        pods.advance(0.05)
        pods.change(3 + number, came=2, went=1)
    pods.advance(QUIET)
    lines = [record.getMessage() for record in heard.records]
    assert lines[0] == "s: 3 endpoints in use, 0 parked, +10.0.0.0:80 +10.0.0.1:80 +10.0.0.2:80"
    assert len(lines) == 6
    counts = [re.search(r"(\d+) came and (\d+) went in (\d+) changes", line) for line in lines[1:]]
    assert [sum(int(found[n]) for found in counts if found) for n in (1, 2, 3)] == [2000, 1000, 1000]
    assert lines[-1].startswith("s: 1002 endpoints in use, 0 parked; ")
    assert pods.jobs == []
    pods.advance(QUIET)
    pods.change(7, went=1)
    assert heard.records[-1].getMessage() == "s: 7 endpoints in use, 0 parked, -10.0.0.0:80"


def test_a_set_that_becomes_empty_is_told_at_once(heard: pytest.LogCaptureFixture) -> None:
    """With what was held back said by it; a service that flaps is not a line a second either."""
    pods = Endpoints()
    pods.change(3, came=3)
    pods.change(2, went=1)
    pods.change(0, went=2, problem="none is ready")
    assert [record.levelname for record in heard.records] == ["INFO", "WARNING"]
    for _ in range(20):
        pods.advance(1.0)
        pods.change(1, came=1)
        pods.change(0, went=1, problem="none is ready")
    warnings = [record for record in heard.records if record.levelname == "WARNING"]
    assert len(warnings) <= 6
    assert len(heard.records) - len(warnings) <= 4
    pods.change(1, came=1)
    pods.advance(QUIET)
    assert heard.records[-1].getMessage().startswith("s: 1 endpoints in use")
    pods.change(0, went=1, problem="none is ready")
    pods.advance(QUIET)
    pods.change(1, came=1)
    pods.advance(1.0)
    pods.change(0, went=1, problem="none is ready")
    pods.advance(QUIET)
    assert heard.records[-1].getMessage().startswith("s: 0 endpoints in use")
    assert heard.records[-1].getMessage().endswith(": none is ready")


def test_a_held_line_is_written_by_the_worker(heard: pytest.LogCaptureFixture, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """The whole way: nothing has to happen for it to be told."""
    monkeypatch.setattr("kubelb.telemetry.churn.QUIET", 0.3)
    source = Source(None)
    with balancer(source) as lb:
        source.say(pods(1))
        lb.wait_ready(5)
        source.say(pods(2))
        until(lambda: len(heard.records) == 2)
    assert heard.records[-1].getMessage().startswith("svc.ns:http: 2 endpoints in use, 0 parked")


def test_every_change_of_state_is_a_line(heard: pytest.LogCaptureFixture) -> None:
    """Ejected, back, and ejected for longer within seconds: none of them is held back."""
    sink = LogSink(Clock())
    for times in (1, 2, 3):
        sink(events.Ejected("s", "e", "why", 1.0, times))
    sink(events.Returned("s", "e", "probe"))
    assert len(heard.records) == 4


def test_the_memory_of_lines_is_bounded(heard: pytest.LogCaptureFixture) -> None:
    """Ten thousand different lines leave a thousand times at most."""
    sink = LogSink(Clock())
    for number in range(10 * REMEMBERED):
        sink(events.Skipped("s", f"slice {number}", "why"))
    assert len(sink._said) <= REMEMBERED


def test_a_level_that_nobody_hears_is_not_even_counted() -> None:
    """Below the logger's level an event costs a comparison."""
    sink = LogSink(Clock())
    sink(events.Retried("s", "e", 2, "503", 0.0))
    assert sink._said == {}


def test_a_child_has_a_lock_of_its_own(heard: pytest.LogCaptureFixture) -> None:
    """After a fork a lock that another thread held is not waited for."""
    sink = LogSink(Clock())
    sink._lock.acquire()
    sink.after_fork_in_child()
    sink(events.BudgetExhausted("s", "503"))
    assert len(heard.records) == 1


def test_eight_threads_write_one_line(heard: pytest.LogCaptureFixture) -> None:
    """Equal events from many threads are one line all the same."""
    sink = LogSink(Clock())
    threads = [
        threading.Thread(target=lambda: [sink(events.BudgetExhausted("s", "503")) for _ in range(100)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(heard.records) == 1


def test_an_ejection_is_seen_in_the_log(heard: pytest.LogCaptureFixture) -> None:
    """From a failing call to a line with the pod's address, and one line for the set."""
    lb = LoadBalancer("static:///10.0.0.1:80,10.0.0.2:80,10.0.0.3:80", retry=None)

    def fn(attempt: object) -> None:
        raise ConnectionResetError

    for _ in range(5):
        state = service_of(lb).balancer.states()[0]
        service_of(lb).balancer._picker = type("P", (), {"pick": lambda self, request, now, state=state: state})()
        with pytest.raises(ConnectionResetError):
            lb.call(fn)
    lines = [record.getMessage() for record in heard.records]
    assert sum("3 endpoints in use" in line for line in lines) == 1
    assert sum("10.0.0.1:80 ejected" in line for line in lines) == 1


def test_an_unknown_service_is_told_from_an_empty_one(heard: pytest.LogCaptureFixture) -> None:
    """In the log too: one warning each, in words of its own, and one line when there are endpoints."""
    source = Source(None)
    with balancer(source) as lb:
        source.say((), exists=False, problem="there is no Service svc")
        with pytest.raises(UnknownService):
            lb.wait_ready(5)
        source.say((), problem="Service svc has no endpoints")
        until(lambda: len(heard.records) == 2)
        source.say(pods(2))
        until(lambda: len(heard.records) == 3)
    assert [record.levelname for record in heard.records] == ["WARNING", "WARNING", "INFO"]
    unknown, empty, there = (record.getMessage() for record in heard.records)
    assert unknown == "svc.ns:http: 0 endpoints in use, 0 parked: there is no Service svc"
    assert empty == "svc.ns:http: 0 endpoints in use, 0 parked: Service svc has no endpoints"
    assert there.startswith("svc.ns:http: 2 endpoints in use, 0 parked, +")


def test_without_logging_configured_nothing_is_written() -> None:
    """A NullHandler: no line on stderr, not even "no handlers could be found"."""
    program = (
        "import kubelb\n"
        "lb = kubelb.LoadBalancer('static:///10.0.0.1:80')\n"
        "from kubelb.core.events import BudgetExhausted\n"
        "from kubelb.service import service_of\n"
        "service_of(lb)._emit(BudgetExhausted('s', 'x'))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stderr == ""
