"""One soak from its beginning to its verdict."""

import gc
import json
import ssl
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.soak.hypercorns import Hypercorns
from tests.soak.ledger import Ledger
from tests.soak.places import Places
from tests.soak.tasks import AioHalf
from tests.soak.threads import SyncHalf
from tests.soak.verdict import SPARE, descriptors, problems, until

from kubelb.service import service_of

__all__ = ["Report", "soak"]

THREADS_END = 10.0
"""Seconds for threads to end, once everything is closed."""
WARM_UP = 2.0
"""Seconds: what a process keeps for its whole life (gRPC's pollers and threads) is there after that."""


@dataclass
class Report:
    """What was seen, and what of it must not be."""

    ends: dict[str, Counter[str]]
    met: dict[str, int]
    """Faults that the pods had, by name."""
    problems: list[str]
    facts: dict[str, Any] = field(default_factory=dict)

    def print(self) -> None:
        for client, ends in sorted(self.ends.items()):
            print(f"{client:20} {ends.total():7}  " + ", ".join(f"{how} {count}" for how, count in ends.most_common()))
        print("faults: " + ", ".join(f"{name} {count}" for name, count in sorted(self.met.items())))
        for name, value in self.facts.items():
            print(f"{name}: {value}")
        for problem in self.problems[:50]:
            print(f"WRONG: {problem}")
        print("all is well" if not self.problems else f"{len(self.problems)} things are wrong")


class _Pods:
    """The LocalCluster's process."""

    def __init__(self, seed: int) -> None:
        command = [sys.executable, "-m", "tests.soak.pods", str(seed)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said = self._read()

    def ask(self, word: str) -> dict[str, int]:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        said: dict[str, Any] = json.loads(self._process.stdout.readline())
        return said

    def end(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait(10)


def soak(seconds: float, seed: int) -> Report:
    """Make calls for so many seconds, then look at what is left."""
    pods = _Pods(seed)
    try:
        with Hypercorns(seed) as corns:
            said = pods.said
            verify = ssl.create_default_context(cafile=str(corns.ca))
            places = Places(
                said["kubeconfig"], said["addresses"]["web"], said["addresses"]["rpc"], corns.addresses, verify
            )
            _calls(places, Ledger("warm"), seed, WARM_UP)
            gc.collect()
            before = descriptors()
            ledger = Ledger("soak")
            wrong, facts = _calls(places, ledger, seed, seconds)
            gc.collect()
            after = descriptors()
            corns.heal()
            met = pods.ask("heal") | corns.met
            delivered = Counter(pods.ask("stop")) + corns.delivered()
    finally:
        pods.end()
    if sum((after - before).values()) > SPARE:
        wrong.append(f"descriptors: {dict(before)} before, {dict(after)} after")
    facts["descriptors"] = f"{dict(before)} before, {dict(after)} after"
    facts["not to be repeated"] = f"{len(ledger.once)} calls, {len(ledger.answered)} of them answered"
    return Report(dict(ledger.ends), dict(met), wrong + problems(ledger, delivered), facts)


def _calls(places: Places, ledger: Ledger, seed: int, seconds: float) -> tuple[list[str], dict[str, Any]]:
    """Both halves at once; returns what they left behind."""
    threads = SyncHalf(places, ledger, seed)
    tasks = AioHalf(places, ledger, threads.balancers, seed)
    time.sleep(seconds)
    tasks.end()
    threads.end()
    wrong = [f"a task is left: {task}" for task in tasks.left]
    facts: dict[str, Any] = {}
    for name, balancer in threads.balancers.items():
        states = service_of(balancer).balancer.states()
        if not until(lambda states=states: not any(state.in_flight for state in states), 5.0):
            wrong.append(f"{name}: in flight {[state.in_flight for state in states]}")
        views = balancer.endpoints()
        facts[name] = f"{sum(view.picks for view in views)} picks, in flight {[view.in_flight for view in views]}"
        balancer.close()
    if not until(lambda: not _ours(), THREADS_END):
        wrong += [f"a thread is left: {where}" for where in _ours()]
    return wrong, facts


def _ours() -> list[str]:
    """kubelb's threads, and where each of them is."""
    frames = sys._current_frames()
    return [
        thread.name + "".join(traceback.format_stack(frames[thread.ident])[-3:])
        for thread in threading.enumerate()
        if thread.name.startswith("kubelb") and thread.ident in frames
    ]
