"""The service that `grpc=True` gives: bytes in, bytes out, no generated code.

`/kubelb.testing.Echo/Unary` and `/BidiStream` answer each message with itself; `/ClientStream` answers all of them with
one that holds them together; `/ServerStream` repeats its one message as often as the metadata `x-messages` says (3),
`x-delay` seconds (0) before each.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import grpc

SERVICE = "kubelb.testing.Echo"


def add_echo(server: grpc.Server) -> None:
    """Register the service."""
    handlers: dict[str, Any] = {
        "Unary": grpc.unary_unary_rpc_method_handler(_unary),
        "ServerStream": grpc.unary_stream_rpc_method_handler(_server_stream),
        "ClientStream": grpc.stream_unary_rpc_method_handler(_client_stream),
        "BidiStream": grpc.stream_stream_rpc_method_handler(_bidi_stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


def _unary(request: bytes, _: grpc.ServicerContext) -> bytes:
    return request


def _server_stream(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    asked = {name: str(value) for name, value in context.invocation_metadata() or ()}
    try:
        messages, delay = int(asked.get("x-messages", "3")), float(asked.get("x-delay", "0"))
    except ValueError:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "x-messages and x-delay are numbers")
    over = threading.Event()
    context.add_callback(over.set)
    for _ in range(messages):
        if over.wait(delay):
            return
        yield request


def _client_stream(requests: Iterator[bytes], _: grpc.ServicerContext) -> bytes:
    return b"".join(requests)


def _bidi_stream(requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
    yield from requests
