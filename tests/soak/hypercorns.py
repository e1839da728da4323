"""Three real hypercorn servers that speak HTTP/2 over TLS; they are restarted, killed and stopped, one at a time.

Each says GOAWAY when it is told to end, and after so many requests on a connection.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import trustme

HERE = Path(__file__).parent
COUNT = 3
REQUESTS = 150
"""Requests a connection, then GOAWAY."""
START = 30.0
"""Seconds for a server to listen."""


class Hypercorns:
    """A context manager; `addresses` are theirs, `ca` is the file to verify them with."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._folder = tempfile.TemporaryDirectory()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._trouble, daemon=True)
        self._servers: dict[int, subprocess.Popen[bytes]] = {}
        self.met: Counter[str] = Counter()
        folder = Path(self._folder.name)
        self.ca = folder / "ca.pem"
        self._ledger = folder / "ledger"
        self._ledger.touch()
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca)
        pair = authority.issue_cert("pages.prod", *(f"127.0.0.{i + 1}" for i in range(COUNT)))
        pair.private_key_pem.write_to_path(folder / "key.pem")
        pair.cert_chain_pems[0].write_to_path(folder / "cert.pem")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        (folder / "config.toml").write_text(
            f'certfile = "{folder}/cert.pem"\nkeyfile = "{folder}/key.pem"\ngraceful_timeout = 1\n'
            f'keep_alive_max_requests = {REQUESTS}\naccesslog = "{os.devnull}"\nerrorlog = "{os.devnull}"\n'
        )
        self.addresses = [f"127.0.0.{i + 1}:{self._port}" for i in range(COUNT)]

    def __enter__(self) -> "Hypercorns":
        for number in range(COUNT):
            self._start(number)
        for number in range(COUNT):
            self._wait(number)
        self._thread.start()
        return self

    def heal(self) -> None:
        """No more trouble; all of them serve when this returns."""
        self._over.set()
        self._thread.join()

    def __exit__(self, *_: object) -> None:
        if not self._over.is_set():
            self.heal()
        for number in self._servers:
            self._kill(number)
        self._folder.cleanup()

    def delivered(self) -> Counter[str]:
        """How often each mark was delivered."""
        return Counter(self._ledger.read_text().split())

    def _start(self, number: int) -> None:
        folder = self._folder.name
        command = [sys.executable, "-m", "hypercorn", "-c", f"{folder}/config.toml", "-b", self.addresses[number]]
        self._servers[number] = subprocess.Popen(
            [*command, "hypercorn_app:app"],
            cwd=HERE,
            env=os.environ | {"SOAK_LEDGER": str(self._ledger)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that its worker dies with it
        )

    def _wait(self, number: int) -> None:
        host, port = self.addresses[number].split(":")
        until = time.monotonic() + START
        while True:
            try:
                socket.create_connection((host, int(port)), 0.2).close()
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
            else:
                return

    def _kill(self, number: int) -> None:
        server = self._servers[number]
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(10)

    def _trouble(self) -> None:
        dice = self._dice
        while not self._over.wait(dice.uniform(0.5, 4.0)):
            number = dice.randrange(COUNT)
            kind = dice.choice(["restart", "restart", "kill", "stop"])
            self.met[f"hypercorn {kind}"] += 1
            if kind == "stop":
                os.killpg(self._servers[number].pid, signal.SIGSTOP)
                self._over.wait(dice.uniform(0.1, 1.5))
                os.killpg(self._servers[number].pid, signal.SIGCONT)
                continue
            if kind == "restart":
                self._servers[number].terminate()
                try:
                    self._servers[number].wait(3)
                except subprocess.TimeoutExpired:
                    self._kill(number)
            else:
                self._kill(number)
            self._start(number)
            self._wait(number)
