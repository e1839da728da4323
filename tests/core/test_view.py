"""What users see of endpoints, and why a pick is refused."""

import pytest

from kubelb.core.balancer import Balancer
from kubelb.core.refusal import Refusing, refusal
from kubelb.errors import Closed, NoEndpoints, NotReady, UnknownService
from kubelb.model import ANY, Endpoint, Snapshot

from .kit import Rig, failed, pod, pods


def test_each_standing_has_its_word_and_reason() -> None:
    """Ready, warming, ejected, probing, terminating, not ready, elsewhere."""
    rig = Rig(3)
    parked = (
        pod(10, ready=False),
        pod(11, ready=False, terminating=True),
        pod(12, zone="far"),
    )
    rig.set((*pods(4),), parked)
    rig.eject(0)
    words = {view.address: view for view in rig.balancer.view()}
    assert [words[f"10.0.0.{n}:80"].state for n in (0, 1, 3, 10, 11, 12)] == [
        "ejected",
        "ready",
        "warming",
        "not ready",
        "terminating",
        "elsewhere",
    ]
    assert all(bool(view.reasons) == (view.state != "ready") for view in words.values())
    ejection = words["10.0.0.0:80"].ejection
    assert ejection is not None
    assert 7.5 <= ejection <= 12.5
    assert words["10.0.0.12:80"].zone == "far"
    rig.clock.advance(13)
    probe = rig.balancer.pick()
    assert {view.state for view in rig.balancer.view() if view.address == "10.0.0.0:80"} == {"probing"}
    probe.release()


def test_figures_are_those_of_the_state() -> None:
    """In flight, picks, failures and latency; no latency before the first answer, and 0.0 is one."""
    rig = Rig(1)
    (before,) = rig.balancer.view()
    assert before.latency is None
    lease = rig.balancer.pick()
    (during,) = rig.balancer.view()
    assert (during.in_flight, during.picks) == (1, 1)
    lease.release()
    (after,) = rig.balancer.view()
    assert (after.latency, after.in_flight, after.failures) == (0.0, 0, 0)
    rig.balancer.pick().release(failed())
    assert rig.balancer.view()[0].failures == 1


def test_without_slow_start_nobody_is_warming() -> None:
    """The window is 0 where slow start is off."""
    rig = Rig(1, slow_start=None)
    rig.set(pods(2))
    assert [view.state for view in rig.balancer.view()] == ["ready", "ready"]


def test_before_the_first_snapshot_a_pick_is_not_ready() -> None:
    """The error names the service."""
    with pytest.raises(NotReady, match=r"svc\.ns: no endpoints are known yet"):
        Rig(0).balancer.pick()


def test_an_unknown_service_is_not_an_empty_one() -> None:
    """What discovery says of it comes along."""
    rig = Rig(0)
    rig.balancer.update(Snapshot(1, exists=False))
    with pytest.raises(UnknownService, match="no such service"):
        rig.balancer.pick()
    rig.balancer.update(Snapshot(2, problem="port 81 does not exist; there are http:80"))
    with pytest.raises(NoEndpoints, match="there are http:80"):
        rig.balancer.pick()


def test_nothing_usable_is_counted_by_reason() -> None:
    """The counts say how many are known and why each is not used."""
    parked = (pod(0, ready=False), pod(1, ready=False), pod(2), pod(3, terminating=True, ready=False))
    error = refusal("svc.ns", Snapshot(1, (), parked))
    assert isinstance(error, NoEndpoints)
    assert error.counts == {"known": 4, "not ready": 2, "elsewhere": 1, "terminating": 1}
    assert "not ready: 2" in str(error)


def test_nothing_known_is_said_in_words() -> None:
    """A count of zero is no number that anybody has to interpret."""
    error = refusal("svc.ns", Snapshot(1, problem="no pods"))
    assert (str(error), error.counts) == ("svc.ns: no pods (no endpoint is known)", {"known": 0})


def test_a_refusal_read_just_before_the_first_snapshot_still_refuses() -> None:
    """A thread that saw the old picker gets NotReady, not an internal error, however the set has changed since."""
    rig = Rig(0)
    old = rig.picker
    assert isinstance(old, Refusing)
    rig.set(pods(2))
    with pytest.raises(NotReady):
        old.pick(ANY, 0.0)
    rig.balancer.pick().release()


def test_refusal_is_what_a_pick_would_raise() -> None:
    """None while endpoints are there; Closed for ever after close."""
    rig = Rig(0)
    assert isinstance(rig.balancer.refusal(), NotReady)
    rig.set(pods(1))
    assert rig.balancer.refusal() is None
    lease = rig.balancer.pick()
    assert not rig.balancer.closed
    rig.balancer.close()
    assert rig.balancer.closed
    assert isinstance(rig.balancer.refusal(), Closed)
    with pytest.raises(Closed):
        rig.balancer.pick()
    with pytest.raises(Closed):
        rig.balancer.pick(avoid=[lease.state])
    rig.set(pods(3))
    with pytest.raises(Closed):
        rig.balancer.pick()
    lease.release()
    assert lease.state.in_flight == 0


def test_usable_alone_with_its_defaults() -> None:
    """Real time, chance of its own, nobody listening."""
    balancer = Balancer()
    assert balancer.snapshot is None
    assert balancer.version is None
    balancer.update(Snapshot(7, (Endpoint("10.0.0.1", 80),)))
    assert balancer.snapshot is not None
    assert balancer.version == 7
    balancer.pick().release()
    assert repr(balancer).startswith("<Balancer balancer PeakEwma(")
