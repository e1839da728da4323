"""A child process as the tests need it: leashed to this process, killed, frozen, started again, its log at hand.

Each child leads a process group of its own, so that Ctrl-C in a terminal reaches pytest alone, and pytest's fixtures
end the children in their order. SIGKILL is how everything ends here: nothing that a test run leaves is worth a wait.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

LEASH = Path(__file__).with_name("leash.py")
LOG_TAIL = 25
POLL_EVERY = 0.02
PATIENCE = 20.0  # what a busy machine may need for anything that takes an idle one a moment
LEAST_POLLS = 5

# "Parent" in PR_SET_PDEATHSIG means the thread that forked. So one thread, which lives as long as this process, forks
# all children; a child started from a test's short-lived thread would die with that thread otherwise.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")


def wait_for(predicate: Callable[[], T], timeout: float = PATIENCE, *, what: str = "") -> T:
    """Poll until the predicate is true and return what it returned; else fail with the last value in the message.

    Time in which this process did not run does not count against what is waited for: it is asked some times at least.
    """
    deadline = time.monotonic() + timeout
    for polls in itertools.count(1):
        value = predicate()
        if value:
            return value
        if polls >= LEAST_POLLS and time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or 'what was waited for'}; last seen: {value!r}")
        time.sleep(POLL_EVERY)
    raise AssertionError("unreachable")


# Below those that the kernel gives to connections (32768 and up, /proc/sys/net/ipv4/ip_local_port_range): there a port
# that is free now may be an outgoing connection's when its server starts. Worse, while a server is dead, a client that
# tries to reach it may be given the very port that it dials, be connected with itself, and hold it.
_ports = itertools.chain(range(20000 + os.getpid() % 10000, 30000), itertools.cycle(range(20000, 30000)))


def free_port(address: str = "127.0.0.1") -> int:
    """A port that nobody uses or will be given, for TCP and for UDP (CoreDNS wants the same number for both)."""
    for port in _ports:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind((address, port))
                udp.bind((address, port))
            except OSError:
                continue
            return port
    raise AssertionError("unreachable")


class Process:
    """One command line, which may run, be killed and run again. The log file keeps the output of every run."""

    def __init__(self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        self._env = {**os.environ, **(env or {})}
        self._child: subprocess.Popen[bytes] | None = None
        self.frozen = False

    def __repr__(self) -> str:
        state = "frozen" if self.frozen else "running" if self.alive else "ended"
        return f"<Process {self.name} {state} pid={self.pid}>"

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self, *extra: str) -> None:
        """Start it, with more arguments after its own; of a flag that is given twice, the last one counts."""
        if self.alive:
            raise RuntimeError(f"{self.name} runs already")
        command = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *self.command, *extra]
        with self.log.open("ab") as log:
            log.write(f"--- {' '.join([*self.command, *extra])}\n".encode())
            log.flush()
            self._child = _spawner.submit(self._spawn, command, log.fileno()).result()
        self.frozen = False

    def _spawn(self, command: Sequence[str], log: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._env, start_new_session=True
        )

    def wait_ready(self, ready: Callable[[], bool], timeout: float) -> None:
        """Wait until it is ready; show the end of its log if it ends or does not get there."""

        def ready_or_ended() -> bool:
            return ready() or not self.alive

        try:
            wait_for(ready_or_ended, timeout)
        except AssertionError:
            raise RuntimeError(f"{self.name} is not ready after {timeout} s.\n{self.tail()}") from None
        if not self.alive:
            raise RuntimeError(f"{self.name} ended while starting.\n{self.tail()}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and to whatever it started."""
        if self._child is not None and self.alive:
            os.killpg(self._child.pid, number)

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, new ones are accepted by the kernel, nothing answers from now on."""
        self.signal(signal.SIGSTOP)
        self.frozen = True
        wait_for(lambda: not self.alive or self._states() <= {"T", "Z"}, what=f"every thread of {self.name} to stop")

    def _states(self) -> set[str]:
        """What each of its threads does, in the kernel's letters; one that ends meanwhile does not count."""
        states = set()
        for thread in Path(f"/proc/{self.pid}/task").iterdir():
            with suppress(OSError):
                states.add((thread / "stat").read_text().rpartition(")")[2].split()[0])
        return states

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)
        self.frozen = False

    def terminate(self) -> None:
        """SIGTERM: ask it to finish its work and end."""
        self.signal(signal.SIGTERM)

    def wait(self, timeout: float = 10.0) -> int:
        """Wait for its end and return its exit code; a negative number is the signal that ended it."""
        if self._child is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._child.wait(timeout)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone and its ports are free."""
        if self._child is not None:
            self.signal(signal.SIGKILL)
            self._child.wait(10)
            self.frozen = False

    def tail(self, lines: int = LOG_TAIL) -> str:
        """The end of the log, under a line that says whose it is."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join([f"The end of {self.log}:", *text.splitlines()[-lines:]])
