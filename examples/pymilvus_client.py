"""pymilvus on a channel of kubelb's, against scripted pods. In a cluster only the target is another."""

import grpc
from pymilvus import MilvusClient
from pymilvus.grpc_gen import milvus_pb2 as wire

import kubelb
from kubelb.adapters.grpc import insecure_channel
from kubelb.testing import Backend, LocalCluster

MILVUS = "milvus.proto.milvus.MilvusService"


def main() -> None:
    with LocalCluster() as cluster:
        pods = cluster.service("milvus.prod:grpc", replicas=3, grpc=register)
        target = "static:///" + ",".join(pod.address for pod in pods)  # "milvus.prod:grpc" in a cluster
        with kubelb.LoadBalancer(target) as lb:

            def channel(address: str | None = None) -> grpc.Channel:
                """With the sizes that pymilvus allows, and what may be sent again: the handshake, and reads."""
                return insecure_channel(
                    lb,
                    options=[("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)],
                    idempotent=[f"/{MILVUS}/{name}" for name in ("Connect", "ShowCollections", "Query", "Search")],
                )

            client = MilvusClient("http://milvus.prod:19530", channel=channel(), dedicated=True)
            client._handler._create_grpc_channel = channel  # noqa: SLF001 - else it dials its `uri` after UNAVAILABLE

            print([client.list_collections()[0] for _ in range(6)])
            pods[0].kill()  # a dead pod is not the caller's business
            print([client.list_collections()[0] for _ in range(6)])
            for pod in pods:
                pod.fail(grpc.StatusCode.UNAVAILABLE, times=1)  # pymilvus tries again, on a new channel
            client.drop_collection("orders")
            print([client.list_collections()[0] for _ in range(6)])
            client.close()


def register(server: grpc.Server, backend: Backend) -> None:
    """What a pod answers: one collection, which has its name."""

    def connect(request: bytes, context: grpc.ServicerContext) -> bytes:
        return bytes(wire.ConnectResponse(identifier=7).SerializeToString())

    def show(request: bytes, context: grpc.ServicerContext) -> bytes:
        return bytes(wire.ShowCollectionsResponse(collection_names=[backend.name]).SerializeToString())

    def drop(request: bytes, context: grpc.ServicerContext) -> bytes:
        return b""

    answers = {"Connect": connect, "ShowCollections": show, "DropCollection": drop}
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]]
    handlers = {name: grpc.unary_unary_rpc_method_handler(answer) for name, answer in answers.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(MILVUS, handlers),))


if __name__ == "__main__":
    main()
