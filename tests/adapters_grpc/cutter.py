"""A way to a server that can be cut: what a middlebox does, or a kernel that runs out of memory. And a rude server."""

import contextlib
import socket
import struct
import threading

__all__ = ["Cutter", "Leaver"]

SETTINGS, HEADERS, GOAWAY = 4, 1, 7
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Cutter:
    """Forwards connections to a port on loopback until told to cut them."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to))
                with self._lock:
                    self._open += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    @staticmethod
    def _pump(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    @property
    def open(self) -> int:
        """Connections that are forwarded now: one after a cut is a new one, so the old one's loss is known."""
        return len(self._open) // 2

    def cut(self, *, reset: bool = False) -> int:
        """End every connection; returns how many there were. New ones are accepted."""
        with self._lock:
            ending, self._open = self._open, []
        for sock in ending:
            with contextlib.suppress(OSError):
                if reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.shutdown(socket.SHUT_RDWR)
        for sock in ending:
            sock.close()
        return len(ending) // 2

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()


class Leaver:
    """An HTTP/2 server that takes a request, says that its connection is over as planned, and closes it."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.taken = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, sock.makefile("rb") as stream, contextlib.suppress(OSError):
            sock.sendall(frame(SETTINGS))
            stream.read(len(PREFACE))
            while len(head := stream.read(9)) == 9:  # less, where the client has given up
                length, kind = int.from_bytes(head[:3], "big"), head[3]
                stream.read(length)
                if kind == HEADERS:
                    self.taken += 1
                    sock.sendall(frame(GOAWAY, head[5:9] + bytes(4) + b"max_age"))
                    sock.shutdown(socket.SHUT_WR)
                elif kind == SETTINGS and not head[4]:
                    sock.sendall(frame(SETTINGS, flags=1))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def frame(kind: int, body: bytes = b"", flags: int = 0) -> bytes:
    """A frame of HTTP/2 on stream 0."""
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + bytes(4) + body
