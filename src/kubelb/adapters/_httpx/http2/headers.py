"""A request's fields as HTTP/2 has them, and a response's as httpcore has them."""

from collections.abc import Iterable
from typing import Any

__all__ = ["Fields", "body_length", "request_fields", "split_status"]

Fields = list[tuple[bytes, bytes]]

_CONNECTION = frozenset(
    {b"host", b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"http2-settings"}
)
"""Of one connection of HTTP/1.1, and malformed in HTTP/2 (RFC 9113, 8.2.2)."""


def request_fields(request: Any) -> tuple[Fields, bool]:
    """Return the fields, and whether a body follows."""
    url = request.url
    authority, body = url.host, False
    rest: Fields = []
    for name, value in request.headers:
        name = name.lower()  # noqa: PLW2901
        if name in _CONNECTION:
            if name == b"host":
                authority = value
            elif name == b"transfer-encoding":
                body = True
        elif name != b"te" or value.strip().lower() == b"trailers":
            if name == b"content-length" and value != b"0":
                body = True
            rest.append((name, value))
    scheme = {b"ws": b"http", b"wss": b"https"}.get(url.scheme, url.scheme)
    head = [(b":method", request.method), (b":authority", authority), (b":scheme", scheme), (b":path", url.target)]
    return head + rest, body


def split_status(fields: Iterable[tuple[bytes, bytes]]) -> tuple[int, Fields]:
    """Return status and headers of a response; ValueError where there is no status, or none of three digits."""
    status, headers = 0, []
    for name, value in fields:
        if name == b":status":
            status = int(value) if value.isdigit() else 0
        elif not name.startswith(b":"):
            headers.append((bytes(name), bytes(value)))
    if not 100 <= status <= 999:
        raise ValueError(f"status {status}")
    return status, headers


def body_length(method: bytes, status: int, headers: Fields) -> int | None:
    """Return how long the body says that it is; None where it does not say."""
    if method == b"HEAD" or status in {204, 304}:
        return None
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return None
