"""Just enough of HTTP/2 to call a method and see, frame by frame, what comes back and how the connection ends."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

from kubelb.testing import Backend

DATA, HEADERS, SETTINGS, GOAWAY = 0, 1, 4, 7
END_STREAM, END_HEADERS = 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass
class Heard:
    """Frames as (type, flags, payload); bytes of one that did not come whole; how it ended: "reset" or "closed"."""

    frames: list[tuple[int, int, bytes]] = field(default_factory=list)
    rest: bytes = b""
    end: str = ""

    def of(self, *kinds: int) -> list[tuple[int, int]]:
        """Type and flags of the frames of these types, in their order."""
        return [(kind, flags) for kind, flags, _ in self.frames if kind in kinds]


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def literal(name: str, value: str) -> bytes:
    """A header without compression, for names and values below 127 bytes."""
    return b"\x00" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()


class Http2:
    """A connection with at most one call on it; the other side's settings and pings are never acknowledged."""

    def __init__(self, backend: Backend) -> None:
        self.sock = socket.create_connection((backend.host, backend.port), timeout=10.0)
        self.sock.sendall(PREFACE + frame(SETTINGS))
        self._rest = b""

    def __enter__(self) -> Http2:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def call(self, method: str, message: bytes = b"hi") -> None:
        fields = {":method": "POST", ":scheme": "http", ":path": method, ":authority": "x"}
        block = b"".join(
            literal(*pair) for pair in {**fields, "te": "trailers", "content-type": "application/grpc"}.items()
        )
        body = b"\x00" + len(message).to_bytes(4, "big") + message
        self.sock.sendall(frame(HEADERS, END_HEADERS, 1, block) + frame(DATA, END_STREAM, 1, body))

    def hear(self, until: int | None = None) -> Heard:
        """All that comes until the connection ends, or until a frame of type `until`."""
        heard = Heard()
        while not heard.end:
            while len(self._rest) >= 9 and len(self._rest) >= (size := 9 + int.from_bytes(self._rest[:3], "big")):
                heard.frames.append((self._rest[3], self._rest[4], self._rest[9:size]))
                self._rest = self._rest[size:]
                if heard.frames[-1][0] == until:
                    return heard
            try:
                data = self.sock.recv(65536)
            except ConnectionResetError:
                heard.end = "reset"
            else:
                heard.end = "" if data else "closed"
                self._rest += data
        heard.rest = self._rest
        return heard
