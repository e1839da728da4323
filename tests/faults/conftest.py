"""One cluster for the folder, a scene for each test; and a pod of HTTP/2 with a sync transport to it."""

import random
from collections.abc import Callable, Iterator

import pytest
from tests.faults.clients import Client
from tests.faults.http2_pod import Pod
from tests.faults.scene import Scene

import kubelb
from kubelb.adapters.httpx import Transport
from kubelb.core.health import silence
from kubelb.testing import LocalCluster


@pytest.fixture(scope="package")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as cluster:
        yield cluster


@pytest.fixture
def stage(cluster: LocalCluster) -> Iterator[Callable[..., Scene]]:
    """Sets scenes, which are cleared away when the test ends."""
    made: list[Scene] = []

    def make(kind: type[Client], replicas: int = 3) -> Scene:
        made.append(Scene(cluster, kind, f"shop{random.getrandbits(40)}.prod", replicas))
        return made[-1]

    yield make
    for scene in made:
        scene.end()


@pytest.fixture
def punctual(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline that this process notices late is a silence of the pod all the same.

    To the load balancer it is the process's own stall, and nothing that a pod is charged with (`test_hung.py` and
    tests/core have that); on a busy machine any deadline may be noticed late.
    """
    monkeypatch.setattr(silence, "LATE", (60.0, 0.0))


@pytest.fixture
def pod() -> Iterator[Pod]:
    made = Pod(name="pod")
    yield made
    made.close()


@pytest.fixture
def balancer(pod: Pod) -> Iterator[kubelb.LoadBalancer]:
    with kubelb.LoadBalancer(f"static:///{pod.address}") as made:
        yield made


@pytest.fixture
def transport(balancer: kubelb.LoadBalancer) -> Iterator[Transport]:
    made = Transport(balancer, http1=False, http2=True)
    yield made
    made.close()
