"""A pod that speaks both: a TCP front that leads a connection to a gRPC server or to an HTTP one by its first bytes."""

import socket

from tests.forwarding import Forwarder, lead

__all__ = ["Front"]

PREFACE = b"PRI * HT"
"""What every connection of HTTP/2 begins with, cut to the length of the shortest request that could come instead."""


class Front(Forwarder):
    """Listens on an address of its own, in front of two of a LocalCluster's pods. `address` is where."""

    def __init__(self, http: str, grpc: str) -> None:
        self._places = {True: grpc, False: http}
        super().__init__(self._choose)

    def _choose(self, client: socket.socket) -> None:
        first = b""
        while len(first) < len(PREFACE):
            first += (data := client.recv(65536))
            if not data:
                return
        lead(client, self._places[first.startswith(PREFACE)], first)
