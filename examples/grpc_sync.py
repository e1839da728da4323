"""gRPC: every call picks its own pod. Runs without Kubernetes; in a cluster only the target is another."""

import grpc

import kubelb
from kubelb.adapters.grpc import insecure_channel
from kubelb.testing import LocalCluster


def main() -> None:
    with LocalCluster() as cluster:
        pods = cluster.service("reviews.prod:grpc", replicas=3, grpc=True)  # answers bytes with the same bytes
        target = "static:///" + ",".join(pod.address for pod in pods)  # "reviews.prod:grpc" in a cluster

        with kubelb.LoadBalancer(target) as lb, insecure_channel(lb) as channel:
            # With generated code: get = reviews_pb2_grpc.ReviewsStub(channel).Get
            get = channel.unary_unary("/kubelb.testing.Echo/Unary")
            for _ in range(30):
                get(b"ratings/7", timeout=2.0)

            futures = [get.future(b"ratings/8") for _ in range(10)]
            print(sum(future.result(timeout=2.0) == b"ratings/8" for future in futures), "futures answered")

            pods[0].kill()  # a dead pod is not the caller's business
            with kubelb.hints(idempotent=True):  # what may be sent again although it may have been processed
                print(get(b"ratings/9", timeout=2.0))

            stream = channel.unary_stream("/kubelb.testing.Echo/ServerStream")
            print(sum(1 for _ in stream(b"ratings/10")), "messages, status", end=" ")
            try:
                channel.unary_unary("/shop.Reviews/Missing")(b"")
            except grpc.RpcError as error:
                print(error.code().name)

            for endpoint in lb.endpoints():
                print(endpoint.address, endpoint.state, endpoint.picks, "picks")


if __name__ == "__main__":
    main()
