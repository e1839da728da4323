"""A process that finds itself in a pod: token and CA mounted, the API server in its environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from .netns import FORBIDDEN
from .processes import PATIENCE, wait_for

PROGRAM = Path(__file__).with_name("pod_program.py")
ROOT = Path(__file__).parents[2]


class NoMountsError(Exception):
    """The kernel lets us have no mounts of our own; the text says why."""


class TokenVolume:
    """The folder that the kubelet mounts, and how it changes: a link is moved, so that no half file is ever seen."""

    def __init__(self, folder: Path, ca_file: Path, token: str) -> None:
        self.folder = folder
        self._ca_file = ca_file
        self._number = 0
        folder.mkdir()
        self.write(token)
        for name in ("token", "ca.crt", "namespace"):
            (folder / name).symlink_to(f"..data/{name}")

    def write(self, token: str) -> None:
        """Exchange the token."""
        self._number += 1
        version = self.folder / f"..{self._number}"
        version.mkdir()
        (version / "token").write_text(token, encoding="ascii")
        (version / "namespace").write_text("default", encoding="ascii")
        shutil.copy(self._ca_file, version / "ca.crt")
        link = self.folder / "..new"
        link.symlink_to(version.name)
        link.replace(self.folder / "..data")


class Pod:
    """One program with one LoadBalancer in it. A context manager; its end is checked."""

    def __init__(self, target: str, volume: TokenVolume, port: int) -> None:
        command = [sys.executable, "-m", "tests.integration.mounted", str(volume.folder), "--"]
        # Warnings are errors, but what is in this process is kubelb alone, so they are kubelb's.
        command += [sys.executable, "-X", "dev", "-W", "error", str(PROGRAM), target]
        env = {name: value for name, value in os.environ.items() if name not in {"KUBECONFIG", "HOME"}}
        env |= {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(port), "HOME": "/nonexistent"}
        self.log = volume.folder.with_suffix(".log")
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=env, cwd=ROOT
            )
        # Nothing waits for ever on a program that says nothing.
        self._limit = threading.Timer(170.0, self._process.kill)
        self._limit.start()

    def __enter__(self) -> Pod:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate(timeout=30.0)
        self._limit.cancel()
        if error is None:
            assert self._process.returncode == 0, self.text
            assert "Warning" not in self.text

    @property
    def text(self) -> str:
        """Everything that it wrote into its log."""
        return self.log.read_text(encoding="utf-8")

    def tell(self) -> dict[str, Any]:
        """What it knows now: used, synced, error, cure, kubernetes."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self._process.stdout.readline()
        if not line:
            if self._process.wait(30.0) == FORBIDDEN:
                raise NoMountsError(self.text)
            raise AssertionError(f"it ended with {self._process.returncode}:\n{self.text}")
        known: dict[str, Any] = json.loads(line)
        return known

    def wait_used(self, *addresses: str, timeout: float = PATIENCE) -> dict[str, Any]:
        """Wait until exactly these addresses are used."""
        return wait_for(lambda: told if (told := self.tell())["used"] == sorted(addresses) else {}, timeout)

    def wait_error(self, text: str, timeout: float = PATIENCE) -> dict[str, Any]:
        """Wait until its health says this."""
        return wait_for(lambda: told if text in (told := self.tell())["error"] else {}, timeout)

    def wait_well(self, timeout: float = PATIENCE) -> dict[str, Any]:
        """Wait until its health has no error: an endpoint may be in use a moment before that is so."""
        return wait_for(lambda: told if not (told := self.tell())["error"] else {}, timeout)
