"""Pub/Sub's clients on a channel of kubelb's, against scripted pods. In a cluster only the target is another."""

import threading
from collections.abc import Iterator
from typing import Any

import grpc
from google.cloud import pubsub_v1
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
from google.pubsub_v1.types import pubsub as wire

import kubelb
from kubelb.adapters.grpc import insecure_channel
from kubelb.testing import Backend, LocalCluster

TOPIC, SUBSCRIPTION = "projects/shop/topics/orders", "projects/shop/subscriptions/orders"


def main() -> None:
    with LocalCluster() as cluster:
        pods = cluster.service("pubsub.prod:grpc", replicas=3, grpc=register)
        target = "static:///" + ",".join(pod.address for pod in pods)  # "pubsub.prod:grpc" in a cluster
        with kubelb.LoadBalancer(target) as lb:
            # One line for each: the transport takes a channel.
            publisher = pubsub_v1.PublisherClient(transport=PublisherGrpcTransport(channel=insecure_channel(lb)))
            subscriber = pubsub_v1.SubscriberClient(transport=SubscriberGrpcTransport(channel=insecure_channel(lb)))

            for number in range(30):
                print(publisher.publish(TOPIC, b"order %d" % number).result(timeout=20), end=" ")
            print()

            two = threading.Semaphore(0)

            def callback(message: pubsub_v1.subscriber.message.Message) -> None:
                print("got", message.data.decode())
                message.ack()
                two.release()

            subscription = subscriber.subscribe(SUBSCRIPTION, callback)
            two.acquire(timeout=20)
            next(pod for pod in pods if pod.in_flight).kill()  # the client opens its stream again: on another pod
            two.acquire(timeout=20)
            subscription.cancel()
            subscription.result(timeout=20)
            publisher.stop()
            publisher.transport.close()
            subscriber.close()


def register(server: grpc.Server, backend: Backend) -> None:
    """What a pod answers: ids with its name, and one message on each stream."""

    def publish(request: wire.PublishRequest, context: grpc.ServicerContext) -> wire.PublishResponse:
        return wire.PublishResponse(message_ids=[backend.name for _ in request.messages])

    def pull(requests: Iterator[object], context: grpc.ServicerContext) -> Iterator[wire.StreamingPullResponse]:
        over = threading.Event()
        context.add_callback(over.set)
        message = wire.PubsubMessage(data=f"an order from {backend.name}".encode())
        yield wire.StreamingPullResponse(received_messages=[wire.ReceivedMessage(ack_id="1", message=message)])
        over.wait()

    def nothing(request: object, context: grpc.ServicerContext) -> bytes:
        return b""

    asked, answered = wire.PublishRequest.deserialize, wire.PublishResponse.serialize
    one: Any = grpc.unary_unary_rpc_method_handler(publish, asked, answered)
    many: Any = grpc.stream_stream_rpc_method_handler(pull, None, wire.StreamingPullResponse.serialize)
    rest: Any = grpc.unary_unary_rpc_method_handler(nothing)
    handlers = {"StreamingPull": many, "Acknowledge": rest, "ModifyAckDeadline": rest}
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", {"Publish": one}),
            grpc.method_handlers_generic_handler("google.pubsub.v1.Subscriber", handlers),
        )
    )


if __name__ == "__main__":
    main()
