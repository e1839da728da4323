"""qdrant-client over HTTP and over gRPC, against scripted pods. In a cluster only the targets are others."""

import json

import grpc
from qdrant_client import QdrantClient
from qdrant_client import grpc as wire

import kubelb
from kubelb.adapters.grpc import insecure_channel
from kubelb.adapters.httpx import Transport
from kubelb.testing import Backend, LocalCluster, Received, Reply, Service

URL = "http://qdrant.prod:6333"
COLLECTIONS = "qdrant.Collections"


def main() -> None:
    with LocalCluster() as cluster:
        by_http(cluster.service("qdrant.prod:http", replicas=3, handler=answer))
        by_grpc(cluster.service("vectors.prod:grpc", replicas=3, grpc=register))


def by_http(pods: Service) -> None:
    with kubelb.LoadBalancer(target(pods)) as lb:  # "qdrant.prod:http" in a cluster
        client = QdrantClient(url=URL, transport=Transport(lb), check_compatibility=False)
        pods[0].kill()  # a dead pod is not the caller's business
        print({client.get_collections().collections[0].name for _ in range(10)}, [pod.requests for pod in pods])
        client.close()


def by_grpc(pods: Service) -> None:
    with kubelb.LoadBalancer(target(pods)) as lb:  # "qdrant.prod:grpc" in a cluster
        client = QdrantClient(url=URL, prefer_grpc=True, pool_size=1, check_compatibility=False)
        client._client._grpc_channel_pool = [insecure_channel(lb, idempotent=[f"/{COLLECTIONS}/List"])]  # type: ignore[attr-defined]  # noqa: SLF001
        pods[0].kill()
        print({client.get_collections().collections[0].name for _ in range(10)})
        client.close()


def target(pods: Service) -> str:
    return "static:///" + ",".join(pod.address for pod in pods)


def answer(request: Received) -> Reply:
    """What a pod answers over HTTP."""
    body = {"result": {"collections": [{"name": "reviews"}]}, "status": "ok", "time": 0.0}
    return Reply(200, json.dumps(body), {"content-type": "application/json"})


def register(server: grpc.Server, backend: Backend) -> None:
    """What a pod answers over gRPC: one collection, which has its name."""

    def show(request: bytes, context: grpc.ServicerContext) -> bytes:
        mine = wire.CollectionDescription(name=backend.name)
        return bytes(wire.ListCollectionsResponse(collections=[mine]).SerializeToString())

    list_: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(show)
    handlers = {"List": list_}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(COLLECTIONS, handlers),))


if __name__ == "__main__":
    main()
