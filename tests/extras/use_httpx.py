"""`kubelb[httpx]`: both transports, mounted and alone, over HTTP/1.1; a task that is cancelled."""

import asyncio
import contextlib

import httpx
import using

import kubelb
from kubelb.adapters.httpx import AsyncTransport, Transport, mounts
from kubelb.testing import LocalCluster

URL = "http://reviews.prod/"


async def soon(lb: kubelb.LoadBalancer) -> None:
    async with httpx.AsyncClient(transport=AsyncTransport(lb), timeout=10) as client:
        answers = await asyncio.gather(*(client.get(URL) for _ in range(8)))
        assert {answer.status_code for answer in answers} == {200}
        task = asyncio.create_task(client.get(URL))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert (await client.post(URL, content=b"x")).status_code == 200


with LocalCluster() as cluster:
    cluster.service("reviews.prod:http", replicas=2)
    with using.balancer(cluster) as lb:
        with httpx.Client(mounts=mounts(lb), timeout=10) as client:
            assert [client.get(URL).status_code for _ in range(4)] == [200] * 4
        with httpx.Client(transport=Transport(lb), timeout=10) as client, client.stream("GET", URL) as answer:
            assert b"".join(answer.iter_bytes()) is not None
        asyncio.run(soon(lb))
        assert all(view.in_flight == 0 for view in lb.endpoints())
using.done("httpx", "httpcore", "anyio", "sniffio")
