"""A service that runs in a pod, as a program: `python pod_program.py TARGET`. Tells of itself for each line of stdin.

It is given nothing but the target: everything else it finds where the kubelet puts it.
"""

from __future__ import annotations

import json
import logging
import sys
import threading

import kubelb
from kubelb.service import service_of


def main(target: str) -> None:
    logging.basicConfig(level=logging.DEBUG)
    with kubelb.LoadBalancer(target) as lb:
        lb.resync_now()  # begins
        for _ in sys.stdin:
            snapshot = service_of(lb).balancer.snapshot
            health = lb.health()
            known = {
                "used": sorted(endpoint.ip for endpoint in snapshot.endpoints) if snapshot else [],
                "synced": health.synced,
                "error": health.error,
                "cure": health.cure,
                "kubernetes": any(name.split(".")[0] == "kubernetes" for name in list(sys.modules)),
            }
            sys.stdout.write(json.dumps(known) + "\n")
            sys.stdout.flush()
    # `close` waits 50 ms for them, and on a busy machine they need a little more to end.
    left = [thread for thread in threading.enumerate() if thread.name.startswith("kubelb")]
    for thread in left:
        thread.join(10.0)
    assert not [thread for thread in left if thread.is_alive()]


if __name__ == "__main__":
    main(sys.argv[1])
