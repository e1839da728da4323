"""How an HTTP backend answers on its connections: the faults, the bytes.

One thread a connection runs `serve`. A healthy exchange is one `recv`, two short locks, one `sendall`; everything that
can be wrong is behind the test `faults is not None`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from kubelb.testing.answers import Handler, Tally, document, render
from kubelb.testing.backend_faults import BackendFaults, Trouble
from kubelb.testing.connection import Connection
from kubelb.testing.http1 import BadRequest, Received, Reply, chunk, head, read_request
from kubelb.testing.responder import Done, Responder


class HttpResponder(Responder):
    """Serves the connections of one backend. `attempts` is shared by the backends of a service."""

    def __init__(self, name: str, handler: Handler | None, attempts: Tally) -> None:
        super().__init__(name)
        self._handler = handler
        self._attempts = attempts
        self._wake = threading.Event()  # ends the sleeps of requests under way

    def failure(self, status: Any) -> dict[str, Any]:
        if status is not None and not isinstance(status, int):
            raise TypeError(f"an HTTP backend fails with a status such as 503, not with {status!r}")
        return {"status": 503 if status is None else status}

    def heal(self) -> None:
        super().heal()
        with self._lock:
            self._wake.set()
            self._wake = threading.Event()

    def die(self) -> None:
        super().die()
        with self._lock:
            self._wake.set()

    def serve(self, connection: Connection) -> None:
        """One connection, request by request."""
        while True:
            try:
                request = read_request(connection)
            except BadRequest as error:
                text = str(error).encode()
                connection.send(render(error.status, "text/plain", text, backend=self.name, method="GET", close=True))
                return
            if request is None or connection.cut_off:
                return
            self.begin(request)
            done = Done(self)
            try:
                keep = self._exchange(connection, request, done)
            finally:
                done()
            if not keep:
                return
            connection.busy = False

    def _exchange(self, connection: Connection, request: Received, done: Done) -> bool:
        """One answer; False when the connection ends with it."""
        attempt = self._attempts.count(request.path)
        wake = self._wake  # before the faults are taken: a heal that comes after rings this one, not its successor
        faults = self.take_faults()
        if faults is not None:
            if (seconds := faults.seconds()) > 0 and not self._sleep(connection, wake, seconds):
                return False
            if faults.trouble is Trouble.HANG:
                while connection.recv():  # until the client gives up, or is cut off
                    pass
                return False
            if faults.trouble is Trouble.RESET:
                connection.reset()
                return False
        close = self.close_after or not request.keep_alive
        status, extra = (faults.status, faults.headers) if faults is not None else (200, None)
        if status == 200 and self._handler is None and request.method == "GET" and request.path == "/stream":
            return self._stream(connection, request, wake, close=close)
        if status == 200 and self._handler is not None:
            reply = _handled(self._handler, request)
            status, extra = reply.status, reply.headers
            content_type, body = "text/plain; charset=utf-8", _bytes(reply.body)
        else:
            content_type, body = document(request, self.name, attempt)
        data = self._render(status, content_type, body, request, extra, close=close)
        if faults is not None and faults.trouble is not None:
            return self._spoil(connection, data, faults, wake, close=close)
        done()  # before the last byte: a client that has the answer must not find the request in flight
        connection.send(data)
        return not close

    def _spoil(
        self, connection: Connection, data: bytes, faults: BackendFaults, wake: threading.Event, *, close: bool
    ) -> bool:
        """The troubles that begin after the headers."""
        start = data.index(b"\r\n\r\n") + 4
        body = data[start:]
        if faults.trouble is Trouble.DRIP:
            connection.send(data[:start])
            for at in range(0, len(body), faults.drip_bytes):
                if not self._sleep(connection, wake, faults.drip_delay):
                    return False
                connection.send(body[at : at + faults.drip_bytes])
            return not close
        if faults.trouble is Trouble.TRUNCATE:
            connection.send(data[:start] + body[: len(body) // 2])
            return False
        connection.send(data[:start])
        # A reset throws away what the peer has not read yet, so let it read the headers first.
        if self._sleep(connection, wake, 0.02):
            connection.reset()
        return False

    def _stream(self, connection: Connection, request: Received, wake: threading.Event, *, close: bool) -> bool:
        """`/stream?chunks=3&delay=0.1&size=10`: a chunked body, a line a chunk."""
        query = request.query
        try:
            chunks, size = int(query.get("chunks", "3")), int(query.get("size", "0"))
            delay = float(query.get("delay", "0"))
        except ValueError:
            text = b"chunks, size and delay are numbers"
            connection.send(self._render(400, "text/plain", text, request, None, close=close))
            return not close
        headers = [("x-backend", self.name), ("content-type", "text/plain"), ("transfer-encoding", "chunked")]
        connection.send(head(200, [*headers, ("connection", "close")] if close else headers))
        for number in range(chunks):
            if delay > 0 and not self._sleep(connection, wake, delay):
                return False
            connection.send(chunk(f"{self.name} {number}".encode().ljust(size - 1, b".") + b"\n"))
        connection.send(chunk(b""))
        return not close

    def _sleep(self, connection: Connection, wake: threading.Event, seconds: float) -> bool:
        """Whether the connection can still be answered after `seconds`."""
        if wake.wait(seconds) and self.dead:
            connection.reset()
            return False
        return not connection.cut_off

    def _render(
        self,
        status: int,
        content_type: str,
        body: bytes,
        request: Received,
        headers: Mapping[str, str] | None,
        *,
        close: bool,
    ) -> bytes:
        return render(
            status, content_type, body, backend=self.name, method=request.method, close=close, headers=headers
        )


def _handled(handler: Handler, request: Received) -> Reply:
    try:
        return handler(request)
    except Exception as error:  # noqa: BLE001 - a handler's mistake is a 500, as on any server
        return Reply(500, f"{type(error).__name__}: {error}")


def _bytes(body: bytes | str) -> bytes:
    return body.encode() if isinstance(body, str) else body
