"""Probes: one request for each endpoint that is due, only while it is, and only one that can be sent there."""

from collections import deque

import pytest

from kubelb.core import EndpointState, Phase
from kubelb.core.health.breaker import CircuitBreaker
from kubelb.core.picking.picking import Picking
from kubelb.core.policies.random import RandomPicker
from kubelb.core.refusal import Unconnected
from kubelb.errors import Unusable
from kubelb.model import ANY

from .kit import Rig


def test_each_due_state_once_then_the_picker_inside() -> None:
    """Two due states are handed out once each; one that can no longer be claimed is passed over."""
    rig = Rig(4)
    states = rig.balancer.states()
    gone = states[1]
    inner = RandomPicker(states[3:], rig.balancer.rng)
    picking = Picking("s", inner, rig.balancer.rng, due=states[:3], claim=lambda state, _: state is not gone)
    assert [picking.first(ANY, 0.0, None) for _ in range(5)] == [states[0], states[2], states[3], states[3], states[3]]
    assert picking.front.pick(ANY, 0.0) is states[3]  # it asks for nothing more


def test_two_threads_that_reach_for_the_last_one() -> None:
    """One gets it, and the other what the policy picks."""

    class Raced(deque[EndpointState]):
        def popleft(self) -> EndpointState:
            raise IndexError

    rig = Rig(2)
    states = rig.balancer.states()
    picking = Picking("s", RandomPicker(states[1:], rig.balancer.rng), rig.balancer.rng, due=states[:1])
    picking.due = Raced(picking.due)
    assert picking.first(ANY, 0.0, None) is states[1]


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
    old = rig.picking
    assert list(old.due) == [rig.state(0)]
    assert old.front.pick(ANY, rig.clock()) is None
    rig.balancer.pick().release()  # the probe, and it is good
    old.due.append(rig.state(0))
    assert old.first(ANY, rig.clock(), None).endpoint.ip != "10.0.0.0"
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


def test_a_probe_is_made_only_by_a_request_that_can_be_sent_there() -> None:
    """gRPC's calls without a connection to it have spent the claim, and then the place was lost for a second."""
    rig = Rig(3)
    rig.eject(0)
    rig.clock.advance(13)
    for _ in range(100):
        assert rig.balancer.pick(usable=lambda state: state is not rig.state(0)).state is not rig.state(0)
    assert rig.state(0).phase is Phase.DUE
    assert rig.balancer.pick(usable=lambda state: True).state is rig.state(0)
    assert rig.state(0).phase is Phase.PROBING


def test_a_trial_of_the_service_is_spent_only_by_a_request_that_can_be_sent() -> None:
    """Ten calls without any connection used up the trials, and the eleventh, which had one, was refused."""
    rig = Rig(3, breaker=CircuitBreaker(minimum_calls=10, window=10, per_endpoint=False, trials=2), outliers=None)
    for number in range(10):
        rig.fail(number % 3)
    assert rig.balancer.circuit == "open"
    rig.clock.advance(60)
    for _ in range(10):
        with pytest.raises(Unusable, match="no connection"):
            rig.balancer.pick(usable=lambda state: False)
    held = [rig.balancer.pick(usable=lambda state: True) for _ in range(2)]
    with pytest.raises(Unusable, match="trials are under way"):
        rig.balancer.pick()
    assert len(held) == 2


@pytest.mark.parametrize("trials", [1, 3])
def test_where_all_are_due_a_caller_without_connection_is_told_so(trials: int) -> None:
    """Kind: a refusal that names another reason. A call that waits for its connection failed, though that was being
    made: where all circuits were half-open it was told of trials under way, and there were none."""
    breaker = CircuitBreaker(minimum_calls=5, window=5, per_service=False, trials=trials)
    rig = Rig(2, breaker=breaker, outliers=None)
    for number in range(2):
        rig.fail(number, 5)
    with pytest.raises(Unusable, match="the next trial is in"):
        rig.balancer.pick(usable=lambda state: False)
    rig.clock.advance(60)
    for _ in range(5):
        with pytest.raises(Unconnected, match="no connection to any of 2 endpoints"):
            rig.balancer.pick(usable=lambda state: False)
    held = [rig.balancer.pick(usable=lambda state: True) for _ in range(2 * trials)]
    with pytest.raises(Unusable, match="trials are under way") as refused:
        rig.balancer.pick(usable=lambda state: False)
    assert type(refused.value) is Unusable
    assert len(held) == 2 * trials


def test_what_becomes_usable_between_two_questions_stays_due() -> None:
    """Kind: a question that is asked twice. Refused at first and usable a moment later, it was neither claimed nor put
    back, and none probed it for a second."""
    rig = Rig(3)
    rig.eject(0)
    rig.clock.advance(13)
    asked = 0

    def usable(state: EndpointState) -> bool:
        nonlocal asked
        asked += state is rig.state(0)
        return state is not rig.state(0) or asked > 1

    assert rig.balancer.pick(usable=usable).state is not rig.state(0)
    assert list(rig.picking.due) == [rig.state(0)]
    assert rig.balancer.pick(usable=usable).state is rig.state(0)


def test_many_that_are_due_and_cannot_be_used_cost_a_few_looks() -> None:
    """Each request looks at some of them, in turn, so that every one is looked at."""
    rig = Rig(200)
    for number in range(100):
        rig.eject(number)
    rig.clock.advance(13)
    looked: list[EndpointState] = []

    def usable(state: EndpointState) -> bool:
        if state.phase is Phase.DUE:
            looked.append(state)
        return state.phase is Phase.ACTIVE

    rig.balancer.pick(usable=usable)
    due = len(rig.picking.due)
    assert due > 50
    looked.clear()
    for turn in range(1, 14):
        rig.balancer.pick(usable=usable)
        assert len(looked) <= 2 * 8 * turn
    assert len(set(looked)) == due
