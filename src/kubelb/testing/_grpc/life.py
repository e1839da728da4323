"""One life of a gRPC pod: from outside it looks like a process.

It is a `grpc.Server` of its own on a hidden port, with servicers of its own, and its `Traffic`. When the life ends it
stays dead: what its threads still do is counted nowhere and heard nowhere.
"""

from __future__ import annotations

import threading
import time
from typing import Any, cast

import grpc

from kubelb.testing._grpc.interceptor import Interceptor
from kubelb.testing._grpc.registry import Registry, Setup
from kubelb.testing._grpc.traffic import Traffic
from kubelb.testing.connection import Connection
from kubelb.testing.responder import Responder
from kubelb.testing.threads import Threads

HOST = "127.0.0.1"


class Life:
    """Serves from the constructor on. Raises what `setup` raises."""

    def __init__(
        self,
        responder: Responder,
        setup: Setup,
        credentials: grpc.ServerCredentials | None,
        threads: Threads,
    ) -> None:
        self.traffic = Traffic(responder)
        self._credentials = credentials
        self._threads = threads
        self._stopped: threading.Event | None = None
        self._left: dict[grpc.Server, threading.Event] = {}  # said GOAWAY, with what is still under way there
        server = self._new_server()
        self._registry = Registry(server)
        setup(self._registry)
        self._listen(server)

    def _new_server(self) -> grpc.Server:
        return grpc.server(
            cast("Any", self._threads),  # declared as a ThreadPoolExecutor; only `submit` is called
            interceptors=[Interceptor(self.traffic)],
            options=[("grpc.so_reuseport", 0)],
        )

    def _listen(self, server: grpc.Server) -> None:
        """From now on tunnels lead to this one."""
        if self._credentials is None:
            port = server.add_insecure_port(f"{HOST}:0")
        else:
            port = server.add_secure_port(f"{HOST}:0", self._credentials)
        server.start()
        self._server, self._address = server, (HOST, port)

    @property
    def ending(self) -> bool:
        """Dead, or about to be: no new call reaches it."""
        return self.traffic.dead or self._stopped is not None

    @property
    def ended(self) -> bool:
        """Its server has stopped."""
        return self._stopped is not None and self._stopped.is_set()

    def serve(self, connection: Connection) -> None:
        """Lead one connection to the server, until either side ends."""
        self.traffic.lead(connection, self._address)

    # -- its end

    def go_away(self, grace: float) -> None:
        """GOAWAY to all there are; new connections find the same servicers. `grace` as for `stop`."""
        left, server = self._server, self._new_server()
        self._registry.repeat(server)
        self._listen(server)
        self._left = {server: gone for server, gone in self._left.items() if not gone.is_set()}
        self._left[left] = left.stop(grace)

    def stop(self, grace: float) -> None:
        """As on SIGTERM: GOAWAY to all, no new connection; after `grace` seconds calls under way are cancelled."""
        self._stopped = self._server.stop(grace)
        for server in self._left:
            server.stop(grace)  # of two graces the shorter one holds

    def join(self, until: float) -> None:
        """Wait until the server has stopped, no longer than to `until` (`time.monotonic()`)."""
        if self._stopped is not None:
            for gone in (self._stopped, *self._left.values()):
                gone.wait(max(0.0, until - time.monotonic()))
