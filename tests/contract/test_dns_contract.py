"""The nameserver of `LocalCluster` keeps the contract; tests/integration holds a real CoreDNS to the same suite."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("contract.dns_suite")

from kubelb.testing import LocalCluster  # noqa: E402

from .dns_suite import *  # noqa: E402, F403
from .dns_suite import DnsUnderTest, Json  # noqa: E402


class LocalDns(DnsUnderTest):
    """The nameserver of a LocalCluster."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster
        self._numbers = itertools.count()
        self.host, _, port = cluster.dns.address.partition(":")
        self.port = int(port)

    def namespace(self) -> str:
        return f"test-{next(self._numbers)}"

    def address(self, number: int) -> str:
        return f"127.9.{number // 250}.{number % 250 + 1}"

    def service(self, namespace: str, name: str, *, headless: bool) -> str:
        self._cluster.service(f"{name}.{namespace}", replicas=0, port=80, headless=headless)
        found = self._cluster._find_service(namespace, name)
        assert found is not None
        return str(found["spec"]["clusterIP"])

    def put(self, item: Json) -> object:
        return self._cluster.apply_slice(item)


@pytest.fixture
def names() -> Iterator[DnsUnderTest]:
    """A fresh one for each test."""
    with LocalCluster() as cluster:
        yield LocalDns(cluster)
