"""A process without file descriptors blames no endpoint for it, whatever carries its requests.

The kind of fault: our own lack taken for theirs. Endpoints that needed a new connection were ejected, half of the set.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kubelb.testing import LocalCluster


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
def test_no_endpoint_is_blamed() -> None:
    """Those with a connection go on, the others fail with words that name the cure; then all are as before."""
    with LocalCluster() as cluster:
        pods = cluster.service("web.prod", replicas=4)
        program = Path(__file__).with_name("no_descriptors.py")
        command = [sys.executable, str(program), *(pod.address for pod in pods)]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    assert len(seen) == 5
    for way, (ends, notes, states, after) in seen.items():
        assert ends.pop("answered") == 20, way
        assert sum(ends.values()) == 20
        assert any("no file descriptor left: raise its limit of open files" in note for note in notes), way
        assert states == ["ready"] * 4
        assert after == {"answered": 12}
