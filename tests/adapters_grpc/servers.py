"""Real gRPC servers on loopback that say who they are, count what they are given, and do as they are told."""

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc

__all__ = ["EchoServer", "free_port"]

Behave = Callable[[str, grpc.ServicerContext], None]
"""Called when a call enters its handler, with the method; may sleep, abort, set metadata."""


class EchoServer:
    """Answers bytes with bytes: `/test.Echo/{UU,US,SU,SS}`; a stream of responses has three messages."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0, credentials: Any = None, options: Any = ()) -> None:
        self.name = b""
        self.delivered: Counter[str] = Counter()
        self.metadata: list[dict[str, Any]] = []
        self.active = 0
        self.behave: Behave = lambda method, context: None
        self.between: Callable[[int], None] = lambda number: None
        """Called before each message of a stream of responses."""
        self._lock = threading.Lock()
        self._host = host
        self._credentials = credentials
        self._options = [("grpc.so_reuseport", 0), *options]
        self.port = port
        self.server: grpc.Server | None = None
        self.start()

    @property
    def address(self) -> str:
        return f"[{self._host}]:{self.port}" if ":" in self._host else f"{self._host}:{self.port}"

    @property
    def total(self) -> int:
        return sum(self.delivered.values())

    def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        self._pool = futures.ThreadPoolExecutor(64)
        self.server = grpc.server(self._pool, options=self._options)
        self.server.add_generic_rpc_handlers((_Generic(self),))
        bind = self.server.add_secure_port if self._credentials else self.server.add_insecure_port
        self.port = bind(self.address, *([self._credentials] if self._credentials else []))
        self.name = b"%d" % self.port
        self.server.start()

    def stop(self, grace: float | None = None) -> None:
        """GOAWAY, then `grace` seconds for what runs."""
        if self.server is not None:
            self.server.stop(grace).wait(5 + (grace or 0))
            self.server = None
            self._pool.shutdown(wait=False)

    def entered(self, method: str, context: grpc.ServicerContext) -> None:
        with self._lock:
            self.delivered[method] += 1
            self.metadata.append(dict(context.invocation_metadata()))
            self.active += 1

        def left() -> None:
            with self._lock:
                self.active -= 1

        if not context.add_callback(left):
            left()
        self.behave(method, context)


class _Generic(grpc.GenericRpcHandler):
    def __init__(self, server: EchoServer) -> None:
        self._server = server

    def service(self, details: Any) -> Any:
        server = self._server

        def uu(request: bytes, context: Any) -> bytes:
            server.entered("UU", context)
            return request + b"@" + server.name

        def us(request: bytes, context: Any) -> Iterator[bytes]:
            server.entered("US", context)
            for number in range(3):
                server.between(number)
                yield request + b"%d" % number

        def su(requests: Iterator[bytes], context: Any) -> bytes:
            server.entered("SU", context)
            return b",".join(requests)

        def ss(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
            server.entered("SS", context)
            for number, request in enumerate(requests):
                server.between(number)
                yield request + b"@" + server.name

        handlers = {
            "/test.Echo/UU": grpc.unary_unary_rpc_method_handler(uu),
            "/test.Echo/US": grpc.unary_stream_rpc_method_handler(us),
            "/test.Echo/SU": grpc.stream_unary_rpc_method_handler(su),
            "/test.Echo/SS": grpc.stream_stream_rpc_method_handler(ss),
        }
        return handlers.get(details.method)


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])
