"""gRPC on asyncio: every call picks its own pod. Without Kubernetes; in a cluster only the target is another."""

import asyncio

import kubelb
from kubelb.adapters.grpc import aio
from kubelb.testing import LocalCluster


async def main() -> None:
    async with LocalCluster() as cluster:
        pods = cluster.service("reviews.prod:grpc", replicas=3, grpc=True)  # answers bytes with the same bytes
        target = "static:///" + ",".join(pod.address for pod in pods)  # "reviews.prod:grpc" in a cluster

        async with kubelb.LoadBalancer(target) as lb, aio.insecure_channel(lb) as channel:
            # With generated code: get = reviews_pb2_grpc.ReviewsStub(channel).Get
            get = channel.unary_unary("/kubelb.testing.Echo/Unary")
            answers = await asyncio.gather(*(get(b"ratings/7", timeout=2.0) for _ in range(30)))
            print(len(answers), "answers")

            stream = channel.unary_stream("/kubelb.testing.Echo/ServerStream")(b"ratings/8")
            print(len([message async for message in stream]), "messages, status", (await stream.code()).name)

            for endpoint in lb.endpoints():
                print(endpoint.address, endpoint.state, endpoint.picks, "picks")


if __name__ == "__main__":
    asyncio.run(main())
