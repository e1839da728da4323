"""Asks 200 times through grpcio's own ring hash and through RingHash where a key goes; prints how often they agree.

A program of its own: grpcio reads the variable that allows a header to be the key when it is loaded.
"""

import json
import os
import random

os.environ["GRPC_EXPERIMENTAL_RING_HASH_SET_REQUEST_HASH_KEY"] = "true"

import grpc
from tests.adapters_grpc.servers import EchoServer

from kubelb import LoadBalancer, RingHash


def main() -> None:
    servers = [EchoServer() for _ in range(5)]
    ring = {"minRingSize": 5 * 128, "maxRingSize": 4096, "requestHashHeader": "x-user"}
    addresses = ",".join(server.address for server in servers)
    options = [("grpc.service_config", json.dumps({"loadBalancingConfig": [{"ring_hash_experimental": ring}]}))]
    lb = LoadBalancer(f"static:///{addresses}", policy=RingHash(virtual_nodes=128), rng=random.Random(1))
    agreed = 0
    with grpc.insecure_channel(f"ipv4:{addresses}", options) as channel, lb:
        echo = channel.unary_unary("/test.Echo/UU")
        for number in range(200):
            key = f"user-{number}"
            answer = echo(b"x", metadata=(("x-user", key),), timeout=20, wait_for_ready=True)
            agreed += answer == b"x@%d" % lb.call(lambda attempt: attempt.endpoint.port, key=key)
    for server in servers:
        server.stop()
    print(agreed)


if __name__ == "__main__":
    main()
