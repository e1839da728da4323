"""Local trouble is ours: what this process lacks is no fault of the endpoint that it was met on.

The kind of fault: endpoints that needed something new at that moment were ejected, and their breakers opened, for what
happened here.
"""

import errno
from typing import Any

import pytest

from kubelb.core.events import LocalTrouble
from kubelb.core.health.breaker import CircuitBreaker
from kubelb.core.local import local, unreachable
from kubelb.core.reach import reached
from kubelb.core.state import NEVER, EndpointState
from kubelb.core.tracking import Tracker
from kubelb.model import Outcome, Sent, Verdict

from .kit import Rig, pod

LACKS: list[tuple[BaseException, str]] = [
    (OSError(errno.EMFILE, "Too many open files"), "descriptors"),
    (OSError(errno.ENFILE, "Too many open files in system"), "descriptors"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory"),
    (OSError(errno.ENOBUFS, "No buffer space available"), "memory"),
    (OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"), "ports"),
    (RuntimeError("can't start new thread"), "threads"),
    (MemoryError(), "memory"),
]


def caused(cause: BaseException, times: int = 3) -> BaseException:
    for _ in range(times):
        outer = ConnectionError("all attempts failed")
        outer.__cause__ = cause
        cause = outer
    return cause


def failing(error: BaseException, **fields: Any) -> Outcome:
    return Outcome(Verdict.FAILED, sent=Sent.NEVER, retryable=True, reason="connect error", error=error, **fields)


@pytest.mark.parametrize(("error", "kind"), LACKS)
def test_it_is_found_however_a_client_wraps_it(error: BaseException, kind: str) -> None:
    """By causes, arguments and groups; a context is the caller's own affair."""
    for wrapped in (error, caused(error), RuntimeError("pool", error), caused(BaseExceptionGroup("", [error]))):
        trouble = local(wrapped)
        assert trouble is not None
        assert trouble.kind == kind
    handling = ConnectionResetError()
    handling.__context__ = error
    assert local(handling) is None


def test_what_is_not_local() -> None:
    """Other errors, none, and circles."""
    for error in (None, OSError("words alone"), RuntimeError("else"), caused(ConnectionRefusedError(), 40)):
        assert local(error) is None
    circle = ConnectionError()
    circle.__cause__ = caused(circle)
    assert local(circle) is None
    assert unreachable(caused(OSError(errno.EHOSTUNREACH, "No route to host")))
    assert not unreachable(ConnectionRefusedError())


@pytest.mark.parametrize(("error", "kind"), LACKS)
def test_no_endpoint_is_blamed(error: BaseException, kind: str) -> None:
    """Not ejected, not charged, its breaker closed; the error names the cure, and an event tells of it."""
    rig = Rig(3, "peak_ewma", breaker=CircuitBreaker(minimum_calls=5))
    for number in range(3):
        rig.succeed(number)
    for _ in range(30):
        each = type(error)(*error.args)
        rig.lease(0).release(failing(each))
    assert {view.state for view in rig.balancer.view()} == {"ready"}
    assert {view.failures for view in rig.balancer.view()} == {0}
    assert {state.charge for state in rig.balancer.states()} == {0.0}
    assert any("kubelb:" in note for note in each.__notes__)
    told = rig.told(LocalTrouble)
    assert [event.kind for event in told] == [kind] * 30
    assert told[0].cure


def test_a_caller_that_gave_up_is_asked_for_nothing() -> None:
    """A cancellation that has such an error is one all the same."""
    rig = Rig(3)
    rig.lease(0).release(Outcome(Verdict.CANCELLED, sent=Sent.MAYBE, error=LACKS[0][0]))
    assert rig.told(LocalTrouble) == []


@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.EHOSTUNREACH])
def test_no_route_to_any_is_ours(number: int) -> None:
    """Where all fail alike it is this host's network; and what asks whether any is reached hears that none is."""
    rig = Rig(3, outliers=None, breaker=CircuitBreaker(minimum_calls=3))
    for _ in range(20):
        for each in range(3):
            rig.lease(each).release(failing(OSError(number, "No route")))
        rig.clock.advance(0.1)
    assert {view.state for view in rig.balancer.view()} == {"ready"}
    assert {event.kind for event in rig.told(LocalTrouble)} == {"network"}
    assert len(rig.told(LocalTrouble)) == 58
    assert reached(rig.balancer.states(), rig.clock()) is False


def test_no_route_to_one_is_its_own() -> None:
    """Its node is gone, and the others answer: it is ejected like any dead endpoint."""
    rig = Rig(3)
    for number in range(3):
        rig.succeed(number)
    for _ in range(5):
        rig.lease(0).release(failing(OSError(errno.EHOSTUNREACH, "No route to host")))
    assert [view.state for view in rig.balancer.view()].count("ejected") == 1
    assert rig.told(LocalTrouble) == []


def test_what_was_sent_had_a_route() -> None:
    """An ICMP message in the middle of an answer is a broken connection."""
    rig = Rig(1)
    rig.lease(0).release(Outcome(Verdict.FAILED, sent=Sent.MAYBE, error=OSError(errno.EHOSTUNREACH, "No route")))
    assert rig.balancer.view()[0].failures == 1


def test_a_tracker_alone_tells_nobody() -> None:
    """Without a balancer nothing rests, is told, or is known of others."""
    tracker = Tracker(lambda: 5.0, 10.0, 5.0)
    state = EndpointState(pod(0), tracker)
    tracker.record(state, Outcome(Verdict.BUSY, retry_after=3.0), 4.0)
    assert state.rests_until == NEVER
    tracker.record(state, failing(LACKS[0][0]), 4.0)
    tracker.record(state, failing(OSError(errno.ENETUNREACH, "")), 4.0)
    assert (state.failures, state.others) == (2, 1)
