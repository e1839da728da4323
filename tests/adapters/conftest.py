"""What the tests of the adapters share: worlds, servers, load balancers, and the sum that must be zero."""

import gc
import random
from collections.abc import Callable, Iterator
from typing import Any

import kubernetes.config  # noqa: F401  # a watch imports it: for seconds on a busy machine, which its first caller waits
import pytest
from tests.adapters.raw import RawServer
from tests.adapters.world import NAMES, AioWorld, World
from tests.spelled import spelled

from kubelb import LoadBalancer
from kubelb.service import service_of
from kubelb.testing import LocalCluster, Service


def worlds(*kinds: str) -> list[Any]:
    """Parameters for fixtures of worlds; httpx2 has the same code, so the quick loop does without it."""
    twin = pytest.mark.slow
    ids = [f"{name}-{kind}" if kind else name for name in NAMES for kind in kinds]
    return [pytest.param(name, marks=twin if name.startswith("httpx2") else ()) for name in ids]


@pytest.fixture(params=worlds("sync", "async"))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    name, kind = request.param.split("-")
    world = World(name) if kind == "sync" else AioWorld(name)
    yield world
    world.end()


@pytest.fixture(params=worlds(""))
def sync_world(request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(request.param)
    yield world
    world.end()


@pytest.fixture(params=worlds(""))
def aio_world(request: pytest.FixtureRequest) -> Iterator[AioWorld]:
    world = AioWorld(request.param)
    yield world
    world.end()


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as cluster:
        yield cluster


@pytest.fixture
def service(cluster: LocalCluster) -> Iterator[Callable[..., Service]]:
    """Makes services that are deleted when the test ends."""
    made: list[Service] = []

    def make(replicas: int = 3, **options: Any) -> Service:
        made.append(cluster.service(f"svc{random.getrandbits(40)}.prod", replicas=replicas, **options))
        return made[-1]

    yield make
    for service in made:
        cluster.delete_service(service)


@pytest.fixture
def balance() -> Iterator[Callable[..., LoadBalancer]]:
    """Makes load balancers over backends or addresses; when the test ends nothing may be in flight on any."""
    made: list[LoadBalancer] = []

    def make(*backends: Any, **options: Any) -> LoadBalancer:
        addresses = [getattr(backend, "address", backend) for backend in backends]
        options.setdefault("rng", random.Random(7))
        made.append(LoadBalancer(f"static:///{','.join(addresses)}", **spelled(options)))
        return made[-1]

    yield make
    gc.collect()
    for lb in made:
        assert in_flight(lb) == 0, service_of(lb).balancer.states()
        lb.close()


@pytest.fixture
def raw() -> Iterator[Callable[..., RawServer]]:
    """Makes servers that do as a script says."""
    made: list[RawServer] = []

    def make(*scripts: Any, **options: Any) -> RawServer:
        made.append(RawServer(*scripts, **options))
        return made[-1]

    yield make
    for server in made:
        server.close()


def in_flight(lb: LoadBalancer) -> int:
    return sum(view.in_flight for view in lb.endpoints())


def state(lb: LoadBalancer, backend: Any) -> Any:
    """What the load balancer remembers about a backend."""
    address = getattr(backend, "address", backend)
    return next(state for state in service_of(lb).balancer.states() if state.endpoint.authority == address)
