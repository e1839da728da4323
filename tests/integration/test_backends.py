"""The backends that the other tests send requests to: what they report, how they misbehave, how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import urllib3

from .backends import Backends
from .processes import wait_for

ROOT = Path(__file__).resolve().parents[2]

http = urllib3.PoolManager(retries=False, timeout=5.0)


@pytest.mark.parametrize("ip", ["10.244.0.7", "fd00:10:244::7"])
def test_a_backend_names_itself_and_counts_by_path(backends: Backends, ip: str) -> None:
    """The counts hold every request but those to the control paths, without their query."""
    backend = backends("web-0", ip)
    answers = [http.request("GET", f"{backend.url}/a?x=1"), http.request("POST", f"{backend.url}/a", body=b"hello")]
    assert [answer.data for answer in answers] == [b"web-0", b"web-0"]
    assert http.request("GET", f"{backend.url}/b?body=100000").data == b"x" * 100_000
    assert backend.counts == {"/a": 2, "/b": 1}


def test_a_backend_keeps_connections_alive(backends: Backends) -> None:
    """Ten requests of one client need one connection."""
    backend = backends("web-0", "10.244.0.7")
    with urllib3.HTTPConnectionPool(backend.ip, backend.port, retries=False) as pool:
        for _ in range(10):
            assert pool.request("GET", "/").status == 200
        assert pool.num_connections == 1


def test_a_backend_misbehaves_as_told(backends: Backends) -> None:
    """By a request's query or for all requests: a status, a delay, a reset; and well again."""
    backend = backends("web-0", "10.244.0.7")
    assert http.request("GET", f"{backend.url}/?status=503").status == 503
    backend.behave(status=500)
    assert http.request("GET", f"{backend.url}/").status == 500
    assert http.request("GET", f"{backend.url}/?status=201").status == 201
    backend.behave(delay=5.0)
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        http.request("GET", f"{backend.url}/", timeout=0.2)
    backend.behave(reset=True)
    with pytest.raises(urllib3.exceptions.ProtocolError, match="reset"):
        http.request("GET", f"{backend.url}/")
    backend.behave()
    assert http.request("GET", f"{backend.url}/").data == b"web-0"


def test_a_killed_backend_refuses_and_a_restarted_one_has_forgotten(backends: Backends) -> None:
    """After `kill -9` the port is closed; a restart is another process on the same address."""
    backend = backends("web-0", "10.244.0.7")
    http.request("GET", f"{backend.url}/a")
    first = backend.pid
    backend.kill()
    assert not backend.listening()
    backends.restart(backend)
    assert backend.pid != first
    assert backend.counts == {}


def test_a_frozen_backend_accepts_and_says_nothing(backends: Backends) -> None:
    """SIGSTOP: the kernel takes the connection, the answer comes after SIGCONT."""
    backend = backends("web-0", "10.244.0.7")
    backend.freeze()
    assert backend.listening()
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        http.request("GET", f"{backend.url}/", timeout=0.2)
    backend.thaw()
    assert http.request("GET", f"{backend.url}/").status == 200


def test_a_draining_backend_finishes_what_runs(backends: Backends) -> None:
    """SIGTERM: the running request is answered with `Connection: close`, idle connections end, the exit code is 0."""
    backend, idle = backends("web-0", "10.244.0.7"), urllib3.PoolManager(retries=False)
    idle.request("GET", f"{backend.url}/idle")
    with ThreadPoolExecutor(max_workers=1) as pool:
        running = pool.submit(http.request, "GET", f"{backend.url}/slow?delay=1.5")
        wait_for(lambda: backend.at_work)
        backend.drain()
        wait_for(lambda: not backend.listening())
        answer = running.result(timeout=5.0)
    assert (answer.status, answer.data, answer.headers["Connection"]) == (200, b"web-0", "close")
    assert backend.wait() == 0


def test_several_backends_start_together(backends: Backends) -> None:
    """Ten servers on one port number, each on its own address."""
    started = backends.start({f"web-{number}": f"10.244.1.{number}" for number in range(1, 11)})
    assert [http.request("GET", backend.url).data.decode() for backend in started] == [b.name for b in started]


def test_nothing_is_left_when_the_run_is_killed(pod_network: None, tmp_path: Path) -> None:
    """A run that gets SIGKILL takes its children along, even one that is stopped."""
    program = (
        "import sys, time; from pathlib import Path; from tests.integration.backends import Backends\n"
        "backend = Backends(Path(sys.argv[1]))('web-0', '10.244.0.7'); backend.freeze()\n"
        "print(backend.pid, flush=True); time.sleep(60)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT)
    assert run.stdout is not None
    with run.stdout:
        child = int(run.stdout.readline())
    assert alive(child)
    run.send_signal(signal.SIGKILL)
    run.wait(10)
    wait_for(lambda: not alive(child))


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that waits for its new parent to notice does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z" and os.path.exists(f"/proc/{pid}")
