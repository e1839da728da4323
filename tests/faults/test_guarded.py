"""Limits and breakers, with every client: a refusal is the client's own error and kubelb's, and no pod hears of it.

And services in trouble with every mechanism acting, or every one observing.
"""

from collections.abc import Callable
from typing import Any

import pytest
from tests.faults.asking import Allowed, Ask, How
from tests.faults.clients import Client
from tests.faults.over_grpc import RPC, STREAM
from tests.faults.playing import crowd, hole
from tests.faults.scene import ADAPTERS, CLIENTS, Scene
from tests.waiting import until

import kubelb
from kubelb.service import service_of

each_client = pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, id=kind.name, marks=() if kind in ADAPTERS else pytest.mark.slow) for kind in CLIENTS],
)
each_adapter = pytest.mark.parametrize("kind", ADAPTERS, ids=lambda kind: kind.name)
Stage = Callable[..., Scene]


@each_client
def test_a_call_too_many_is_overloaded(stage: Stage, kind: type[Client]) -> None:
    """While one is under way the next is refused, whatever could be repeated; then there is room again."""
    scene = stage(kind)
    scene.begin(limits=kubelb.ConcurrencyLimits(max_requests=1))
    scene.hold_answer()
    going = scene.under_way(Ask(Allowed.NO))
    for allowed in Allowed:
        ask = Ask(allowed)
        end = scene.client.ask(ask)
        assert (end.how, end.refusal) == (How.UNREACHABLE, kubelb.Overloaded)
        assert scene.delivered(ask) == (0, 0, 0)
    scene.let_go()
    assert going.end().how is How.ANSWERED
    assert scene.at_rest()
    scene.usable()


@each_client
def test_where_every_endpoint_is_full_it_is_unusable(stage: Stage, kind: type[Client]) -> None:
    """A second call goes to the next pod although the policy likes the first; with one pod there is no next one."""
    scene = stage(kind)
    scene.begin(limits=kubelb.ConcurrencyLimits(max_requests_per_endpoint=1))
    scene.hold_answer()
    going = scene.under_way(Ask(Allowed.NO))
    assert scene.client.ask(Ask(Allowed.NO)).pod == scene.pods[1].name
    scene.publish(scene.pods[:1])
    end = scene.client.ask(Ask(Allowed.NO))
    assert (end.how, end.refusal) == (How.UNREACHABLE, kubelb.Unusable)
    scene.let_go()
    assert going.end().how is How.ANSWERED
    assert scene.at_rest()


@each_client
def test_an_open_circuit_refuses_before_anything_is_sent(stage: Stage, kind: type[Client]) -> None:
    """Twenty failures open the service's; from then on no pod hears of a call until its trials."""
    scene = stage(kind)
    scene.begin(breaker=kubelb.CircuitBreaker(open_for=60.0), outliers=None)
    for pod in scene.pods:
        pod.fail()
    while scene.lb.health().circuit == "closed":
        assert scene.client.ask(Ask(Allowed.NO)).how is How.TOLD
        assert scene.pods[0].requests <= 20
    assert scene.lb.health().circuit == "open"
    ask = Ask(Allowed.YES)
    end = scene.client.ask(ask)
    assert (end.how, end.refusal) == (How.UNREACHABLE, kubelb.Unusable)
    assert scene.delivered(ask) == (0, 0, 0)
    assert "circuit is open" in scene.lb.endpoints()[0].reasons[0]
    assert scene.at_rest()


@pytest.mark.parametrize("kind", [kind for kind in CLIENTS if kind.family in {RPC, STREAM}], ids=lambda kind: kind.name)
def test_waiting_for_a_connection_is_limited(stage: Stage, kind: type[Client]) -> None:
    """While one call waits for a pod that does not answer, the next is refused; when its time is over there is room."""
    scene = stage(kind, replicas=1)
    with hole() as scene.first:
        scene.begin(connected=0, limits=kubelb.ConcurrencyLimits(max_pending=1))
        limiter = service_of(scene.lb).balancer.limiter
        assert limiter is not None
        going = scene.client.begin(Ask(Allowed.NO, deadline=0.5))
        assert until(lambda: len(limiter.pending) == 1, 10.0)
        end = scene.client.ask(Ask(Allowed.NO))
        assert (end.how, end.refusal) == (How.UNREACHABLE, kubelb.Overloaded)
        assert going.end().how is How.LATE
        assert until(lambda: not limiter.pending, 10.0)


