"""httpx with asyncio: a hundred requests at once, each on a pod of its own choice. Runs without Kubernetes."""

import asyncio
from collections import Counter

import httpx

import kubelb
from kubelb.adapters.httpx import async_mounts
from kubelb.testing import LocalCluster


async def main() -> None:
    async with LocalCluster() as cluster:
        backends = cluster.service("reviews.prod", replicas=3)
        target = "static:///" + ",".join(backend.address for backend in backends)  # "reviews.prod:http" in a cluster

        lb = kubelb.LoadBalancer(target, policy="least_request")
        # In a cluster the names are those of the Service, and async_mounts(lb) is enough.
        async with lb, httpx.AsyncClient(mounts=async_mounts(lb, hosts=["reviews.prod"])) as client:
            responses = await asyncio.gather(*(client.get("http://reviews.prod/ratings") for _ in range(100)))
            print(Counter(response.json()["backend"] for response in responses))


if __name__ == "__main__":
    asyncio.run(main())
