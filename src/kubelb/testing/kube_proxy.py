"""What stands behind the ClusterIP of a test cluster's Service: a kube-proxy of a few lines, on loopback.

Each new connection goes to a random ready pod and stays there; where none is ready, to one that still serves while it
terminates (KEP-1669). Pods are read from the EndpointSlices at that moment.

Where it differs from the real one: it can only accept, so a Service without a pod, and a pod that refuses, are a
connection that is reset. And it dials loopback alone: a slice that was written by hand may name any address, and a test
must never send a packet off this machine.

An address of a private network would not do for a ClusterIP: a client that fell back on it would dial into whatever
network the machine is in.
"""

from __future__ import annotations

import errno
import ipaddress
import random
import selectors
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from kubelb.testing.addresses import Addresses
from kubelb.testing.connection import RECV, Connection
from kubelb.testing.doorman import Doorman
from kubelb.testing.server import Server

__all__ = ["CLUSTER_PORT", "KubeProxy", "ready_addresses"]

Address: TypeAlias = tuple[str, int]
Slices: TypeAlias = Iterable[Mapping[str, Any]]

CLUSTER_PORT = 80
"""The port of a Service for which none was asked, where this process may listen there."""
TRIES = 8
"""Addresses that are tried for a port: another cluster may sit on some of them."""
DIAL = 5.0
"""Seconds for a connection to a pod."""


def ready_addresses(slices: Slices) -> list[Address]:
    """Return what kube-proxy would send new connections to, as far as it is on loopback."""
    ready: list[Address] = []
    draining: list[Address] = []
    for slice_ in slices:
        if not slice_.get("ports") or slice_.get("addressType", "IPv4") != "IPv4":
            continue
        for endpoint in slice_["endpoints"] or ():
            conditions = endpoint.get("conditions") or {}
            address = endpoint["addresses"][0], slice_["ports"][0]["port"]
            if not _on_loopback(address[0]):
                continue
            if conditions.get("ready", True):
                ready.append(address)
            elif conditions.get("serving") and conditions.get("terminating"):
                draining.append(address)
    return ready or draining


class KubeProxy:
    """The address of one Service. `slices` gives its slices, asked anew for each connection.

    `port` is the Service's own; None takes 80, or any other where this process may not listen there. Where a port was
    asked for that this process may not have (below 1024, for an ordinary user), the address refuses connections, as a
    ClusterIP does without a kube-proxy. `listens` False: it refuses them in any case.
    """

    def __init__(
        self, doorman: Doorman, addresses: Addresses, slices: Callable[[], Slices], port: int | None, *, listens: bool
    ) -> None:
        self._slices = slices
        self._server: Server | None = None
        self.host = addresses.next()
        self.port = CLUSTER_PORT if port is None else port
        for _ in range(TRIES if listens else 0):
            try:
                self._server = self._open(doorman, port)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or addresses.single:
                    self.host = addresses.unused()
                    return
                self.host = addresses.next()
            else:
                return
        if listens:
            raise RuntimeError(f"port={port}: a server of this machine has it on every address; give another one")

    def _open(self, doorman: Doorman, port: int | None) -> Server:
        try:
            return Server(doorman, self.host, self.port, self._serve, name="kubelb-testing-proxy")
        except OSError:
            if port is not None:
                raise
        server = Server(doorman, self.host, None, self._serve, name="kubelb-testing-proxy")
        self.port = server.port
        return server

    def shut(self) -> None:
        """Listen no more, and end every connection."""
        if self._server is not None:
            self._server.shut()

    def join(self, until: float) -> None:
        """Wait for the threads of connections, no longer than to `until` (`time.monotonic()`)."""
        if self._server is not None:
            self._server.join(until)

    def _serve(self, connection: Connection) -> None:
        addresses = ready_addresses(self._slices())
        if not addresses:
            connection.reset()
            return
        try:
            pod = socket.create_connection(random.choice(addresses), timeout=DIAL)
        except OSError:
            connection.reset()
            return
        with pod:
            pod.settimeout(None)
            pod.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                _carry(connection.sock, pod)
            except OSError:  # what one end met is what the other is told
                connection.reset()


def _carry(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways, and the end of each direction as an end, until both have ended."""
    with selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while selector.get_map():
            for key, _ in selector.select():
                source, sink = key.fileobj, key.data
                assert isinstance(source, socket.socket)
                if data := source.recv(RECV):
                    sink.sendall(data)
                else:
                    selector.unregister(source)
                    sink.shutdown(socket.SHUT_WR)


def _on_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
