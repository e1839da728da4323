"""A WSGI application that calls pods through kubelb, as its environment says; what the servers of this folder serve.

    /call/requests|httpx|grpc/WORD   a POST to a pod, which echoes: answers whether what came back is WORD
    /knows                           [pid, endpoints, health().synced, health().error], as JSON
    /begins                          the same, of a worker that has its endpoints
    /storm/SEED                      POSTs at once, each with a path of its own: [sent, what failed, in flight after]

HABITAT_FORK_AFTER=1 uses the load balancer while the application is loaded, which is before the fork where the server
forks after that.
"""

import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import httpx
import requests

import kubelb
from kubelb.adapters.httpx import Transport
from kubelb.adapters.requests import mount

PATIENCE = 30.0
lb = kubelb.LoadBalancer(
    "web.prod:http",
    discovery=kubelb.DiscoveryOptions(kubeconfig=os.environ["HABITAT_KUBECONFIG"]),
    ready_timeout=PATIENCE,
)
session = requests.Session()
mount(session, lb)
client = httpx.Client(mounts={"http://web.prod": Transport(lb)}, timeout=PATIENCE)


def by_requests(word: str) -> str:
    return session.post(f"http://web.prod/echo/{word}", data=word, timeout=PATIENCE).text


def by_httpx(word: str) -> str:
    return client.post(f"http://web.prod/echo/{word}", content=word).text


CLIENTS: dict[str, Callable[[str], str]] = {"requests": by_requests, "httpx": by_httpx}

if os.environ.get("HABITAT_FORK_AFTER"):
    lb.wait_ready()
    for number in range(6):
        for name, call in CLIENTS.items():
            with suppress(httpx.TransportError, requests.RequestException):  # a storm of another worker's is on already
                call(f"boot-{os.getpid()}-{name}-{number}")


def knows() -> Any:
    health = lb.health()
    return [os.getpid(), len(lb.endpoints()), health.synced, health.error]


def storm(seed: int) -> Any:
    """24 threads, or greenlets, each with eight POSTs by either client; a reset is the only failure there may be."""
    failed: list[str] = []

    def one(number: int) -> None:
        rng = random.Random(seed * 1000 + number)
        for turn in range(8):
            name = rng.choice(sorted(CLIENTS))
            word = f"{os.getpid()}-{seed}-{number}-{turn}"
            try:
                if CLIENTS[name](word) != word:
                    failed.append("crossed")
            except (requests.ConnectionError, httpx.ReadError, httpx.RemoteProtocolError):
                failed.append("reset")
            except Exception as error:
                failed.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=one, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    end = time.monotonic() + PATIENCE
    while (left := sum(view.in_flight for view in lb.endpoints())) and time.monotonic() < end:
        time.sleep(0.05)  # another storm in this very process
    return [24 * 8, failed, left]


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    _, verb, *rest = environ["PATH_INFO"].split("/")
    try:
        if verb == "call":
            said: Any = CLIENTS[rest[0]](rest[1]) == rest[1]
        elif verb == "storm":
            said = storm(int(rest[0]))
        else:
            if verb == "begins":
                lb.wait_ready()
            said = knows()
        status = "200 OK"
    except BaseException as error:
        said, status = f"{type(error).__name__}: {error}", "500 Oh"
        print(said, file=sys.stderr, flush=True)
    body = json.dumps(said).encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
