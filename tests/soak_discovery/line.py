"""What the process under test tells, as it is known here, and the check that runs all the time.

An address that left a service's set, was over, and is in the set again, is the fault that this soak is for: whatever
said so had it from before an outage.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from tests.integration.netns import FORBIDDEN
from tests.integration.pods import ROOT, NoMountsError
from tests.soak_discovery.services import World

__all__ = ["Line"]


class Line:
    """Starts the process, and reads what it says on a thread."""

    def __init__(self, world: World, volume: Path, port: int, nameserver: str, log: Path) -> None:
        self.begin(world)
        self._log = log
        command = [sys.executable, "-m", "tests.integration.mounted", str(volume), "--"]
        command += [sys.executable, "-m", "tests.soak_discovery.caller"]
        env = {name: value for name, value in os.environ.items() if name not in {"KUBECONFIG", "HOME"}}
        env |= {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(port), "HOME": "/nonexistent"}
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=env, cwd=ROOT, text=True
            )
        services = [[each.name, each.namespace, each.live, each.ladder] for each in world.services]
        config = {"nameserver": nameserver, "port": port, "services": services}
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(config) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self.check()
        self._thread = threading.Thread(target=self._read, name="line", daemon=True)
        self._thread.start()

    def begin(self, world: World) -> None:
        """Nothing is known yet."""
        self.used: dict[str, frozenset[str]] = {}
        self.seen: set[str] = set()
        """Every address that was in use at any time."""
        self.changed: dict[str, float] = {}
        """When each service's set became what it is."""
        self.source: dict[str, str] = {}
        self.snapshots = 0
        self.again: list[str] = []
        """Addresses that came back into use after they were over, with what is known of that."""
        self.late = 0
        """Addresses that were over when they came into use for the first time: news that were late."""
        self.steps: list[tuple[float, str, str, str]] = []
        """When, which service, to which source, why."""
        self.trouble: Counter[str] = Counter()
        self.dials: list[float] = []
        self.answered = 0
        self.failed: list[dict[str, Any]] = []
        self.needs: dict[str, float] = {}
        self.most: dict[str, float] = {}
        self.left: list[str] | None = None
        self._world = world
        self._gone: dict[str, dict[str, float]] = defaultdict(dict)

    def check(self) -> None:
        """Raise if the process has ended by itself."""
        if self._process.poll() == FORBIDDEN:
            raise NoMountsError(self._log.read_text(encoding="utf-8"))
        if self._process.poll() is not None:
            raise RuntimeError(f"the caller ended:\n{self._log.read_text(encoding='utf-8')[-4000:]}")

    def end(self) -> str:
        """Have it close everything; returns what it wrote into its log, which should be nothing but kubelb's lines."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._thread.join(60.0)
        self._process.wait(30.0)
        return self._log.read_text(encoding="utf-8")

    def kill(self) -> None:
        """Whatever it does."""
        self._process.kill()
        self._process.wait(10.0)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            said = json.loads(text)
            if "used" in said:
                self._use(said["at"], said["service"], frozenset(said["used"]))
            elif "kind" in said:
                self.source[said["service"]] = said["source"]
                self.steps.append((said["at"], said["service"], said["source"], said["kind"]))
            elif "trouble" in said:
                self.trouble[said["trouble"]] += 1
            elif "failed" in said:
                self.failed.append(said)
            elif "left" in said:
                self.left = said["left"]
            else:
                self.dials += said.pop("dials")
                self.answered += said.pop("ok")
                self.needs = said
                self.most = {name: max(value, self.most.get(name, 0)) for name, value in said.items()}

    def _use(self, at: float, service: str, used: frozenset[str]) -> None:
        before, gone, over = self.used.get(service, frozenset()), self._gone[service], self._world.over
        self.snapshots += 1
        for address in before - used:
            gone[address] = at
        for address in used - before:
            ended = over.get(address.partition(":")[0])
            if ended is None or ended > at:
                continue
            if address in gone:
                source = self.source.get(service, "endpointslices")
                self.again.append(
                    f"{at:.3f}: {service} uses {address} again, from {source}; it was over {at - ended:.2f} s ago and "
                    f"left {at - gone[address]:.2f} s ago"
                )
            else:
                self.late += 1
        if used != before or service not in self.used:
            self.changed[service] = at
        self.used[service] = used
        self.seen |= used
