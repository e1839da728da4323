"""Kind: what happened once to a connection was counted once for every request on it, and ejected a healthy pod."""

import threading
from collections.abc import Callable

import pytest

from kubelb import CircuitBreaker, OutlierDetection
from kubelb.core import Lease
from kubelb.core.events import Ejected
from kubelb.core.state import Phase
from kubelb.model import SUCCESS, Incident, Outcome, Verdict

from .kit import Rig, failed

HEADERS = Outcome(open=True)


def end(leases: list[Lease], incident: Incident) -> None:
    for lease in leases:
        lease.release(failed(incident=incident))


def cut(rig: Rig, requests: int, *, planned: bool = False, number: int = 0) -> None:
    """Have a connection with so many requests on it end."""
    end([rig.lease(number) for _ in range(requests)], Incident(planned=planned))


def test_a_cut_connection_is_one_failure() -> None:
    """Of eight requests one is counted: by the streak, the share and the charge; in flight all have ended."""
    rig = Rig(3, "peak_ewma")
    cut(rig, 8)
    state = rig.state(0)
    assert (state.consecutive, state.failures, state.faults, state.others, state.in_flight) == (1, 1, 1, 7, 0)
    assert state.doubts == 1.0
    assert rig.told(Ejected) == []


def test_it_is_charged_as_one_failure_and_no_lower() -> None:
    """What the others say afterwards changes nothing of the charge."""
    one, many = Rig(1, "peak_ewma"), Rig(1, "peak_ewma")
    cut(one, 1)
    cut(many, 50)
    a, b = one.state(0), many.state(0)
    assert (a.cost, a.stamp, a.charge, a.charged) == (b.cost, b.stamp, b.charge, b.charged)


def test_five_cut_connections_in_a_row_eject() -> None:
    """An endpoint that takes connections only to break them is away after as many of them as failures are allowed."""
    rig = Rig(3)
    for n in range(5):
        assert len(rig.told(Ejected)) == 0, n
        cut(rig, 20)
    assert len(rig.told(Ejected)) == 1
    assert rig.state(0).failures == 5


def test_two_connections_that_end_by_turns_are_two_failures() -> None:
    """However the ends of their requests are mixed."""
    rig = Rig(3)
    one, other = Incident(), Incident()
    for _ in range(10):
        end([rig.lease(0)], one)
        end([rig.lease(0)], other)
    assert (rig.state(0).consecutive, rig.state(0).failures) == (2, 2)


def test_bodies_that_break_together_are_one_failure() -> None:
    """Streams whose headers, or first message, were a success."""
    rig = Rig(3)
    leases = [rig.lease(0) for _ in range(8)]
    for lease in leases:
        lease.observe(HEADERS)
    end([*leases, rig.lease(0), rig.lease(0)], Incident())
    state = rig.state(0)
    assert (state.consecutive, state.failures, state.successes, state.others) == (1, 1, 8, 2)


def test_a_success_or_a_failure_of_its_own_is_counted_as_ever() -> None:
    """Only failures that bear an incident are compared."""
    rig = Rig(3)
    incident = Incident()
    cut(rig, 3)
    rig.lease(0).release(Outcome(incident=incident))
    assert rig.state(0).consecutive == 0
    rig.fail(0, 2)
    rig.lease(0).release(Outcome(Verdict.CANCELLED, incident=incident))
    rig.lease(0).release(failed(incident=incident))
    assert rig.state(0).consecutive == 3


def test_a_planned_end_is_no_failure() -> None:
    """A connection that has reached its age: nothing is counted, charged or judged, with open streams neither."""
    rig = Rig(3, "peak_ewma")
    for _ in range(100):
        rig.succeed(0)
        streams = [rig.lease(0) for _ in range(4)]
        for lease in streams:
            lease.observe(HEADERS)
        end([*streams, rig.lease(0), rig.lease(0)], Incident(planned=True))
        rig.clock.advance(2.0)
    state = rig.state(0)
    assert (state.consecutive, state.failures, state.faults, state.charge) == (0, 0, 0, 0.0)


def test_planned_ends_are_believed_of_an_endpoint_that_answers() -> None:
    """Kind: trust in a server's word without a bound. One that ends each connection "as planned" and answers nothing
    is ejected as if it had said nothing."""
    rig = Rig(3)
    cut(rig, 5, planned=True)
    assert rig.state(0).failures == 0
    for _ in range(5):
        rig.clock.advance(1.5)
        cut(rig, 5, planned=True)
    assert (rig.state(0).failures, len(rig.told(Ejected))) == (5, 1)


