"""ProbePicker: one request for each endpoint that is due, and only while it is."""

from kubelb.core import Phase
from kubelb.core.health.probe import ProbePicker
from kubelb.core.policies.random import RandomPicker
from kubelb.model import ANY

from .kit import Rig


def test_each_due_state_once_then_the_picker_inside() -> None:
    """Two due states are handed out once each; one that can no longer be claimed is passed over."""
    rig = Rig(4)
    states = rig.balancer.states()
    gone = states[1]
    inner = RandomPicker(states[3:], rig.balancer.rng)
    picker = ProbePicker(inner, states[:3], lambda state: state is not gone)
    assert [picker.pick(ANY, 0.0) for _ in range(5)] == [states[2], states[0], states[3], states[3], states[3]]


def test_two_due_endpoints_get_one_request_each() -> None:
    """Of 100 picks that do not end, exactly two are probes."""
    rig = Rig(6)
    rig.eject(0)
    rig.eject(1)
    rig.clock.advance(13)
    held = [rig.balancer.pick() for _ in range(100)]
    assert sorted(lease.endpoint.ip for lease in held[:2]) == ["10.0.0.0", "10.0.0.1"]
    assert all(lease.endpoint.ip not in ("10.0.0.0", "10.0.0.1") for lease in held[2:])


def test_an_endpoint_that_came_back_is_not_claimed_by_an_old_picker() -> None:
    """A thread that still has the picker of a moment ago does not make a probe of an active endpoint."""
    rig = Rig(3)
    rig.eject(0)
    rig.clock.advance(13)
    rig.balancer._sweep(rig.clock())
    old = rig.picker
    assert isinstance(old, ProbePicker)
    rig.balancer.pick().release()  # the probe, and it is good
    again = ProbePicker(old._inner, [rig.state(0)], rig.balancer._claim)
    assert again.pick(ANY, rig.clock()).endpoint.ip != "10.0.0.0"
    assert rig.state(0).phase is Phase.ACTIVE


def test_a_retry_is_never_a_probe() -> None:
    """A request that has failed once is not sent to an endpoint that is only being tried."""
    rig = Rig(4)
    rig.eject(0)
    rig.clock.advance(13)
    tried = [rig.state(1)]
    assert rig.balancer.pick(avoid=tried).endpoint.ip in ("10.0.0.2", "10.0.0.3")


def test_a_closed_balancer_hands_out_no_probe() -> None:
    """Closing ends probing too."""
    rig = Rig(3)
    rig.eject(0)
    rig.clock.advance(13)
    assert rig.balancer.pick().endpoint.ip == "10.0.0.0"
    rig.clock.advance(2)
    rig.balancer.close()
    error = rig.balancer.refusal()
    assert error is not None
    try:
        rig.balancer.pick()
    except type(error) as raised:
        assert str(raised) == str(error)
    else:
        raise AssertionError("picked after close")
