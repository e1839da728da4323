"""A process that forks after it has used its load balancer: parent and children each go on by themselves."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from .backends import Backends
from .cluster import Cluster
from .controlplane import ControlPlane
from .fleet import Fleet

PROGRAM = Path(__file__).with_name("prefork_program.py")
# The one warning that is right: Python's own, from 3.12 on, about forking while threads run.
WARNINGS = ["-X", "dev", "-W", "error", "-W", "ignore:This process:DeprecationWarning"]
CHILDREN = 3


def test_workers_forked_after_use_find_new_pods_by_themselves(
    control_plane: ControlPlane,
    cluster: Cluster,
    backends: Backends,
    ns: str,
    tmp_path: Path,
    figure: Callable[[str], None],
) -> None:
    """Three children of a parent with connections and a watch: each sees the scale-up, no request fails, all exit 0."""
    fleet = Fleet(cluster, backends, ns)
    fleet.up(3)
    fleet.wait_listed()
    kubeconfig = control_plane.kubeconfig(tmp_path / "prefork")
    command = [sys.executable, *WARNINGS, str(PROGRAM), fleet.target, str(kubeconfig), "web-4"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as parent:
        limit = threading.Timer(150.0, parent.kill)
        limit.start()
        try:
            assert parent.stdout is not None
            assert parent.stdout.readline() == "forked\n", parent.communicate()
            fleet.up(1)
            said, complaints = parent.communicate()
        finally:
            limit.cancel()
            parent.kill()
    result, _, overlap = said.rpartition(" ")
    assert (result, complaints, parent.returncode) == (f"0 {[0] * CHILDREN}", "", 0), said
    figure(f"{CHILDREN + 1} processes at the same time for {float(overlap):.1f} s")
    assert float(overlap) > 0.0
    served = [path for server in fleet.ever for path, count in server.counts.items() for _ in range(count)]
    by_process = [served.count(path) for path in set(served) - {"/before", "/after"}]
    assert len(by_process) == CHILDREN + 1
    assert min(by_process) >= 200
