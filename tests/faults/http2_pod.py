"""A pod that speaks HTTP/2 without TLS and does what a test says: its handler is called for each whole request.

The handler has the stream (a `Told`) to answer, to reset, or to leave alone. `delivered` counts requests by their
marker; frames that h2 would not send, or after which it would send no more, are written by hand. Where h2 finds that
the client broke HTTP/2, the connection ends and `broken` has its word.
"""

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings

__all__ = ["Link", "Pod", "Told", "answer"]

RST_STREAM, SETTINGS, GOAWAY = 3, 4, 7
MOST_STREAMS, FIRST_WINDOW = 3, 4


class Told:
    """One request, and the way to answer it."""

    def __init__(self, link: "Link", stream: int, headers: dict[str, str]) -> None:
        self.link = link
        self.stream = stream
        self.method, self.path = headers[":method"], headers[":path"]
        self.marker = headers.get("x-ask", "")
        self.body = b""
        self.reset: int | None = None

    def headers(self, status: int = 200, *fields: tuple[str, str], end: bool = False) -> None:
        fields = ((":status", str(status)), ("x-backend", self.link.pod.name), *fields)
        self.link.do(lambda h2: h2.send_headers(self.stream, fields, end_stream=end))

    def data(self, data: bytes, *, end: bool = False) -> None:
        self.link.do(lambda h2: h2.send_data(self.stream, data, end_stream=end))

    def answer(self, status: int = 200, body: bytes = b"ok") -> None:
        self.headers(status)
        self.data(body, end=True)

    def cancel(self, code: int) -> None:
        self.link.do(lambda h2: h2.reset_stream(self.stream, code))


def answer(told: Told) -> None:
    """The handler of a pod that is well."""
    told.answer()


class Link:
    """One connection to a pod."""

    def __init__(self, pod: "Pod", sock: socket.socket) -> None:
        self.pod = pod
        self.sock = sock
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values=pod.settings)
        self.told: dict[int, Told] = {}
        self.opened = 0
        self.pings = 0
        self.deaf = False
        """Reads no more."""
        self.processed, self.last = 0, 2**31 - 1
        """For handlers that keep GOAWAY's word: the highest stream that was processed, and that may be."""
        self.acknowledged = False
        """The client has acknowledged all SETTINGS that were sent."""
        self._settings: list[dict[int, int]] = []
        self._lock = threading.RLock()

    def run(self) -> None:
        try:
            if not self.pod.mute:
                self.do(lambda h2: h2.initiate_connection())
            if self.pod.on_connect is not None:
                self.pod.on_connect(self)
            while data := self.sock.recv(65536):
                while self.deaf:
                    time.sleep(0.01)
                with self._lock:
                    whole = [told for event in self.h2.receive_data(data) if (told := self._heard(event))]
                    self.flush()
                for told in whole:
                    handler = self.pod.handler  # before it counts: a test may give it another one then
                    with self.pod.lock:
                        self.pod.delivered[told.marker] += 1
                    threading.Thread(target=self._handle, args=(handler, told), daemon=True).start()
        except OSError:
            pass
        except h2.exceptions.ProtocolError as error:
            self.pod.broken.append(repr(error))
        self.sock.close()
        self.pod.links.remove(self)

    def _heard(self, event: Any) -> Told | None:
        if isinstance(event, h2.events.RequestReceived):
            self.told[event.stream_id] = Told(self, event.stream_id, dict(event.headers))
            self.opened += 1
            if self.pod.on_headers is not None:
                self.pod.on_headers(self.told[event.stream_id])
        elif isinstance(event, h2.events.DataReceived):
            self.told[event.stream_id].body += event.data
            if self.pod.reads:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self.told[event.stream_id].reset = int(event.error_code)
        elif isinstance(event, h2.events.PingReceived):
            self.pings += 1
        elif isinstance(event, h2.events.SettingsAcknowledged):
            self.acknowledged = True
            self._next_settings()
        elif isinstance(event, h2.events.StreamEnded):
            return self.told[event.stream_id]
        return None

    @staticmethod
    def _handle(handler: Callable[[Told], object], told: Told) -> None:
        with contextlib.suppress(OSError, h2.exceptions.ProtocolError, KeyError):
            handler(told)

    def do(self, action: Callable[[Any], object]) -> None:
        with self._lock:
            action(self.h2)
            self.flush()

    def flush(self) -> None:
        if data := self.h2.data_to_send():
            self.sock.sendall(data)

    def frame(self, kind: int, stream: int, payload: bytes) -> None:
        """Write it as it is."""
        with self._lock:
            self.sock.sendall(len(payload).to_bytes(3, "big") + bytes((kind, 0)) + stream.to_bytes(4, "big") + payload)

    def goaway(self, last: int, code: int = 0) -> None:
        """Streams up to `last` can still be answered."""
        self.frame(GOAWAY, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big"))

    def settings(self, setting: int, value: int) -> None:
        """Sent once those before are acknowledged.

        h2 takes any ACK for that of every change that waits for one. So it would hold the client to a change as soon as
        the ACK of the connection's first SETTINGS comes, which may be before the client has heard of the change.
        """
        with self._lock:
            self._settings.append({setting: value})
            self._next_settings()

    def _next_settings(self) -> None:
        if self.acknowledged and self._settings:
            self.acknowledged = False
            self.h2.update_settings(self._settings.pop(0))
            self.flush()

    def cut(self, *, reset: bool = False) -> None:
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            self.sock.shutdown(socket.SHUT_RD)  # whoever reads then closes it
        else:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)


class Pod:
    """Listens on a loopback address of its own."""

    def __init__(self, handler: Callable[[Told], object] = answer, *, host: str = "127.0.0.1", name: str = "") -> None:
        self.handler = handler
        self.on_connect: Callable[[Link], object] | None = None
        self.on_headers: Callable[[Told], object] | None = None
        """Called with the lock of the link, before the body."""
        self.settings: dict[int, int] = {MOST_STREAMS: 100, FIRST_WINDOW: 65535}
        self.mute = False
        """Sends no SETTINGS by itself."""
        self.reads = True
        """Opens the windows as data comes."""
        self.delivered: Counter[str] = Counter()
        self.broken: list[str] = []
        """Errors that h2 found in what clients sent."""
        self.links: list[Link] = []
        self.accepted = 0
        self.lock = threading.Lock()
        self._listener = socket.create_server((host, 0), backlog=64)
        self.address = f"{host}:{self._listener.getsockname()[1]}"
        self.name = name or self.address
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.accepted += 1
            self.links.append(link := Link(self, sock))
            threading.Thread(target=link.run, daemon=True).start()

    def all_told(self) -> list[Told]:
        return [told for link in self.links for told in list(link.told.values())]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for link in list(self.links):
            link.deaf = False
            link.cut()
        self._thread.join(5)
