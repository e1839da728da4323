"""The network of one's own is one, leaves a command its exit code, and says so where it is forbidden."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kubelb.discovery.route import has_route

from . import netns

ROOT = Path(__file__).resolve().parents[2]
NETNS = [sys.executable, "-m", "tests.integration.netns", "--"]

pytestmark = pytest.mark.usefixtures("pod_network")  # who is inside of one can make another


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=20)


def test_pod_addresses_are_ours_inside() -> None:
    """Both ranges can be bound, also in a network inside of another."""
    program = "from tests.integration import netns; raise SystemExit(0 if netns.inside() else 1)"
    assert netns.inside()
    assert run(*NETNS, sys.executable, "-c", program).returncode == 0


def test_nothing_leads_outside() -> None:
    """There is no route to any other address."""
    program = "import socket; socket.socket(type=socket.SOCK_DGRAM).connect(('192.0.2.1', 9))"
    assert "Network is unreachable" in run(*NETNS, sys.executable, "-c", program).stderr


def test_the_exit_code_is_the_commands_own() -> None:
    """The command replaces the wrapper; one that does not exist is 127, as in a shell."""
    assert run(*NETNS, "sh", "-c", "exit 5").returncode == 5
    assert run(*NETNS, "no-such-command").returncode == 127


def test_where_it_is_forbidden_it_says_so() -> None:
    """With no user namespace left to make, the exit code is 77 and the message names the setting."""
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    answer = run(*NETNS, "sh", "-c", forbid, "sh", *NETNS, "true")
    assert answer.returncode == netns.FORBIDDEN
    assert "max_user_namespaces" in answer.stderr


def test_the_kernel_knows_what_has_a_route() -> None:
    """Pod addresses of both families have one in here, any other has none; asking sends nothing."""
    assert has_route("10.244.0.1")
    assert has_route("fd00:10:244::1")
    program = (
        "from kubelb.discovery.route import has_route; print([has_route(ip) for ip in ('192.0.2.1', '2001:db8::1')])"
    )
    assert run(*NETNS, sys.executable, "-c", program).stdout == "[False, False]\n"
