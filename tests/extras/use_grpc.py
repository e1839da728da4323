"""`kubelb[grpc]`: calls and streams, with threads and on asyncio."""

import asyncio

import using

import kubelb
from kubelb.adapters import grpc as threads
from kubelb.adapters.grpc import aio
from kubelb.testing import LocalCluster

UNARY, STREAM = "/kubelb.testing.Echo/Unary", "/kubelb.testing.Echo/ServerStream"


async def soon(lb: kubelb.LoadBalancer) -> None:
    async with aio.insecure_channel(lb) as channel:
        call = channel.unary_unary(UNARY)
        assert await asyncio.gather(*(call(b"x", timeout=10) for _ in range(8))) == [b"x"] * 8
        assert [message async for message in channel.unary_stream(STREAM)(b"x", timeout=10)]


with LocalCluster() as cluster:
    cluster.service("reviews.prod:grpc", replicas=2, grpc=True)
    with using.balancer(cluster, "grpc") as lb:
        with threads.insecure_channel(lb) as channel:
            call = channel.unary_unary(UNARY)
            assert [call(b"x", timeout=10) for _ in range(4)] == [b"x"] * 4
            assert call.future(b"y", timeout=10).result() == b"y"
            assert list(channel.unary_stream(STREAM)(b"x", timeout=10))
        asyncio.run(soon(lb))
using.done("grpcio")
