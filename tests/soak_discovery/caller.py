"""The process under test: load balancers, requests to some of them. It tells all that happens, a line of JSON each.

    {"at", "service", "used"}                 the set in use is this now
    {"at", "service", "source", "kind"}       a step of the ladder
    {"at", "service", "trouble"}              a failure of discovery, by its kind
    {"dials": [...]}                          when this process tried to connect to the API server
    {"ok": n}                                 requests that were answered, since the last such line
    {"at", "service", "failed", "source"}     a request that was not
    {"threads", "descriptors", "mb", "cpu"}   what the process needs
    {"left": [...]}                           the last line: threads that are left when all is closed

`at` is of the monotonic clock, which is the machine's. It begins with one line on its standard input, a JSON object
{"nameserver", "port", "services": [[name, namespace, live, ladder], ...]}, and ends when that input does.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
from tests.spelled import spelled

from kubelb import LoadBalancer
from kubelb.adapters.httpx import Transport
from kubelb.core.events import DiscoveryFailed, EndpointsChanged, Event, SourceChanged
from kubelb.service import service_of

Say = Callable[[dict[str, Any]], None]

PAUSE = 0.08
"""Seconds between two requests to one service."""


class Watched(LoadBalancer):
    """Tells of itself."""

    def __init__(self, name: str, target: str, say: Say, **options: Any) -> None:
        self._name, self._say = name, say
        super().__init__(target, telemetry=False, **spelled(options))
        self.on_event(self._heard)

    def _heard(self, event: Event) -> None:
        what = {"at": time.monotonic(), "service": self._name}
        if isinstance(event, EndpointsChanged):
            snapshot = service_of(self).balancer.snapshot
            used = [endpoint.authority for endpoint in snapshot.endpoints] if snapshot else []
            self._say({**what, "used": used, "exists": not event.problem})
        elif isinstance(event, SourceChanged):
            self._say({**what, "source": event.source, "kind": event.kind})
        elif isinstance(event, DiscoveryFailed):
            self._say({**what, "trouble": event.kind})


class Speaker:
    """Writes lines from one thread, so that none of those under test ever waits for a pipe."""

    def __init__(self) -> None:
        self._lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.say = self._lines.put
        self._thread = threading.Thread(target=self._run, name="speaker")
        self._thread.start()

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()

    def end(self) -> None:
        self._lines.put(None)
        self._thread.join()


class Requests:
    """One after the other to one service, in a thread."""

    def __init__(self, lb: Watched, name: str, host: str, say: Say) -> None:
        self.answered = 0
        self._lb, self._name, self._url, self._say = lb, name, f"http://{host}/", say
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"requests-{name}")
        self._thread.start()

    def _run(self) -> None:
        with httpx.Client(transport=Transport(self._lb), timeout=5.0) as client:
            while not self._over.wait(PAUSE):
                began = time.monotonic()
                try:
                    client.get(self._url).raise_for_status()
                    self.answered += 1
                except httpx.HTTPError as error:
                    notes = "; ".join(getattr(error, "__notes__", ()))
                    why = f"{type(error).__name__}: {error} ({notes})"
                    failed = {"failed": why, "source": self._lb.health().source, "began": began}
                    self._say({"at": time.monotonic(), "service": self._name, **failed})

    def end(self) -> None:
        self._over.set()
        self._thread.join()


def needs() -> dict[str, float]:
    """What this process needs now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    return {
        "threads": threading.active_count(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "mb": pages * resource.getpagesize() / 1e6,
        "cpu": time.process_time(),
    }


def main() -> None:
    config = json.loads(sys.stdin.readline())
    speaker = Speaker()
    dials: list[float] = []

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect" and arguments[1][1:2] == (config["port"],):
            dials.append(time.monotonic())

    sys.addaudithook(audit)
    balancers: list[Watched] = []
    requests: list[Requests] = []
    for name, namespace, live, ladder in config["services"]:
        target = f"{name}.{namespace}:http" if ladder else f"kube:///{name}.{namespace}:http"
        lb = Watched(name, target, speaker.say, nameserver=config["nameserver"] if ladder else None)
        service_of(lb).feed()  # begins
        balancers.append(lb)
        if live:
            requests.append(Requests(lb, name, f"{name}.{namespace}", speaker.say))
    over = threading.Event()

    def tell() -> None:
        told = answered = 0
        while True:
            last = over.wait(0.25)
            new, now = dials[told:], sum(each.answered for each in requests)
            told += len(new)
            speaker.say({"dials": new, "ok": now - answered, **needs()})
            answered = now
            if last:
                return

    teller = threading.Thread(target=tell)
    teller.start()
    sys.stdin.read()
    for each in requests:
        each.end()
    over.set()
    teller.join()
    for lb in balancers:
        lb.close()
    until = time.monotonic() + 10.0
    while (left := [each.name for each in threading.enumerate() if each.name.startswith("kubelb")]) and (
        time.monotonic() < until
    ):
        time.sleep(0.02)
    speaker.say({"left": left})
    speaker.end()


if __name__ == "__main__":
    main()
