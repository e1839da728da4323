"""The server that servicers are added to: the real one, and a list of what was added, for a server that follows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import grpc

Setup = Callable[[grpc.Server], None]
"""Adds servicers."""


class Registry(grpc.Server):
    """Wraps a `grpc.Server` while servicers are added."""

    def __init__(self, server: grpc.Server) -> None:
        self._server = server
        self._added: list[Callable[[grpc.Server], None]] = []

    def repeat(self, server: grpc.Server) -> None:
        """Add the same servicers to another server, so that it goes on where the first one is left."""
        for add in self._added:
            add(server)

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        handlers = tuple(generic_rpc_handlers)
        self._add(lambda server: server.add_generic_rpc_handlers(handlers))

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        self._add(lambda server: server.add_registered_method_handlers(service_name, method_handlers))

    def _add(self, add: Callable[[Any], None]) -> None:
        add(self._server)
        self._added.append(add)

    # Its port is the backend's, which also starts and stops it.

    def add_insecure_port(self, address: str) -> int:
        return self._server.add_insecure_port(address)

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        return self._server.add_secure_port(address, server_credentials)

    def start(self) -> None:
        self._server.start()

    def stop(self, grace: float | None) -> Any:
        return self._server.stop(grace)

    def wait_for_termination(self, timeout: float | None = None) -> bool:
        return self._server.wait_for_termination(timeout)
