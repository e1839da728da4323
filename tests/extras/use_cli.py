"""`kubelb[cli]`: the commands, but for the demo, which needs httpx and says so."""

import subprocess
import sys

import using

from kubelb.testing import LocalCluster


def kubelb(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "kubelb", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


with LocalCluster() as cluster:
    cluster.service("reviews.prod:http", replicas=2)
    where = (cluster.dns.target("reviews.prod", "http"),)
    for arguments, code, words in (
        (["--version"], 0, "kubelb "),
        (["--help"], 0, "endpoints"),
        (["endpoints", *where], 0, "127."),
        (["endpoints", *where, "--json"], 0, '"endpoints"'),
        (["doctor", *where], None, "reviews.prod"),
        (["demo"], 2, "pip install 'kubelb[cli,httpx]'"),
    ):
        done = kubelb(*arguments)
        assert code in {None, done.returncode}, (arguments, done)
        assert words in done.stdout + done.stderr, (arguments, done)
        assert "Traceback" not in done.stderr, (arguments, done)
using.done("typer", "rich")
