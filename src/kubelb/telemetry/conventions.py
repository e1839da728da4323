"""What a call is named in metrics and spans, by OpenTelemetry's semantic conventions for HTTP and RPC clients.

HTTP's are stable; RPC's are a release candidate and may move, so every name stands here. The address of a service is
its logical one; the pod that was dialled is `network.peer.address`, on spans alone. Of a URL neither credentials nor
query are told, of an exception only its type: either may hold what no other eyes should read.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from kubelb.errors import NeverSent
from kubelb.itself import __version__
from kubelb.masking import safe_url
from kubelb.telemetry.instruments import OTHER

__all__ = [
    "BUCKETS",
    "CALL",
    "HTTP",
    "RPC",
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

HTTP = "http.client.request.duration"
RPC = "rpc.client.call.duration"
CALL = "kubelb.call.duration"
"""Of `LoadBalancer.call`, which does not know what its function speaks."""

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
        "http.request.method": known,
        "server.address": host,
        "server.port": port or _PORTS.get(scheme, 0),
        "url.scheme": scheme,
    }
    return Wire("" if instrumented else HTTP, known if known is method else "HTTP", True, attributes, raised, url)


def rpc(method: str, host: str, port: str | int) -> Wire:
    """Describe a gRPC call; `method` is a full name, ``/pkg.Service/Method``."""
    name = method.lstrip("/")
    attributes: dict[str, Any] = {"rpc.system.name": "grpc", "rpc.method": name}
    if host:
        attributes["server.address"] = host
    if isinstance(port, int):
        attributes["server.port"] = port
    return Wire(RPC, name, True, attributes, rpc_raised)


def plain(service: str) -> Wire:
    """Describe a call by a function of the user's, which may well make client spans of its own."""
    return Wire(CALL, "attempt", False, {"kubelb.service": service}, raised)


def raised(error: BaseException) -> dict[str, Any]:
    """Return what an exception says: the full name of its class, and nothing of its text.

    Of a `NeverSent` that is the exception which it was raised from, as for the caller.
    """
    kind = type(error.__cause__ or error) if isinstance(error, NeverSent) else type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return {"error.type": name}


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
        return {"http.response.status_code": status}
    return {"http.response.status_code": status, "error.type": str(status)}


def rpc_answer(code: str) -> dict[str, Any]:
    """Return what a gRPC status says, by its name."""
    if code == "OK":
        return {"rpc.response.status_code": code}
    return {"rpc.response.status_code": code, "error.type": code}
