"""Makes calls while this process has no file descriptor left: ``python no_descriptors.py IP:PORT...``.

Two endpoints have a connection by then, the others would need one. Prints for each way what came of
them, the notes of the last error, the states of the endpoints after that, and what comes of calls when descriptors are
back.
"""

import asyncio
import gc
import json
import os
import resource
import sys
from collections import Counter
from typing import Any

import httpx
import requests

import kubelb
from kubelb.adapters.httpx import AsyncTransport, Transport
from kubelb.adapters.requests import mount

URL = "http://web.prod/x"
WAYS = ("httpx", "asyncio httpx", "requests", "call", "acall")
KEEP = httpx.Limits(keepalive_expiry=60)


def way_of(name: str, lb: kubelb.LoadBalancer, loop: asyncio.AbstractEventLoop) -> Any:
    """Return a function that makes one call."""
    if name == "httpx":
        client = httpx.Client(transport=Transport(lb, hosts=["web.prod"], limits=KEEP), timeout=5)
        return lambda: client.get(URL)
    if name == "asyncio httpx":
        aclient = httpx.AsyncClient(transport=AsyncTransport(lb, hosts=["web.prod"], limits=KEEP), timeout=5)
        return lambda: loop.run_until_complete(aclient.get(URL))
    if name == "requests":
        session = requests.Session()
        mount(session, lb, hosts=["web.prod"])
        return lambda: session.get(URL, timeout=5)
    kept: dict[Any, Any] = {}

    def of(attempt: kubelb.Attempt) -> httpx.Client:
        where = f"http://{attempt.endpoint.authority}"
        if where not in kept:
            kept[where] = httpx.Client(base_url=where, limits=KEEP, timeout=5, verify=False)
        return kept[where]

    def fetch(attempt: kubelb.Attempt) -> Any:
        try:
            return of(attempt).get("/x")
        except httpx.ConnectError as error:
            raise ConnectionError(str(error)) from error

    async def afetch(attempt: kubelb.Attempt) -> Any:
        return fetch(attempt)

    return (lambda: lb.call(fetch)) if name == "call" else (lambda: loop.run_until_complete(lb.acall(afetch)))


def tried(one: Any, times: int) -> tuple[Counter[str], list[str]]:
    ends: Counter[str] = Counter()
    notes: list[str] = []
    for _ in range(times):
        try:
            one()
        except Exception as error:
            ends[type(error).__name__] += 1
            notes = getattr(error, "__notes__", [])
        else:
            ends["answered"] += 1
    return ends, notes


def seen(name: str, target: str, loop: asyncio.AbstractEventLoop) -> Any:
    """Make the calls in one way."""
    breaker = kubelb.CircuitBreaker(minimum_calls=5)
    with kubelb.LoadBalancer(target, policy="round_robin", retry=kubelb.Retry(attempts=1), breaker=breaker) as lb:
        one = way_of(name, lb, loop)
        one(), one()
        gc.collect()  # what the way before has left would give its descriptors back in the middle
        gc.disable()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 3, hard))
        held = []
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        ends, notes = tried(one, 40)
        states = [view.state for view in lb.endpoints()]
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for each in held:
            os.close(each)
        gc.enable()
        after, _ = tried(one, 12)
        return ends, notes, states, after


if __name__ == "__main__":
    loop = asyncio.new_event_loop()
    target = "static:///" + ",".join(sys.argv[1:])
    print(json.dumps({way: seen(way, target, loop) for way in WAYS}))
