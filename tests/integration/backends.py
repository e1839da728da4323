"""HTTP servers on pod addresses, a process each: what they do when they are killed, frozen or drained is real."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import urllib3

from .processes import Process, wait_for

SERVER = Path(__file__).with_name("backend_server.py")
START_TIMEOUT = 10.0


class Backend(Process):
    """The server of one pod; `backend_server` says how it behaves."""

    def __init__(self, name: str, ip: str, port: int, folder: Path) -> None:
        self.ip, self.port = ip, port
        self.url = f"http://[{ip}]:{port}" if ":" in ip else f"http://{ip}:{port}"
        self._control = urllib3.PoolManager(retries=False, timeout=5.0)
        command = [sys.executable, str(SERVER), name, ip, str(port)]
        super().__init__(name, command, folder / f"{name}.log")

    def listening(self) -> bool:
        try:
            socket.create_connection((self.ip, self.port), timeout=1.0).close()
        except OSError:
            return False
        return True

    @property
    def counts(self) -> dict[str, int]:
        """Requests by path since it was started; a killed one has forgotten them."""
        counts: dict[str, int] = self._ask("GET", "/_/counts").json()
        return counts

    @property
    def posts(self) -> list[str]:
        """The path of every POST that was ever delivered to it, in all its lives."""
        return [line.removeprefix("> POST ") for line in self._lines() if line.startswith("> POST ")]

    @property
    def at_work(self) -> int:
        """How many requests it has read and not answered; true of a stopped or killed one, too."""
        lines = self._lines()
        begun = max(number for number, line in enumerate(lines) if line.startswith("--- "))  # its present life
        return sum(line.startswith("> ") - line.startswith("< ") for line in lines[begun:])

    def _lines(self) -> list[str]:
        return self.log.read_text(encoding="utf-8").splitlines()

    def behave(self, *, delay: float = 0.0, status: int = 200, reset: bool = False) -> None:
        """From now on, for every request that does not ask for something else; without arguments: well."""
        self._ask("POST", "/_/behave", {"delay": delay, "status": status, "reset": int(reset)})

    def drain(self) -> None:
        """SIGTERM, as the kubelet sends it; `wait()` for the end."""
        self.terminate()

    def _ask(self, method: str, path: str, body: Any = None) -> urllib3.BaseHTTPResponse:
        # A connection of its own each time: a control connection that stays open would be one more to drain.
        return self._control.request(method, self.url + path, json=body, headers={"Connection": "close"})


class Backends:
    """Starts backends and ends those that are left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._all: list[Backend] = []

    def __call__(self, name: str, ip: str, port: int = 8080) -> Backend:
        return self.start({name: ip}, port)[0]

    def start(self, addresses: dict[str, str], port: int = 8080) -> list[Backend]:
        """Start several by name and address at the same time, and return when all of them listen."""
        new = [Backend(name, ip, port, self._folder) for name, ip in addresses.items()]
        self._all += new
        for backend in new:
            backend.start()
        for backend in new:
            backend.wait_ready(backend.listening, START_TIMEOUT)
        return new

    def restart(self, backend: Backend) -> None:
        """Kill it if need be, and start it again on its address: a new process, with counts of its own."""
        backend.kill()
        wait_for(lambda: not backend.listening(), START_TIMEOUT, what=f"{backend.ip}:{backend.port} free")
        backend.start()
        backend.wait_ready(backend.listening, START_TIMEOUT)

    def close(self) -> None:
        for backend in self._all:
            backend.kill()

    def __enter__(self) -> Backends:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
