"""Any client that takes a host and a port: `call` picks, retries elsewhere and learns; here with a plain socket."""

import socket

import kubelb
from kubelb.testing import LocalCluster


def ask(attempt: kubelb.Attempt) -> str:
    """Speak HTTP/1.0 by hand; whatever raises OSError is tried on another endpoint, if that is safe."""
    with socket.create_connection(attempt.endpoint.address, timeout=attempt.timeout) as connection:
        connection.sendall(b"GET /ratings HTTP/1.0\r\nHost: reviews.prod\r\n\r\n")
        return connection.makefile("rb").readline().decode().strip()


def main() -> None:
    with LocalCluster() as cluster:
        backends = cluster.service("reviews.prod", replicas=3)
        target = "static:///" + ",".join(backend.address for backend in backends)  # "reviews.prod:http" in a cluster
        backends[0].refuse()
        with kubelb.LoadBalancer(target) as lb:
            for _ in range(5):
                print(lb.call(ask, idempotent=True, deadline=2.0))


if __name__ == "__main__":
    main()
