"""How a gRPC backend answers: its counters and faults stay, its processes (`Life`) come and go."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import grpc

from kubelb.testing._grpc.echo import add_echo
from kubelb.testing._grpc.life import Life
from kubelb.testing._grpc.registry import Setup
from kubelb.testing.backend import Backend, Respond
from kubelb.testing.connection import Connection
from kubelb.testing.responder import Responder
from kubelb.testing.threads import Threads

Register: TypeAlias = Callable[[grpc.Server, Backend], None]
"""Adds servicers to the server of a backend."""


def respond_by(
    register: Register | None, pair: tuple[bytes, bytes] | None, clients: bytes | None, threads: Threads
) -> Respond:
    """What makes the responders of one service.

    `register` None is the echo service; `pair` is its key and certificate; `clients` the authority of those that it
    wants from its clients.
    """
    credentials = None
    if pair is not None:
        credentials = grpc.ssl_server_credentials([pair], clients, require_client_auth=clients is not None)

    def respond(backend: Backend) -> Responder:
        setup = add_echo if register is None else partial(_register, register, backend)
        return GrpcResponder(backend.name, setup, credentials, threads)

    return respond


def _register(register: Register, backend: Backend, server: grpc.Server) -> None:
    register(server, backend)


class GrpcResponder(Responder):
    """Serves the connections of one backend. `setup` adds servicers to the server of each of its lives."""

    def __init__(self, name: str, setup: Setup, credentials: grpc.ServerCredentials | None, threads: Threads) -> None:
        super().__init__(name)
        self._setup = setup
        self._credentials = credentials
        self._threads = threads
        self._lives: list[Life] = []  # the last one, and earlier ones that are still coming to their end
        self._closed = False

    def failure(self, status: Any) -> dict[str, Any]:
        code = grpc.StatusCode.UNAVAILABLE if status is None else status
        if not isinstance(code, grpc.StatusCode) or code is grpc.StatusCode.OK:
            raise TypeError(f"a gRPC backend fails with a grpc.StatusCode that is not OK, not with {status!r}")
        return {"code": code}

    def start(self) -> None:
        self._lives = [life for life in self._lives if not life.ended]
        self._lives.append(Life(self, self._setup, self._credentials, self._threads))

    def serve(self, connection: Connection) -> None:
        if self._lives:  # else a client has found the port before it was given out
            self._lives[-1].serve(connection)

    def heal(self) -> None:
        super().heal()
        if self._closed or not self._lives:
            return
        if self._lives[-1].ending:
            self.start()
        else:
            self._lives[-1].traffic.ring()

    def die(self) -> None:
        super().die()
        for life in self._lives:
            life.traffic.die()

    def settle(self) -> None:
        for life in self._lives:
            life.traffic.settle()

    def go_away(self, seconds: float) -> None:
        if self._lives and not self._lives[-1].ending:
            self._lives[-1].go_away(seconds)

    def say_goodbye(self, seconds: float) -> bool:
        for life in self._lives:
            life.stop(seconds)
        return True

    def bury(self, *, for_good: bool = False) -> None:
        self._closed = self._closed or for_good
        for life in self._lives:
            life.stop(0.0)

    def join(self, until: float) -> None:
        for life in self._lives:
            life.join(until)
