"""A whole service in trouble, under load, through every adapter: what callers see, and what the pods are asked for."""

import threading
import time
from collections.abc import Callable

import pytest
from tests.faults.asking import Allowed, Ask, End, How
from tests.faults.clients import Client
from tests.faults.playing import crowd
from tests.faults.scene import ADAPTERS, Scene

import kubelb
from kubelb.adapters._grpc.shared.options import sub_options

pytestmark = pytest.mark.slow
each_adapter = pytest.mark.parametrize("kind", ADAPTERS, ids=lambda kind: kind.name)
Stage = Callable[..., Scene]
DEFAULTS = {"policy": "peak_ewma", "retry": kubelb.Retry()}


def unanswered(ends: list[End]) -> list[End]:
    return [end for end in ends if end.how is not How.ANSWERED]


@each_adapter
def test_one_dead_pod_of_three(stage: Stage, kind: type[Client]) -> None:
    """1000 calls see no error, and fewer than ten attempts are wasted on the dead one."""
    scene = stage(kind)
    scene.begin(**DEFAULTS)
    scene.pods[0].kill()
    ends = crowd(scene.client, 1000)
    assert (len(ends), unanswered(ends)) == (1000, [])
    assert scene.blamed()[0] < 10
    assert scene.blamed()[1:] == (0, 0)


@each_adapter
def test_one_slow_pod_of_five(stage: Stage, kind: type[Client]) -> None:
    """Ten times as slow as the others, it gets less than half of its share by peak EWMA.

    The others take their time, too, so that a hiccup of the machine does not make one of them look as slow.
    """
    scene = stage(kind, replicas=5)
    for pod in scene.pods:
        pod.slow(0.02)
    scene.pods[0].slow(0.2)
    scene.begin(**DEFAULTS)
    ends = crowd(scene.client, 200)
    assert unanswered(ends) == []
    assert 1 <= scene.pods[0].requests < 20
    assert sum(pod.requests for pod in scene.pods) == 200


@each_adapter
def test_one_of_five_fails_fast(stage: Stage, kind: type[Client]) -> None:
    """An error in a millisecond looks quick; failures are charged, so it never gets more than its fair share."""
    scene = stage(kind, replicas=5)
    for pod in scene.pods[1:]:
        pod.slow(0.01)
    scene.pods[0].fail()
    scene.begin(**DEFAULTS)
    ends = crowd(scene.client, 200)
    assert unanswered(ends) == []
    attempts = sum(pod.requests for pod in scene.pods)
    assert scene.pods[0].requests <= attempts / 5
    assert sum(scene.blamed()[1:]) == 0


@each_adapter
def test_one_of_five_that_fails_fast_is_ejected(stage: Stage, kind: type[Client]) -> None:
    """A policy that looks at nothing gives it its turns, until five in a row were failures; then it gets none."""
    scene = stage(kind, replicas=5)
    scene.pods[0].fail()
    scene.begin(policy="round_robin")
    ends = crowd(scene.client, 200)
    assert unanswered(ends) == []
    assert [view.state for view in scene.lb.endpoints()] == ["ejected", "ready", "ready", "ready", "ready"]
    assert 5 <= scene.pods[0].requests <= 5 + 3  # and what was under way in the other threads


@each_adapter
def test_everything_down_and_back(stage: Stage, kind: type[Client]) -> None:
    """While nobody is there, no more than 1.2 attempts a request and 10 a second are made; then all is well at once."""
    scene = stage(kind)
    scene.begin(**DEFAULTS, breaker=None)  # which would keep them away for ten seconds, whoever is back
    began, requests = time.monotonic(), 100  # the budget's share is counted over ten seconds, so these count, too
    assert unanswered(crowd(scene.client, requests)) == []
    for pod in scene.pods:
        pod.kill()
    down = time.monotonic()
    while time.monotonic() - down < 2.0:
        ends = crowd(scene.client, 40)
        assert not [end for end in ends if end.how is How.ANSWERED]
        requests += len(ends)
    seconds = time.monotonic() - began
    attempts = sum(view.picks for view in scene.lb.endpoints())
    assert attempts <= 1.2 * requests + 10 * (seconds + 1)
    for pod in scene.pods:
        pod.heal()
    back, well, served = time.monotonic(), False, set()
    while not well:
        ends = crowd(scene.client, 40)
        served |= {end.pod for end in ends}
        well = not unanswered(ends) and served >= {pod.name for pod in scene.pods}
        assert time.monotonic() - back < 5.0, (ends, served)
    assert unanswered(crowd(scene.client, 100)) == []


def test_grpc_looks_for_pods_often_enough() -> None:
    """After a long outage its pauses are the longest there are, and it spreads them by a fifth: still within 5 s."""
    pause = dict(sub_options(None, None))["grpc.max_reconnect_backoff_ms"] / 1000
    assert pause * 1.2 < 5.0


@each_adapter
def test_a_rolling_restart_of_ten(stage: Stage, kind: type[Client]) -> None:
    """Every pod replaced under load: not an error for a request that may be repeated, and the new pods get them."""
    scene = stage(kind, replicas=10)
    scene.discover()
    ends: list[End] = []
    over = threading.Event()

    def load() -> None:
        while not over.wait(0.002):
            ends.append(scene.client.ask(Ask(Allowed.YES)))

    workers = [threading.Thread(target=load) for _ in range(4)]
    for worker in workers:
        worker.start()
    try:
        scene.service.rolling_restart(max_unavailable=2, grace=0.3)
    finally:
        over.set()
        for worker in workers:
            worker.join()
    assert unanswered(ends) == []
    assert len(ends) > 100
    served = {pod.name for pod in scene.service}
    assert not served & {pod.name for pod in scene.pods}
    assert {end.pod for end in crowd(scene.client, 200)} <= served
