"""The API of `LocalCluster` keeps the contract; tests/integration holds a real API server to the same suite."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator

import pytest

pytest.register_assert_rewrite("contract.adapter", "contract.suite")

from kubelb.testing import LocalCluster  # noqa: E402

from .adapter import ApiUnderTest, Json  # noqa: E402
from .suite import *  # noqa: E402, F403


class LocalApi(ApiUnderTest):
    """The API of a LocalCluster."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster
        self._numbers = itertools.count()
        self.url = cluster.url
        self.token = cluster.token

    def namespace(self) -> str:
        return f"test-{next(self._numbers)}"

    def address(self, number: int) -> str:
        return f"127.9.{number // 250}.{number % 250 + 1}"

    def put(self, item: Json) -> Json:
        return self._cluster.apply_slice(item)

    def delete(self, namespace: str, name: str) -> None:
        self._cluster.delete_slice(namespace, name)

    def service(self, namespace: str, name: str) -> None:
        self._cluster.service(f"{name}.{namespace}", replicas=0)

    def expire(self) -> None:
        self._cluster.api.expire()

    def without_watch_list(self) -> None:
        self._cluster.api.watch_list = False

    def limited_token(self, namespaces: Collection[str], verbs: Collection[str]) -> tuple[str, str]:
        user = "system:serviceaccount:default:limited"
        return self._cluster.api.add_token(user, namespaces=namespaces, verbs=verbs), user


@pytest.fixture
def api() -> Iterator[ApiUnderTest]:
    """A fresh one for each test."""
    with LocalCluster() as cluster:
        local = LocalApi(cluster)
        local.connect()
        yield local
        local.disconnect()
