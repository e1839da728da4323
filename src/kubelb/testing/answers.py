"""What a backend replies when nothing is wrong with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import msgspec

from kubelb.testing.http1 import REASONS, Received, Reply

Handler = Callable[[Received], Reply]
MAX_PATHS = 10_000
_BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
_encode = msgspec.json.Encoder().encode


class Tally:
    """How often each path was asked for; forgets the oldest beyond ten thousand paths."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}

    def count(self, path: str) -> int:
        """One more; the number with this one."""
        with self._lock:
            counts = self._counts
            number = counts.get(path, 0) + 1
            counts[path] = number
            if len(counts) > MAX_PATHS:
                del counts[next(iter(counts))]
            return number

    def as_dict(self) -> dict[str, int]:
        """A copy."""
        with self._lock:
            return dict(self._counts)


def document(request: Received, backend: str, attempt: int) -> tuple[str, bytes]:
    """Content type and body of the usual answer; `/echo` returns the request's body as it came."""
    path = request.path
    if request.method in _BODY_METHODS:
        if path == "/echo":
            return request.headers.get("content-type", "application/octet-stream"), request.body
        shown = {
            "backend": backend,
            "method": request.method,
            "path": path,
            "attempt": attempt,
            "length": len(request.body),
            "body": request.body.decode("utf-8", "replace"),
        }
        return "application/json", _encode(shown)
    shown = {"backend": backend, "method": request.method, "path": path, "attempt": attempt}
    return "application/json", _encode(shown)


def render(
    status: int,
    content_type: str,
    body: bytes,
    *,
    backend: str,
    method: str,
    close: bool,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """The whole response in one piece of bytes: one write, one packet."""
    bodiless = status in (204, 304)
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}\r\nx-backend: {backend}\r\n"]
    given = {name.lower() for name in headers} if headers else ()
    if not bodiless:
        if "content-type" not in given:
            lines.append(f"content-type: {content_type}\r\n")
        lines.append(f"content-length: {len(body)}\r\n")
    if headers:
        lines += [f"{name}: {value}\r\n" for name, value in headers.items() if name.lower() != "content-length"]
    if close:
        lines.append("connection: close\r\n")
    lines.append("\r\n")
    head = "".join(lines).encode("latin-1")
    return head if bodiless or method == "HEAD" else head + body
