"""One cluster for the folder, a scene for each test."""

import random
from collections.abc import Callable, Iterator

import pytest
from tests.faults.clients import Client
from tests.faults.scene import Scene

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
