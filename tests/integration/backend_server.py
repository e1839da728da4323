"""A pod's HTTP server, run as a program: `python backend_server.py NAME ADDRESS PORT`. Standard library only.

Every answer carries the server's name. How it behaves is told by the query of a request (`/x?delay=0.2&status=503`), or
for all requests by `POST /_/behave` with the same words as JSON. `GET /_/counts` reports the requests by path, without
their query; what begins with `/_/` is neither counted nor misbehaves.

    delay=SECONDS       wait before answering
    status=CODE         answer with this status
    reset=1             reset the connection instead of answering
    body=BYTES          the length of the body, in place of the name

Every request is noted on stdout when it has been read (`> POST /x`) and again just before it is answered (`< POST /x`):
what was delivered to a server that is stopped or killed, and what it had not answered, is known without asking it.

SIGTERM drains, as a well-behaved pod does: no new connections, idle ones closed, running requests finished with
`Connection: close`, then exit with code 0.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


class Server(ThreadingHTTPServer):
    """A thread a connection. The threads are joined at the end, which is what finishing the running requests means."""

    daemon_threads = False
    request_queue_size = 1024  # a refused connection shall mean "not listening", never "busy"

    def __init__(self, name: str, address: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.name = name
        self.lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.behaviour: dict[str, str] = {}
        self.idle: set[socket.socket] = set()
        self.draining = False
        super().__init__((address, port), Handler)

    def drain(self) -> None:
        """Refuse new connections, wake the threads of idle ones, wait for the rest."""
        self.shutdown()
        self.socket.close()
        with self.lock:
            self.draining = True
            for connection in self.idle:
                self.hang_up(connection)
        self.server_close()

    def hang_up(self, connection: socket.socket) -> None:
        """End an idle connection; a request that the kernel already holds is still read, and answered."""
        with suppress(OSError):  # the client was quicker
            connection.shutdown(socket.SHUT_RD)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is not news; anything else belongs into the log."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection, and its requests one after the other."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one packet: two would meet the client's delayed ACK, 40 ms

    def handle_one_request(self) -> None:
        """As the base class does, but known as idle while waiting for the next request."""
        with self.server.lock:
            self.server.idle.add(self.connection)
            if self.server.draining:  # it became idle after the others were told
                self.server.hang_up(self.connection)
        try:
            super().handle_one_request()
        finally:
            self._busy()

    def parse_request(self) -> bool:
        self._busy()  # its first line was read
        return super().parse_request()

    def _busy(self) -> None:
        with self.server.lock:
            self.server.idle.discard(self.connection)

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urlsplit(self.path)
        if url.path == "/_/counts":
            with self.server.lock:
                counts = dict(self.server.counts)
            self._answer(200, json.dumps(counts).encode())
        elif url.path == "/_/behave":
            with self.server.lock:
                self.server.behaviour = {key: str(value) for key, value in json.loads(body).items()}
            self._answer(200, b"{}")
        else:
            self._note(">")
            with self.server.lock:
                self.server.counts[url.path] += 1
                behaviour = self.server.behaviour | dict(parse_qsl(url.query))
            time.sleep(float(behaviour.get("delay", 0)))
            self._note("<")
            self._behave(behaviour)

    do_POST = do_PUT = do_DELETE = do_HEAD = do_GET  # noqa: N815

    def _note(self, mark: str) -> None:
        """In one write: lines of two threads shall not mix."""
        os.write(sys.stdout.fileno(), f"{mark} {self.command} {urlsplit(self.path).path}\n".encode())

    def _behave(self, behaviour: dict[str, str]) -> None:
        if behaviour.get("reset", "0") != "0":
            # Lingering for no time at all turns a close into a reset, unless a shutdown came first. So it is closed
            # here and not by the base class; the kernel hears of it when the two files on top of it are closed.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return
        size = behaviour.get("body")
        content = self.server.name.encode() if size is None else b"x" * int(size)
        self._answer(int(behaviour.get("status", 200)), content)

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("X-Backend", self.server.name)
        self.send_header("Content-Length", str(len(content)))
        if self.server.draining:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: thousands of lines a second would be the slowest part of a test."""


def main(name: str, address: str, port: int) -> None:
    # Blocked in all threads, then fetched by this one: no handler runs in the middle of anything.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    server = Server(name, address, port)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    signal.sigwait({signal.SIGTERM})
    server.drain()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
