"""A server that does what a script says, byte by byte, and counts what was delivered to it."""

import contextlib
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Script: TypeAlias = Callable[["Peer"], None]
"""What to do with one connection; the last script of a server serves all further ones."""


class Peer:
    """One accepted connection."""

    def __init__(self, sock: socket.socket, server: "RawServer") -> None:
        self.sock = sock
        self.server = server
        self._buffer = b""

    def request(self) -> bytes:
        """Read one whole request (with Content-Length or chunked); raises EOFError when the peer has gone."""
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, rest = self._buffer.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if length:
            while len(rest) < int(length[1]):
                self._more()
                rest = self._buffer.partition(b"\r\n\r\n")[2]
            self._buffer = rest[int(length[1]) :]
        elif b"chunked" in head.lower():
            while not self._buffer.endswith(b"0\r\n\r\n"):
                self._more()
            self._buffer = b""
        else:
            self._buffer = rest
        self.server.delivered += 1
        return head

    def head(self) -> bytes:
        """Read no further than the head."""
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        self.server.delivered += 1
        return self._buffer.partition(b"\r\n\r\n")[0]

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def drip(self, data: bytes, delay: float) -> None:
        for at in range(len(data)):
            self.send(data[at : at + 1])
            time.sleep(delay)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def hang(self) -> None:
        """Until the peer gives up."""
        with contextlib.suppress(OSError):
            while self.sock.recv(65536):
                pass

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        self._buffer += data


def serve(peer: Peer) -> None:
    """The well-behaved script: every request is answered."""
    while True:
        peer.request()
        peer.send(OK)


class RawServer:
    """`address` is where it listens, `delivered` the requests it has read, `accepted` and `open` its connections."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self._scripts = scripts or (serve,)
        self._tls = tls
        self.delivered = 0
        self.accepted = 0
        self.open = 0
        self._lock = threading.Lock()
        self._peers: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((host, 0), backlog=256)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(2)
        for sock in self._peers:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(2)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            script = self._scripts[min(self.accepted, len(self._scripts) - 1)]
            self.accepted += 1
            self._peers.append(sock)
            thread = threading.Thread(target=self._run, args=(sock, script), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, sock: socket.socket, script: Script) -> None:
        with self._lock:
            self.open += 1
        peer = Peer(sock, self)
        try:
            if self._tls:
                peer.sock = self._tls.wrap_socket(sock, server_side=True)
                self._peers.append(peer.sock)  # the one it was made from has no descriptor any more
            script(peer)
        except (OSError, EOFError):
            pass
        finally:
            with contextlib.suppress(OSError):
                peer.sock.close()
            with self._lock:
                self.open -= 1


@contextlib.contextmanager
def blackhole() -> Iterator[str]:
    """An address where nobody answers: its backlog is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def refused() -> str:
    """An address where connects are refused."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"
