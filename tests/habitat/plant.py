"""A LocalCluster in a process of its own, for servers that fork or are patched: `python -m tests.habitat.plant`.

It writes where it is, then answers one line of JSON for each line on its standard input: ``["scale", 5]``,
``["slow", 0.02]``, ``["reset", 0]`` (one pod resets after it has read a request), ``["paths"]``.
"""

import json
import sys
from collections import Counter
from typing import Any

from kubelb.testing import LocalCluster, Reply


def main() -> None:
    with LocalCluster() as cluster:
        service = cluster.service("web.prod", replicas=3, handler=lambda received: Reply(200, received.body))

        def answer(verb: str, value: Any = None) -> Any:
            if verb == "scale":
                service.scale(value)
            elif verb == "slow":
                for pod in service:
                    pod.slow(value)
            elif verb == "reset":
                service[value].reset()
            elif verb == "watches":
                return cluster.api.watchers
            elif verb == "paths":
                total: Counter[str] = Counter()
                for pod in service:
                    total.update(pod.by_path)
                return total
            return [pod.address for pod in service]

        print(json.dumps(cluster.kubeconfig), flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
