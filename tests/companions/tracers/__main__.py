"""`python -m tests.companions.tracers NAME`: prints what this tracer saw of each client's requests, as JSON."""

import asyncio
import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

URL = "http://reviews.prod/ratings/7"


def main(name: str) -> None:
    tracer: Any = importlib.import_module(f"tests.companions.tracers.{name}")
    record = tracer.start()
    from tests.companions.pods import serving

    seen: dict[str, Any] = {}
    with serving("reviews.prod") as (service, lb):
        for client, get in clients(lb):
            for failing in (False, True):
                for pod in service:
                    pod.heal()
                    pod.clear()
                    if failing:
                        pod.fail(503)
                spans = record(get)
                sent = [request.headers.get(tracer.HEADER, "") for pod in service for request in pod.log]
                seen[f"{client}, failing" if failing else client] = {"spans": spans, "sent": sent}
    print(json.dumps({"traces": tracer.TRACES, "seen": seen}))


def clients(lb: Any) -> list[tuple[str, Callable[[], object]]]:
    """One request by each client. They are imported here, after the tracer, as its manual wants it."""
    import httpx
    import httpx2
    import requests

    from kubelb.adapters import httpx as adapter
    from kubelb.adapters import httpx2 as twin
    from kubelb.adapters.requests import mount

    def by_httpx() -> None:
        with httpx.Client(mounts=adapter.mounts(lb)) as client:
            client.get(URL)

    def by_httpx2() -> None:
        with httpx2.Client(mounts=twin.mounts(lb)) as client:
            client.get(URL)

    async def by_asyncio() -> None:
        async with httpx.AsyncClient(mounts=adapter.async_mounts(lb)) as client:
            await client.get(URL)

    def by_requests() -> None:
        with requests.Session() as session:
            mount(session, lb)
            session.get(URL, timeout=5)

    return [
        ("httpx", by_httpx),
        ("httpx2", by_httpx2),
        ("httpx async", lambda: asyncio.run(by_asyncio())),
        ("requests", by_requests),
    ]


main(sys.argv[1])
