"""The pytest fixtures `kubelb_cluster`, a fresh `LocalCluster` for each test, and `kubelb_disabled`, for mocks.

    def test_survives_a_dead_pod(kubelb_cluster):
        svc = kubelb_cluster.service("reviews.prod", replicas=3)
        svc[0].kill()

    @pytest.mark.kubelb_cluster(tls=True, lag=0.0)   # the arguments of LocalCluster
    def test_over_tls(kubelb_cluster): ...

    def test_with_mocks(kubelb_disabled, respx_mock): ...

pytest loads this module in every project that has kubelb installed, so it imports nothing of kubelb until then.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kubelb.testing.cluster import LocalCluster


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, for `--strict-markers`."""
    config.addinivalue_line("markers", "kubelb_cluster(**options): arguments of LocalCluster for `kubelb_cluster`")


@pytest.fixture
def kubelb_cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """A running LocalCluster, closed when the test ends."""
    from kubelb.testing.cluster import LocalCluster  # nothing heavy at pytest's start

    marker = request.node.get_closest_marker("kubelb_cluster")
    with LocalCluster(**(marker.kwargs if marker is not None else {})) as cluster:
        yield cluster


@pytest.fixture
def kubelb_disabled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Requests go the client's own way, past kubelb, to where a mock waits for them: see `kubelb.testing.mocked`.

    It holds for the test, and in other threads for what is made in it. An event loop of another fixture's is one of
    those.
    """
    from kubelb.testing.mocking import mocked

    monkeypatch.setenv("KUBELB_DISABLE", "1")
    with mocked():
        yield
