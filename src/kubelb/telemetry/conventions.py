"""What a call is named in metrics and spans, by OpenTelemetry's semantic conventions for HTTP and RPC clients.

The names stand in `names.py`. The address of a service is its logical one; the pod that was dialled is told on spans
alone. Of a URL neither credentials nor query are told, of an exception only its type: either may hold what no other
eyes should read.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from kubelb.core.events import OTHER
from kubelb.errors import error_type
from kubelb.itself import __version__
from kubelb.masking import safe_url
from kubelb.telemetry.names import (
    CALL,
    ERROR,
    HTTP,
    METHOD,
    RPC,
    RPC_METHOD,
    RPC_STATUS,
    RPC_SYSTEM,
    SCHEME,
    SERVER,
    SERVER_PORT,
    SERVICE,
    STATUS,
)

__all__ = [
    "BUCKETS",
    "Wire",
    "http",
    "http_answer",
    "plain",
    "raised",
    "rpc",
    "rpc_answer",
    "safe_url",
    "scope",
]

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""Seconds; what the conventions recommend for both."""

METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class Wire(NamedTuple):
    """What one call speaks."""

    duration: str
    """Name of the histogram; "" where an instrumentation of the client records one of its own."""
    name: str
    """Of an attempt's span."""
    client: bool
    """Whether an attempt is a request on the wire, as far as is known."""
    attributes: dict[str, Any]
    """Of few values: of the histogram, and of attempts."""
    raised: Callable[[BaseException], dict[str, Any]]
    """Says what an exception means."""
    url: Any = None
    """For attempts."""


def http(method: str, scheme: str, host: str, port: int | None, url: Any, *, instrumented: bool) -> Wire:
    """Describe an HTTP request."""
    known = method if method in METHODS else OTHER
    attributes = {
        METHOD: known,
        SERVER: host,
        SERVER_PORT: port or _PORTS.get(scheme, 0),
        SCHEME: scheme,
    }
    return Wire("" if instrumented else HTTP, known if known is method else "HTTP", True, attributes, raised, url)


def rpc(method: str, host: str, port: str | int) -> Wire:
    """Describe a gRPC call; `method` is a full name, ``/pkg.Service/Method``."""
    name = method.lstrip("/")
    attributes: dict[str, Any] = {RPC_SYSTEM: "grpc", RPC_METHOD: name}
    if host:
        attributes[SERVER] = host
    if isinstance(port, int):
        attributes[SERVER_PORT] = port
    return Wire(RPC, name, True, attributes, rpc_raised)


def plain(service: str) -> Wire:
    """Describe a call by a function of the user's, which may well make client spans of its own."""
    return Wire(CALL, "attempt", False, {SERVICE: service}, raised)


def raised(error: BaseException) -> dict[str, Any]:
    """Return what an exception says: its type, and nothing of its text."""
    return {ERROR: error_type(error)}


def rpc_raised(error: BaseException) -> dict[str, Any]:
    """Return what a gRPC error says: its status."""
    code = getattr(error, "code", None)
    name = getattr(code(), "name", None) if callable(code) else None
    return raised(error) if name is None else rpc_answer(name)


def scope() -> tuple[str, str]:
    """Return name and version of the instrumentation scope."""
    return "kubelb", __version__


def http_answer(status: int) -> dict[str, Any]:
    """Return what a response says; to a client every status from 400 on is an error."""
    if status < 400:
        return {STATUS: status}
    return {STATUS: status, ERROR: str(status)}


def rpc_answer(code: str) -> dict[str, Any]:
    """Return what a gRPC status says, by its name."""
    if code == "OK":
        return {RPC_STATUS: code}
    return {RPC_STATUS: code, ERROR: code}
