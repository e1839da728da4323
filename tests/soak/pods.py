"""The pods of the soak, a process of their own: a LocalCluster whose pods fail in turn, and a count of deliveries.

It is steered by lines on its standard input and answers each with a line of JSON: `heal` makes all well and ends the
trouble, `stop` tells how often each mark was delivered, and ends.
"""

import json
import random
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from kubelb.testing import Backend, LocalCluster

SERVICES = {"web": 4, "rpc": 4}
WELL = 2
"""Pods of each service that are well at any time."""

TROUBLE: dict[str, Callable[[Backend, random.Random], object]] = {
    "slow": lambda pod, dice: pod.slow(dice.choice([0.02, 0.1, 0.4])),
    "fail": lambda pod, dice: pod.fail(times=dice.randint(1, 30)),
    "reset": lambda pod, dice: pod.reset(times=dice.randint(1, 10)),
    "reset after headers": lambda pod, dice: pod.reset_after_headers(times=dice.randint(1, 10)),
    "truncate": lambda pod, dice: pod.truncate(times=dice.randint(1, 10)),
    "hang": lambda pod, dice: pod.hang(times=dice.randint(1, 4)),
    "drip": lambda pod, dice: pod.drip(20, 0.005),
    "refuse": lambda pod, dice: pod.refuse(),
    "close idle": lambda pod, dice: pod.close_idle(),
    "cut": lambda pod, dice: pod.close_connections(reset=dice.random() < 0.5),
    "not ready": lambda pod, dice: pod.not_ready(),
    "drain": lambda pod, dice: pod.drain(grace=0.3),
    "kill": lambda pod, dice: pod.kill(reset=dice.random() < 0.7),
    "restart": lambda pod, dice: pod.restart(),
}
RPC_ONLY: dict[str, Callable[[Backend, random.Random], object]] = {"goaway": lambda pod, dice: pod.goaway(grace=0.5)}


class Deliveries(deque):
    """Takes the place of a backend's log, which forgets, and counts marks."""

    def __init__(self, counts: Counter[str], lock: threading.Lock) -> None:
        super().__init__(maxlen=100)
        self._counts = counts
        self._lock = lock

    def append(self, request: Any) -> None:
        mark = request.headers.get("x-mark")
        if mark is not None:
            with self._lock:
                self._counts[mark] += 1
        super().append(request)


class Trouble:
    """One thing after another, until told to stop; what is wrong with a pod is mended before it meets the next."""

    def __init__(self, cluster: LocalCluster, seed: int) -> None:
        self._dice = random.Random(seed)
        self._cluster = cluster
        self._pods = {name: list(cluster.service(f"{name}.prod", replicas=count, grpc=name == "rpc"))
                      for name, count in SERVICES.items()}  # fmt: skip
        self.counts: Counter[str] = Counter()
        lock = threading.Lock()
        for pod in self.all():
            pod._responder.log = Deliveries(self.counts, lock)
        self.met: Counter[str] = Counter()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def all(self) -> list[Backend]:
        return [pod for pods in self._pods.values() for pod in pods]

    def _run(self) -> None:
        ill: dict[str, deque[Backend]] = {name: deque() for name in SERVICES}
        dice = self._dice
        while not self._over.wait(dice.uniform(0.1, 0.6)):
            name = dice.choice(list(SERVICES))
            if len(ill[name]) >= len(self._pods[name]) - WELL:
                ill[name].popleft().heal()
            kinds = TROUBLE | (RPC_ONLY if name == "rpc" else {})
            pod = dice.choice([pod for pod in self._pods[name] if pod not in ill[name]])
            kind = dice.choice(list(kinds))
            kinds[kind](pod, dice)
            self.met[f"{name} {kind}"] += 1
            ill[name].append(pod)
            if dice.random() < 0.02:
                self._cluster.api.down()
                self._over.wait(dice.uniform(0.2, 2.0))
                self._cluster.api.up()
                self.met["api down"] += 1

    def heal(self) -> None:
        self._over.set()
        self._thread.join()
        for pod in self.all():
            pod.heal()


def main() -> None:
    with LocalCluster() as cluster:
        trouble = Trouble(cluster, int(sys.argv[1]))
        addresses = {name: [pod.address for pod in pods] for name, pods in trouble._pods.items()}
        say({"kubeconfig": cluster.kubeconfig, "addresses": addresses})
        for line in sys.stdin:
            if line.strip() == "heal":
                trouble.heal()
                say(dict(trouble.met))
            else:
                say(dict(trouble.counts))
                return


def say(what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