# Services in trouble

ACTING: dict[str, Any] = {
    "limits": kubelb.ConcurrencyLimits(max_requests_per_endpoint=100, max_retries=50),
    "breaker": kubelb.CircuitBreaker(),
    "outliers": kubelb.OutlierDetection(),
}
OBSERVING: dict[str, Any] = {
    "limits": kubelb.ConcurrencyLimits(1, 1, max_pending=0, max_retries=0, observe=True),
    "breaker": kubelb.CircuitBreaker(observe=True),
    "outliers": kubelb.OutlierDetection(observe=True),
}
modes = pytest.mark.parametrize("mode", [ACTING, OBSERVING], ids=["acting", "observing"])


@pytest.mark.slow
@modes
@pytest.mark.parametrize("trouble", ["slow", "failing fast"])
@each_adapter
def test_one_pod_in_trouble_of_five(stage: Stage, kind: type[Client], trouble: str, mode: dict[str, Any]) -> None:
    """No caller sees an error; a slow pod gets less than half of its share, a failing one no more than that."""
    scene = stage(kind, replicas=5)
    for pod in scene.pods[1:]:
        pod.slow(0.02)
    if trouble == "slow":
        scene.pods[0].slow(0.2)
    else:
        scene.pods[0].fail()
    scene.begin(**mode, policy="peak_ewma")
    ends = crowd(scene.client, 200)
    assert [end for end in ends if end.how is not How.ANSWERED] == []
    attempts = sum(pod.requests for pod in scene.pods)
    assert scene.pods[0].requests <= (attempts / 10 if trouble == "slow" else attempts / 5)
    assert scene.blamed()[1:] == (0, 0, 0, 0)
    if mode is OBSERVING:
        assert {view.state for view in scene.lb.endpoints()} == {"ready"}
    assert until(scene.nothing_in_flight, 10.0)


@pytest.mark.slow
@modes
@each_adapter
def test_one_of_four_that_fails_every_other_time(stage: Stage, kind: type[Client], mode: dict[str, Any]) -> None:
    """Never five in a row: its share gives it away. Nobody sees an error, whether it is ejected or only reported."""
    scene = stage(kind, replicas=4)
    scene.begin(**mode, policy="round_robin")
    bad = scene.pods[0]
    for turn in range(160):
        if turn % 4 == 0:
            bad.heal()
            if turn % 8 == 0:
                bad.fail()
        assert scene.client.ask(Ask(Allowed.YES)).how is How.ANSWERED
    (seen, *others) = scene.lb.endpoints()
    if mode is ACTING:
        assert seen.state in {"ejected", "open"}
        assert scene.pods[0].requests < 40
    else:
        assert seen.state == "ready"
        assert any("observed: " in reason for reason in seen.reasons)
    assert {view.state for view in others} == {"ready"}


@pytest.mark.slow
@modes
@each_adapter
def test_a_bad_deploy_ejects_nobody(stage: Stage, kind: type[Client], mode: dict[str, Any]) -> None:
    """All fail alike: every pod keeps its traffic as far as ejection goes; a breaker that acts spares them the rest."""
    scene = stage(kind, replicas=4)
    for pod in scene.pods:
        pod.fail()
    scene.begin(**mode, policy="round_robin")
    ends = crowd(scene.client, 200)
    assert {end.how for end in ends} <= {How.TOLD, How.UNREACHABLE}
    assert {view.ejection for view in scene.lb.endpoints()} == {None}
    asked = sum(pod.requests for pod in scene.pods)
    if mode is ACTING:
        assert scene.lb.health().circuit == "open"
        assert asked < 50
    else:
        assert asked >= 200
        assert any("circuit would be open" in reason for reason in scene.lb.endpoints()[0].reasons)
    assert until(scene.nothing_in_flight, 10.0)
