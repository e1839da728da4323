"""A cluster and a client without retries for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import urllib3

from kubelb.testing import LocalCluster


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster() as running:
        yield running


@pytest.fixture
def http() -> Iterator[urllib3.PoolManager]:
    pool = urllib3.PoolManager(retries=False, timeout=5.0, maxsize=4)
    yield pool
    pool.clear()