def test_planned_ends_are_believed_once_a_second() -> None:
    """One that answers once a connection, and loses the rest of it each time, is found by its failure share."""
    rig = Rig(3, outliers=OutlierDetection(consecutive_failures=100))
    for _ in range(40):
        rig.clock.advance(0.1)
        rig.succeed(0)
        rig.succeed(1)
        rig.succeed(2)
        cut(rig, 3, planned=True)
        if rig.told(Ejected):
            break
    (event,) = rig.told(Ejected)
    assert event.endpoint == rig.state(0).endpoint.authority


def test_planned_ends_that_leave_more_than_was_answered_are_believed_once_in_ten_seconds() -> None:
    """Kind: the same trust. One that answers two requests a connection, lets twenty pile up and leaves them."""
    rig = Rig(3)
    for _ in range(40):
        rig.clock.advance(0.5)
        for number in (0, 0, 1, 1, 2, 2):
            rig.succeed(number)
        cut(rig, 20, planned=True)
        if rig.told(Ejected):
            break
    assert rig.told(Ejected)[0].endpoint == rig.state(0).endpoint.authority


def test_an_endpoint_that_answers_much_may_end_its_connections_as_often() -> None:
    """A limit of requests a connection (hypercorn's keep_alive_max_requests) is reached often under load."""
    rig = Rig(3)
    for _ in range(20):
        for _ in range(20):
            rig.succeed(0)
        cut(rig, 5, planned=True)
    assert (rig.state(0).failures, rig.told(Ejected)) == (0, [])


def test_an_endpoint_with_silent_streams_alone_may_end_its_connections() -> None:
    """Watches that see no message answer nothing; their connections may still grow old."""
    rig = Rig(3)
    for _ in range(20):
        cut(rig, 5, planned=True)
        rig.clock.advance(10.0)
    assert (rig.state(0).failures, rig.told(Ejected)) == (0, [])


@pytest.mark.parametrize("planned", [False, True])
def test_a_circuit_hears_of_it_once(planned: bool) -> None:
    """Neither as failures nor as slow calls, whether or not their headers were seen."""
    rig = Rig(3, outliers=None, breaker=CircuitBreaker(minimum_calls=4, slow_call_duration=1.0))
    waiting, open_ = [rig.lease(0) for _ in range(20)], [rig.lease(0) for _ in range(20)]
    for lease in open_:
        lease.observe(HEADERS)
    rig.clock.advance(5.0)
    end([*waiting, *open_], Incident(planned=planned))
    circuit = rig.state(0).circuits[0]
    failures, slow, calls = circuit.counts()
    once = int(not planned)
    assert (failures, slow, calls) == (once, once, 20 + once)


def test_the_end_of_a_probes_connection_is_counted_once() -> None:
    """A probe that shares the incident of a request from before says nothing: the next request is the probe."""
    rig = Rig(3)
    old = rig.lease(0)
    rig.eject(0)
    rig.clock.advance(13.0)
    probe = next(lease for lease in (rig.balancer.pick() for _ in range(6)) if lease.state is rig.state(0))
    incident = Incident()
    end([old, probe], incident)
    assert len(rig.told(Ejected)) == 1
    rig.clock.advance(1.5)
    again = next(lease for lease in (rig.balancer.pick() for _ in range(6)) if lease.state is rig.state(0))
    again.release()
    assert rig.state(0).phase is Phase.ACTIVE


def test_threads_count_it_once() -> None:
    """However many see the end at the same moment."""
    for _ in range(50):
        incident, gate = Incident(), threading.Barrier(8)
        firsts: list[bool] = []

        def ask(incident: Incident, wait: Callable[[], int], said: list[bool]) -> None:
            wait()
            said.append(incident.first())

        threads = [threading.Thread(target=ask, args=(incident, gate.wait, firsts)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert firsts.count(True) == 1


def test_it_shows_itself() -> None:
    """In a log or a debugger."""
    incident = Incident(planned=True)
    assert repr(incident) == "<Incident planned>"
    incident.first()
    incident.planned = False
    assert repr(incident) == "<Incident counted>"
    assert SUCCESS.incident is None
