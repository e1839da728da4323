"""One gRPC call as a backend received it, beside `Received` of HTTP/1.1."""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Iterable

from kubelb.testing.http1 import Received

Pair = tuple[str, str | bytes]


class ReceivedCall(Received):
    """One gRPC call as a test server received it: a POST whose `path` is the full method, "/package.Service/Method".

    `metadata` (pairs), `headers` (the same as a dict; binary ones in base64, as on the wire), `body` (the request
    message as bytes, of a stream the first one), `messages` (requests that have come so far), `timeout` (seconds that
    the caller had left when the handler was entered, None without a deadline), `at` (`time.monotonic()`, likewise).
    """

    __slots__ = ("_metadata", "messages", "timeout")

    def __init__(self, method: str, metadata: Iterable[Pair]) -> None:
        super().__init__("POST", method, b"", keep_alive=True)
        self.messages = 0
        self.timeout: float | None = None
        self._metadata = metadata

    @property
    def path(self) -> str:
        return self.target

    @property
    def metadata(self) -> tuple[Pair, ...]:
        return tuple((name, value) for name, value in self._metadata)

    @property
    def headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        for name, value in self._metadata:
            text = base64.b64encode(value).decode() if isinstance(value, bytes) else value
            headers[name] = f"{headers[name]}, {text}" if name in headers else text
        return headers

    def note(self, message: bytes) -> None:
        """A request message has come."""
        if self.messages == 0:
            self.body = message
        self.messages += 1

    def enter(self, remaining: float | None) -> None:
        """The handler is entered, `remaining` seconds before the deadline."""
        self.at = time.monotonic()
        if remaining is not None and math.isfinite(remaining) and remaining < 1e9:
            self.timeout = remaining
