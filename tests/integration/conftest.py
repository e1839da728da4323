"""Fixtures: one control plane for the whole run, and for each test a healthy one and a namespace of its own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from . import netns
from .access import Access
from .backends import Backends
from .balancers import Balancers
from .binaries import MissingBinariesError, find_binaries
from .cluster import Cluster
from .controlplane import ControlPlane
from .proxy import Proxy

HERE = Path(__file__).parent
_numbers = itertools.count(1)
_figures: list[str] = []


TIMEOUT = 180.0  # a busy machine may need a minute to start the control plane anew, which is part of a test's time


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test in this folder is an integration test with time enough, without having to say so."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.integration)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(TIMEOUT))


def give_up(reason: str) -> NoReturn:
    """Skip, and say why. In CI a skip is a failure: nobody reads the reasons of a green run."""
    if os.environ.get("CI", "").lower() not in {"", "0", "false"}:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def pod_network() -> None:
    """The right to bind pod addresses."""
    if not netns.inside():
        give_up("no pod network here; run `python -m tests.integration.netns -- python -m pytest tests/integration`")


@pytest.fixture(scope="session")
def running_control_plane(pod_network: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """The one of this run, in whatever state the last test left it; tests ask for `control_plane`."""
    try:
        binaries = find_binaries()
    except MissingBinariesError as error:
        give_up(str(error))
    with ControlPlane(binaries, tmp_path_factory.mktemp("control-plane")) as plane:
        yield plane


@pytest.fixture
def control_plane(running_control_plane: ControlPlane) -> ControlPlane:
    """The control plane, in good health, whatever the test before did to it."""
    running_control_plane.heal()
    return running_control_plane


@pytest.fixture
def cluster(control_plane: ControlPlane) -> Cluster:
    """The admin's hands in it; the controllers work."""
    control_plane.wait_controllers()
    return control_plane.cluster


@pytest.fixture
def access(control_plane: ControlPlane) -> Access:
    """Service accounts, roles and tokens in it."""
    return control_plane.access


@pytest.fixture
def ns(cluster: Cluster) -> str:
    """A namespace of the test's own, with nodes `node-a` in zone `zone-a` and `node-b` in `zone-b` beside it."""
    cluster.node("node-a", "zone-a")
    cluster.node("node-b", "zone-b")
    return cluster.namespace(f"test-{next(_numbers)}")


@pytest.fixture
def backends(pod_network: None, tmp_path: Path) -> Iterator[Backends]:
    """HTTP servers on pod addresses: `backends("web-0", "10.244.0.7")`. They end with the test."""
    with Backends(tmp_path) as started:
        yield started


@pytest.fixture
def balancers(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Balancers]:
    """Load balancers of kubelb: `balancers("web.NS:http")`. They end with the test, in time and without a trace."""
    with Balancers(control_plane.kubeconfig(tmp_path / "kubeconfig")) as made:
        yield made


@pytest.fixture
def proxy(control_plane: ControlPlane) -> Iterator[Proxy]:
    """A proxy in front of the API server, without a fault so far."""
    with Proxy(control_plane.url, control_plane.certificate, control_plane.ca_file) as started:
        yield started


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Show a measured figure at the end of the run: `figure("p50 12 ms")`."""
    return lambda text: _figures.append(f"{request.node.name}: {text}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _figures:
        terminalreporter.section("figures")
        for line in _figures:
            terminalreporter.write_line(line)
