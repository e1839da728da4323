"""An SDK and pods for every test."""

from collections.abc import Iterator

import pytest

from kubelb.testing import LocalCluster, Service
from telemetry.kit import Sdk


@pytest.fixture
def sdk() -> Sdk:
    return Sdk()


@pytest.fixture(scope="package")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as cluster:
        yield cluster


@pytest.fixture(scope="package")
def _pods(cluster: LocalCluster) -> Service:
    return cluster.service("reviews.prod", replicas=3)


@pytest.fixture(scope="package")
def _rpc_pods(cluster: LocalCluster) -> Service:
    return cluster.service("rpc.prod:grpc", replicas=3, grpc=True)


@pytest.fixture
def pods(_pods: Service) -> Service:
    return _as_new(_pods)


@pytest.fixture
def rpc_pods(_rpc_pods: Service) -> Service:
    return _as_new(_rpc_pods)


def _as_new(service: Service) -> Service:
    for pod in service:
        pod.heal()
        pod.clear()
    return service
