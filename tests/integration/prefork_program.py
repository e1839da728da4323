"""A server that forks its workers after it has used its client, as gunicorn does with an application loaded beforehand.

    python prefork_program.py TARGET KUBECONFIG NEWCOMER

The parent makes requests and forks. Each process makes one request by itself; when all have, the parent says "forked"
and all go on at the same time: 200 requests and more, until the newcomer, a pod that comes after that, has answered.
The parent exits with 0 if all went well, and says for how long at least all were at it.
"""

from __future__ import annotations

import os
import sys
import time

import httpx

import kubelb
from kubelb.adapters.httpx import Transport

CHILDREN, REQUESTS, PATIENCE = 3, 200, 60.0


class Meeting:
    """Where processes wait for each other, made of pipes: forked children share nothing else."""

    def __init__(self) -> None:
        self._here, self._arrive = os.pipe()
        self._go, self._hold = os.pipe()
        self._told, self._tell = os.pipe()

    def wait(self) -> None:
        """In a child: be there, and go when the parent says so."""
        os.close(self._hold)  # else it would be this process itself that keeps it waiting
        os.write(self._arrive, b".")
        os.read(self._go, 1)

    def begin(self) -> None:
        """In the parent: when all children are there, or dead, let them go."""
        os.close(self._arrive)
        for _ in range(CHILDREN):
            os.read(self._here, 1)
        os.close(self._hold)

    def tell(self, first: float, last: float) -> None:
        """In a child: from when to when it made requests. The clock is the same in all processes."""
        os.write(self._tell, f"{first} {last}\n".encode())

    def told(self) -> list[tuple[float, float]]:
        """In the parent, when all children have ended: what they told."""
        os.close(self._tell)
        with os.fdopen(self._told) as lines:
            return [(float(first), float(last)) for first, last in (line.split() for line in lines)]


def serve(client: httpx.Client, origin: str, newcomer: str) -> int:
    """Returns 0 when all requests were answered and the newcomer was among those who did."""
    seen: set[str] = set()
    until = time.monotonic() + PATIENCE
    count = 0
    while count < REQUESTS or newcomer not in seen:
        if time.monotonic() > until:
            sys.stderr.write(f"{os.getpid()}: {count} requests, answered by {sorted(seen)}\n")
            return 2
        seen.add(client.get(f"{origin}/{os.getpid()}").raise_for_status().headers["x-backend"])
        count += 1
        time.sleep(0.005)
    return 0


def main(target: str, kubeconfig: str, newcomer: str) -> int:
    lb = kubelb.LoadBalancer(target, discovery=kubelb.DiscoveryOptions(kubeconfig=kubeconfig))
    lb.wait_ready(PATIENCE)  # on a busy machine the kubernetes package alone takes seconds to be imported
    origin = f"http://{lb.target.service}.{lb.target.namespace}"
    client = httpx.Client(mounts={origin: Transport(lb)}, timeout=PATIENCE)
    meeting = Meeting()
    for _ in range(20):
        client.get(f"{origin}/before").raise_for_status()
    children = []
    for _ in range(CHILDREN):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                client.get(f"{origin}/{os.getpid()}").raise_for_status()
                meeting.wait()
                first = time.monotonic()
                code = serve(client, origin, newcomer)
                meeting.tell(first, time.monotonic())
                if any(view.in_flight for view in lb.endpoints()):
                    code = 3
                client.close()
                lb.close()
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    client.get(f"{origin}/{os.getpid()}").raise_for_status()
    meeting.begin()
    sys.stdout.write("forked\n")
    sys.stdout.flush()
    first = time.monotonic()
    code = serve(client, origin, newcomer)
    times = [(first, time.monotonic())]
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    client.get(f"{origin}/after").raise_for_status()
    if any(view.in_flight for view in lb.endpoints()):
        code = 3
    client.close()
    lb.close()
    times += meeting.told()
    overlap = min(last for _, last in times) - max(first for first, _ in times)
    sys.stdout.write(f"{code} {ends} {overlap}\n")
    return max([code, *map(abs, ends)])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
