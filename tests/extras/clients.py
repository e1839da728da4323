"""Both transports of a client's module, mounted and alone, over HTTP/1.1; a task that is cancelled."""

import asyncio
import contextlib
from types import ModuleType
from typing import Any

import using

import kubelb
from kubelb.testing import LocalCluster

URL = "http://reviews.prod/"


async def soon(client: Any) -> None:
    async with client:
        answers = await asyncio.gather(*(client.get(URL) for _ in range(8)))
        assert {answer.status_code for answer in answers} == {200}
        task = asyncio.create_task(client.get(URL))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert (await client.post(URL, content=b"x")).status_code == 200


def use(httpx: ModuleType, adapter: ModuleType) -> None:
    """Make every kind of request with this module and kubelb's adapter for it."""

    async def awaited(lb: kubelb.LoadBalancer) -> None:
        await soon(httpx.AsyncClient(transport=adapter.AsyncTransport(lb), timeout=10))

    with LocalCluster() as cluster:
        cluster.service("reviews.prod:http", replicas=2)
        with using.balancer(cluster) as lb:
            with httpx.Client(mounts=adapter.mounts(lb), timeout=10) as client:
                assert [client.get(URL).status_code for _ in range(4)] == [200] * 4
            alone = httpx.Client(transport=adapter.Transport(lb), timeout=10)
            with alone as client, client.stream("GET", URL) as answer:
                assert b"".join(answer.iter_bytes()) is not None
            asyncio.run(awaited(lb))
            assert all(view.in_flight == 0 for view in lb.endpoints())
