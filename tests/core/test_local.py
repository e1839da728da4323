"""Local trouble is ours: what this process lacks is no fault of the endpoint that it was met on.

The kind of fault: endpoints that needed something new at that moment were ejected, and their breakers opened, for what
happened here.
"""

import errno
from typing import Any

import pytest

from kubelb.core.events import LocalTrouble
from kubelb.core.health.breaker import CircuitBreaker
from kubelb.core.health.outliers import OutlierDetection
from kubelb.core.local import local, unreachable
from kubelb.core.reach import reached
from kubelb.core.refused import refused
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


class Proxy:
    """Says that it is an error, as what an agent puts around a call of gRPC's."""

    __class__ = OSError  # type: ignore[assignment]
    args = (OSError(errno.EMFILE, "Too many open files"),)
    errno = errno.EMFILE


@pytest.mark.parametrize("looks", [local, unreachable, refused])
def test_what_only_says_that_it_is_an_error(looks: Any) -> None:
    """Kind: objects that are no exceptions in the place of one. They are not looked into, and nothing raises."""
    proxy: Any = Proxy()
    assert isinstance(proxy, BaseException)
    assert not looks(proxy)


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


class Odd(Exception):
    """Every attribute that may be read of an error is something else."""

    exceptions = None
    args = None  # type: ignore[assignment]

    def __str__(self) -> str:
        raise ValueError("no words")

    def add_note(self, note: str) -> None:
        raise ValueError("no notes")


class OddRuntime(Odd, RuntimeError):
    pass


class OddSocket(Odd, ConnectionError):
    errno = []  # type: ignore[assignment]


class OddRefusal(Odd, ConnectionRefusedError):
    pass


class OddGroup(Odd, ExceptionGroup[Exception]):
    pass


@pytest.mark.parametrize(
    "error",
    [
        Odd(),
        OddRuntime(),
        OddSocket(),
        OddSocket(errno.EMFILE, "none left"),
        OddSocket(errno.EHOSTUNREACH, "no route"),
        OddRefusal(),
        OddGroup("", [OSError(errno.EMFILE, "none left")]),
        OSError([], "no number"),
        OSError("one", "two"),
    ],
)
@pytest.mark.parametrize("sent", [Sent.NEVER, Sent.MAYBE])
def test_what_looks_at_an_error_does_not_fail_in_place_of_it(error: BaseException, sent: Sent) -> None:
    """Attributes that a class may define anew were trusted: the caller got a TypeError and not its own error."""
    rig = Rig(2)
    for wrapped in (error, caused(error, 1)):
        for verdict in (Verdict.FAILED, Verdict.ODD):
            lease = rig.balancer.pick()
            lease.release(Outcome(verdict, sent=sent, error=wrapped))
            assert lease.state.in_flight == 0


def test_what_python_keeps_of_an_error_is_read() -> None:
    """Whatever the class says of itself."""
    assert local(OddSocket(errno.EMFILE, "none left")) is not None
    assert local(OddGroup("", [OSError(errno.EMFILE, "none left")])) is not None
    assert unreachable(OddSocket(errno.EHOSTUNREACH, "no route"))
    assert refused(OddRefusal())


def test_an_error_that_is_raised_again_bears_one_note() -> None:
    """A client that keeps one object and raises it a thousand times: its notes grew without end."""
    rig = Rig(3)
    error = OSError(errno.EMFILE, "Too many open files")
    error.add_note("the application's own")
    for _ in range(50):
        rig.lease(0).release(failing(error))
    assert len(error.__notes__) == 2


def test_an_outage_of_this_host_is_not_the_start_of_a_streak() -> None:
    """What was excused was counted all the same: the first ordinary failure after it ejected a healthy endpoint."""
    rig = Rig(3)
    for _ in range(9):
        for each in range(3):
            rig.lease(each).release(failing(OSError(errno.EHOSTUNREACH, "No route")))
        rig.clock.advance(0.1)
    assert reached(rig.balancer.states(), rig.clock()) is False
    rig.succeed(1)
    rig.succeed(2)
    rig.fail(0)
    assert {view.state for view in rig.balancer.view()} == {"ready"}
    rig.fail(0, 5)
    assert [view.state for view in rig.balancer.view()].count("ejected") == 1


def test_an_endpoint_that_answers_ends_the_outage() -> None:
    """A success, or the word that it is full: then there is a route, and another one without is to blame itself."""
    for ends in (Outcome(), Outcome(Verdict.FULL, retry_after=1.0)):
        rig = Rig(2)
        for _ in range(3):
            for each in range(2):
                rig.lease(each).release(failing(OSError(errno.EHOSTUNREACH, "No route")))
        rig.lease(0).release(ends)
        for _ in range(5):
            rig.lease(1).release(failing(OSError(errno.EHOSTUNREACH, "No route")))
        assert [view.state for view in rig.balancer.view()].count("ejected") == 1


def test_one_that_rests_is_asked_whether_there_is_a_route() -> None:
    """The only one awake was "all there are": it was excused for ever, and got all requests."""
    rig = Rig(2)
    for each in range(2):
        rig.succeed(each)
    rig.lease(0).release(Outcome(Verdict.FULL, retry_after=30.0))
    for _ in range(5):
        lease = rig.balancer.pick()
        assert lease.state is rig.state(1)
        lease.release(failing(OSError(errno.EHOSTUNREACH, "No route")))
    assert list(rig.picks(100).values()) == [100, 0]


def test_one_that_was_ejected_long_ago_is_no_witness() -> None:
    """A pod that has been dead for minutes says nothing of today's network; one that refused a moment ago does."""
    for seconds, blamed in ((0.0, 2), (11.0, 0)):
        rig = Rig(4, outliers=OutlierDetection(base_ejection=60.0))
        rig.fail(0, 5)
        rig.clock.advance(seconds)
        for _ in range(2):
            for each in range(1, 4):
                rig.lease(each).release(failing(OSError(errno.EHOSTUNREACH, "No route")))
        assert rig.state(3).failures == blamed


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
