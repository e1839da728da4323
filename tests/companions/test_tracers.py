"""Tracers that patch the clients, each in a process of its own: one span a request, of the Service and not of a pod."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("tracer", ["sentry", "elastic", "datadog"])
@pytest.mark.slow
@pytest.mark.timeout(180)  # three seconds of work each, which a busy machine takes its time for
def test_a_tracer(tracer: str) -> None:
    """Each try carries the trace to its pod, and kubelb's own requests to the API server belong to no trace."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.companions.tracers", tracer],
        cwd=ROOT,
        # They import eventlet to ask whether it is at work, and its import fails where trio is installed beside.
        env={**os.environ, "EVENTLET_NO_GREENDNS": "yes"},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    for client in told["traces"]:
        for name, tries in ((client, 1), (f"{client}, failing", 3)):
            seen = told["seen"][name]
            ((span, url),) = seen["spans"]
            assert "reviews.prod" in span, name
            assert url == "http://reviews.prod/ratings/7", name
            assert len(seen["sent"]) == tries, name
            assert all(seen["sent"]), name
