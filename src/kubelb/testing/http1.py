"""HTTP/1.1 as the servers of a test cluster speak it: requests in, bytes out, nothing that a test does not need.

Parsing is by hand because benchmarks run on these servers: a request without a body costs one `recv`, a handful of
`bytes` operations and no object but its `Received`. Headers are decoded only when they are looked at.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

MAX_HEAD = 256 * 1024
REASONS = {status.value: status.phrase for status in HTTPStatus}


class BadRequest(Exception):
    """What came in is not HTTP/1.1; `status` is the answer to give before closing."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Stream(Protocol):
    """The connection as the parser sees it."""

    buffer: bytes
    busy: bool

    def recv(self) -> bytes:
        """Some bytes, or none at the end."""
        ...

    def send(self, data: bytes) -> None:
        """All of `data`."""
        ...


class Received:
    """One request as a test server received it.

    `method`, `target` (as on the wire), `path` (without the query, percent-decoded), `body` (bytes, already
    unchunked), `keep_alive`, `at` (`time.monotonic()` when it had been read), `headers` (names in lower case;
    repeated ones joined by ", "), `query` (first value of each name).
    """

    __slots__ = ("_fields", "_headers", "at", "body", "keep_alive", "method", "target")

    def __init__(self, method: str, target: str, fields: bytes, *, keep_alive: bool) -> None:
        self.method = method
        self.target = target
        self.body = b""
        self.keep_alive = keep_alive
        self.at = time.monotonic()
        self._fields = fields
        self._headers: dict[str, str] | None = None

    @property
    def path(self) -> str:
        target = self.target
        if not target.startswith("/"):  # absolute form, as sent to proxies
            target = urlsplit(target).path or "/"
        path = target.partition("?")[0]
        return unquote(path) if "%" in path else path

    @property
    def query(self) -> dict[str, str]:
        values: dict[str, str] = {}
        for name, value in parse_qsl(self.target.partition("?")[2], keep_blank_values=True):
            values.setdefault(name, value)
        return values

    @property
    def headers(self) -> dict[str, str]:
        if self._headers is None:
            headers: dict[str, str] = {}
            for line in self._fields.decode("latin-1").split("\r\n"):
                name, colon, value = line.partition(":")
                if colon:
                    key = name.strip().lower()
                    value = value.strip()
                    headers[key] = f"{headers[key]}, {value}" if key in headers else value
            self._headers = headers
        return self._headers

    def __repr__(self) -> str:
        return f"<Received {self.method} {self.path}>"  # no headers, no query: they may hold a token


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of a user's own handler: `status`, `body` (bytes or text) and extra `headers`."""

    status: int = 200
    body: bytes | str = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def read_request(stream: Stream) -> Received | None:
    """The next request with its whole body, or None when the peer has gone. Raises `BadRequest`."""
    data = stream.buffer or stream.recv()
    if not data:
        return None
    stream.busy = True
    while (end := data.find(b"\r\n\r\n")) < 0:
        if len(data) > MAX_HEAD:
            raise BadRequest(431, "the request head is longer than 256 KiB")
        more = stream.recv()
        if not more:
            return None
        data += more
    line, _, fields = data[:end].partition(b"\r\n")
    parts = line.split(b" ")
    if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):
        raise BadRequest(400, "not an HTTP/1.1 request line")
    method, target, version = parts
    request = Received(method.decode("latin-1"), target.decode("latin-1"), fields, keep_alive=version != b"HTTP/1.0")
    lowered = fields.lower()
    stream.buffer = data[end + 4 :]
    # A substring test first: it is cheap, and a header is decoded only where the answer could matter.
    if b"close" in lowered or (version == b"HTTP/1.0" and b"keep-alive" in lowered):
        options = [option.strip().lower() for option in request.headers.get("connection", "").split(",")]
        request.keep_alive = "keep-alive" in options or (request.keep_alive and "close" not in options)
    if b"content-length" in lowered or b"transfer-encoding" in lowered:
        request.body = _read_body(stream, request)
    return request


def _read_body(stream: Stream, request: Received) -> bytes:
    headers = request.headers
    if headers.get("expect", "").lower() == "100-continue" and not stream.buffer:
        stream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    if headers.get("transfer-encoding", "identity").lower() != "identity":
        return _read_chunks(stream)
    length = headers.get("content-length", "0")
    if not length.isdigit():
        raise BadRequest(400, "Content-Length is not a number")
    return _take(stream, int(length))


def _read_chunks(stream: Stream) -> bytes:
    pieces: list[bytes] = []
    while True:
        try:
            size = int(_take_line(stream).partition(b";")[0], 16)
        except ValueError:
            raise BadRequest(400, "a chunk size is not a number") from None
        if size == 0:
            while _take_line(stream):  # trailers
                pass
            return b"".join(pieces)
        pieces.append(_take(stream, size))
        _take_line(stream)


def _take(stream: Stream, count: int) -> bytes:
    pieces = [stream.buffer]
    have = len(stream.buffer)
    while have < count:
        more = stream.recv()
        if not more:
            raise BadRequest(400, "the request body ended early")
        pieces.append(more)
        have += len(more)
    data = b"".join(pieces)
    stream.buffer = data[count:]
    return data[:count]


def _take_line(stream: Stream) -> bytes:
    while (end := stream.buffer.find(b"\r\n")) < 0:
        more = stream.recv()
        if not more or len(stream.buffer) > MAX_HEAD:
            raise BadRequest(400, "the request body ended early")
        stream.buffer += more
    line, stream.buffer = stream.buffer[:end], stream.buffer[end + 2 :]
    return line


def head(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    """A response head, with the empty line that ends it."""
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Unknown')}", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data: bytes) -> bytes:
    """`data` as one chunk; no data is the last chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)
