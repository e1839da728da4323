"""A server on a raw socket that does what a test says, so that it can do wrong what real servers do right."""

import contextlib
import json
import socket
import threading
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit


@dataclass
class Request:
    path: str
    query: dict
    headers: dict
    number: int
    """Of all requests, from 1."""

    @property
    def watch(self):
        return self.query.get("watch") == "1"


class Conn:
    """One connection, with the ways to answer on it."""

    def __init__(self, sock, server):
        self.sock = sock
        self.server = server

    def reply(self, obj, status=200, headers=(), body=None):
        body = json.dumps(obj).encode() if body is None else body
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self.raw((head + "".join(f"{k}: {v}\r\n" for k, v in headers) + "\r\n").encode() + body)

    def stream(self, *events):
        """Begin a watch."""
        self.raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        for event in events:
            self.event(event)

    def event(self, event):
        self.chunk(event if isinstance(event, bytes) else json.dumps(event).encode() + b"\n")

    def chunk(self, data):
        self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    def end(self):
        """End a watch as a server does whose timeout is over."""
        self.raw(b"0\r\n\r\n")

    def raw(self, data):
        with contextlib.suppress(OSError):
            self.sock.sendall(data)

    def idle(self):
        """Leave the connection as it is until the test is over or the peer goes away."""
        with contextlib.suppress(OSError):
            self.sock.settimeout(None)
            while self.sock.recv(4096):
                pass
        raise ConnectionError

    def close(self):
        raise ConnectionError

    def reset(self):
        import struct

        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
        raise ConnectionError


@dataclass
class Server:
    """`handle(conn, request)` answers one request; raising ConnectionError closes the connection."""

    handle: object
    context: object = None
    requests: list = field(default_factory=list)
    accepted: int = 0

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._socks, self._threads, self._closed = set(), [], False
        thread = threading.Thread(target=self._accept, daemon=True)
        thread.start()
        self._threads.append(thread)
        return self

    @property
    def url(self):
        return f"{'https' if self.context else 'http'}://127.0.0.1:{self.port}"

    def __exit__(self, *exc):
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop_all()
        for thread in self._threads:
            thread.join(5)

    def drop_all(self):
        for sock in list(self._socks):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        while not self._closed:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._socks.add(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _serve(self, plain):
        sock = plain
        try:
            if self.context:
                sock = self.context.wrap_socket(plain, server_side=True)
            self._socks.add(sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            file = sock.makefile("rb")
            conn = Conn(sock, self)
            with file:
                while line := file.readline():
                    _, target, _ = line.decode().split()
                    headers = {}
                    while line := file.readline().strip():
                        key, _, value = line.decode().partition(":")
                        headers[key.lower()] = value.strip()
                    parts = urlsplit(target)
                    request = Request(parts.path, dict(parse_qsl(parts.query)), headers, len(self.requests) + 1)
                    self.requests.append(request)
                    self.handle(conn, request)
        except (OSError, ValueError):
            pass
        finally:
            for each in (sock, plain):
                self._socks.discard(each)
                each.close()


def slice_list(*items, version=100, more=None):
    """What a list is answered with."""
    meta = {"resourceVersion": str(version)}
    if more:
        meta["continue"] = more
    return {"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "metadata": meta, "items": list(items)}


def event(kind, obj):
    return {"type": kind, "object": obj}


def bookmark(version):
    return event("BOOKMARK", {"kind": "EndpointSlice", "metadata": {"resourceVersion": str(version)}})


def status(code, reason="", message="", retry=None, cause=None):
    obj = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }
    details = {}
    if retry is not None:
        details["retryAfterSeconds"] = retry
    if cause:
        details["causes"] = [{"reason": cause, "message": "Too large resource version"}]
    if details:
        obj["details"] = details
    return obj
