"""A pod that hangs takes each call and never answers: every client, every policy, and what is no fault of a pod."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.faults.asking import Allowed, Ask, How
from tests.faults.by_hand import Acall
from tests.faults.clients import AioClient, Client
from tests.faults.over_grpc import AioUnary, Unary
from tests.faults.over_http import AsyncHttpx, Httpx
from tests.faults.scene import ADAPTERS, CLIENTS, Scene
from tests.waiting import until

import kubelb

PATIENCE = 0.4
"""Seconds of a call; healthy pods need milliseconds."""
LONG = 20.0
"""Seconds of a call that has to be answered, on a busy machine too."""
POLICIES = "random", "least_request", "peak_ewma", "weighted_round_robin", "ring_hash"


def hung(scene: Scene, policy: str) -> Scene:
    """Begin with three pods that are well, then have one hang: of a ring that of the key which is asked for."""
    scene.begin(policy=policy, breaker=None, outliers=kubelb.OutlierDetection(base_ejection=60.0))
    ends = [asked(scene, policy, deadline=LONG) for _ in range(30)]
    assert {end.how for end in ends} == {How.ANSWERED}
    name = ends[-1].pod if policy == "ring_hash" else scene.pods[0].name
    next(pod for pod in scene.pods if pod.name == name).hang()
    return scene


def asked(scene: Scene, policy: str = "", **options: Any) -> Any:
    """Ask once; by a ring always with one key, so that nothing is known of the other pods."""
    with kubelb.hints(key="one") if policy == "ring_hash" else contextlib.nullcontext():
        return scene.client.ask(Ask(Allowed.NO, **options or {"deadline": PATIENCE}))


def late_until_ejected(scene: Scene, policy: str, **options: Any) -> int:
    """Ask until a pod is ejected; returns how many calls were late, and checks that no more are after that.

    A call of which the machine itself told too late says nothing, to the balancer as here.
    """
    late = 0
    for _ in range(120):
        end = asked(scene, policy, **options)
        assert end.how in {How.ANSWERED, How.LATE}
        late += end.how is How.LATE
        if ejected := any(view.state == "ejected" for view in scene.lb.endpoints()):
            break
        if policy == "peak_ewma":
            time.sleep(0.02)  # a slow pod has its next call when what it took has been forgotten a little
    ends = [asked(scene, policy, **({"deadline": LONG} if ejected else options)) for _ in range(20)]
    if ejected:
        assert {end.how for end in ends} == {How.ANSWERED}
    else:  # peak EWMA gives it a call now and then, so the fifth silence may be long in coming
        assert policy == "peak_ewma"
    late += sum(end.how is How.LATE for end in ends)
    return late - sum(state.others for state in scene.states)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CLIENTS, ids=lambda kind: kind.name)
def test_late_calls_end(stage: Callable[..., Scene], kind: type[Client]) -> None:
    """The kind: deadlines that end in silence, for ever. Right: within ten calls the pod is ejected, by any client."""
    scene = hung(stage(kind), "round_robin")
    assert 5 <= late_until_ejected(scene, "round_robin") <= 10


@pytest.mark.slow
@pytest.mark.parametrize("kind", ADAPTERS, ids=lambda kind: kind.name)
def test_late_calls_end_by_the_clients_own_timeout(stage: Callable[..., Scene], kind: type[Client]) -> None:
    """A read timeout, or the timeout of an RPC, as well as a deadline."""
    scene = hung(stage(kind), "round_robin")
    assert 5 <= late_until_ejected(scene, "round_robin", timeout=PATIENCE) <= 10


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Httpx, Unary], ids=lambda kind: kind.name)
@pytest.mark.parametrize("policy", POLICIES)
def test_late_calls_end_under_every_policy(stage: Callable[..., Scene], kind: type[Client], policy: str) -> None:
    """Also with a key: what the ring gave to the pod moves on."""
    scene = hung(stage(kind), policy)
    assert late_until_ejected(scene, policy) <= 10


@pytest.mark.slow
@pytest.mark.usefixtures("punctual")  # else they are not alike
@pytest.mark.parametrize("kind", ADAPTERS, ids=lambda kind: kind.name)
def test_all_are_slow_alike(stage: Callable[..., Scene], kind: type[Client]) -> None:
    """A service in which every deadline ends: nobody is ejected."""
    scene = stage(kind)
    scene.begin(policy="round_robin", breaker=None)
    for _ in range(15):
        assert asked(scene, deadline=LONG).how is How.ANSWERED
    for pod in scene.pods:
        pod.slow(5.0)
    for _ in range(18):
        assert asked(scene, deadline=0.1).how is How.LATE
    assert [state.ejections for state in scene.states] == [0, 0, 0]
    assert sum(scene.blamed()) > 0
    scene.let_go()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AioUnary, AsyncHttpx, Acall], ids=lambda kind: kind.name)
def test_a_blocked_event_loop_blames_nobody(stage: Callable[..., Scene], kind: type[AioClient]) -> None:
    """The deadline passed while our own loop stood still: whether an answer came in time, nobody can say."""
    scene = stage(kind)
    scene.begin(policy="round_robin", breaker=None)
    client: Any = scene.client
    for pod in scene.pods:
        pod.slow(0.6)

    async def blocked() -> None:
        calls = [asyncio.ensure_future(client.begin_answer(Ask(Allowed.NO, timeout=0.2))) for _ in range(6)]
        await asyncio.sleep(0.1)
        time.sleep(1.0)  # noqa: ASYNC251
        await asyncio.gather(*calls, return_exceptions=True)

    with kubelb.hints(deadline=0.2):
        client.run(blocked())
    assert scene.blamed() == (0, 0, 0)
    assert until(scene.nothing_in_flight)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AioUnary, AsyncHttpx, Acall], ids=lambda kind: kind.name)
def test_a_callers_own_timeout_blames_nobody_and_is_time_spent(
    stage: Callable[..., Scene], kind: type[AioClient]
) -> None:
    """`asyncio.timeout` and `wait_for` cancel: neutral, and a lower bound of latency, by which others are preferred."""
    scene = stage(kind)
    scene.begin(breaker=None)
    assert scene.client.ask(Ask(Allowed.NO)).how is How.ANSWERED
    scene.pods[0].hang()
    client: Any = scene.client
    for _ in range(6):
        with pytest.raises(TimeoutError):
            client.run(asyncio.wait_for(client.begin_answer(Ask(Allowed.NO)), 0.3))
    assert scene.blamed() == (0, 0, 0)
    latency = {view.address: view.latency for view in scene.lb.endpoints()}
    assert (latency[scene.pods[0].address] or 0.0) > 0.2
