"""A proxy between kubelb and the API server that notes what is asked, and lies, stalls and breaks as it is told.

It ends TLS on both sides (with the API server's own certificate), so faults are made in the plain bytes of HTTP, and
the requests are there to be read. It runs in a thread of its own; its attributes may be set at any time:

    pause       seconds between single bytes of answers; 0 passes them on as they come
    stalled     answers are held back, and passed on when it is over
    deaf        new connections are accepted, and then there is silence, not even TLS
    cut_lists   so many of the coming lists break off in the middle
    cut_events  so many of the coming watch events break off in the middle of their line

`cut()` resets all connections, `inject()` adds bytes to answers; until `heal()`, `refuse()` closes the port, and
`black_hole()` leaves connects unanswered.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

from .processes import free_port, wait_for

T = TypeVar("T")

HOST = "127.0.0.1"


class Seen(NamedTuple):
    """One request as it was on the wire."""

    at: float
    target: str
    headers: dict[str, str]

    @property
    def watch(self) -> bool:
        return "watch=1" in self.target


class Link:
    """One connection: what was asked on it last, and whether an answer to that has begun."""

    def __init__(self) -> None:
        self.asked: Seen | None = None
        self.answered = False

    @property
    def watch(self) -> bool:
        return self.asked is not None and self.asked.watch


class Proxy:
    """Listens on a port of its own that leads to `upstream`. A context manager."""

    def __init__(self, upstream: str, certificate: Path, ca_file: Path) -> None:
        parts = urlsplit(upstream)
        self._upstream = parts.hostname or HOST, parts.port or 443
        self._inner = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._inner.load_cert_chain(certificate)
        self._outer = ssl.create_default_context(cafile=str(ca_file))
        self._listener = listen(free_port(), backlog=16)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"https://{HOST}:{self.port}"
        self.seen: list[Seen] = []
        self.connections = 0
        self.pause = 0.0
        self.stalled = False
        self.deaf = False
        self.cut_lists = 0
        self.cut_events = 0
        self._held: list[socket.socket] = []
        self._streams: dict[asyncio.Transport, Link] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._clients: set[socket.socket] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._do(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.cut()
        self._do(self._stop_accepting)
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(5.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5.0)
        self._loop.close()

    @property
    def own(self) -> int:
        """How many of this process's sockets to our port are ours: those that make a black hole."""
        return max(0, len(self._held) - 1) if self._listener.fileno() < 0 else 0

    @property
    def lists(self) -> list[Seen]:
        return [seen for seen in self.seen if not seen.watch]

    @property
    def watches(self) -> list[Seen]:
        return [seen for seen in self.seen if seen.watch]

    def wait_watch(self) -> None:
        """Wait until a watch is open: a client that has its list may not have come that far."""
        wait_for(lambda: self._do(self._watching), what="an open watch")

    def _watching(self) -> bool:
        return any(link.watch and link.answered for link in self._streams.values())

    # Faults.

    def cut(self) -> None:
        """Reset every connection."""
        self._do(self._cut)

    def refuse(self) -> None:
        """Cut everything, and refuse new connections until `heal()`."""
        self._do(self._stop_accepting)
        self.cut()

    def black_hole(self) -> None:
        """Cut everything, and from now on do not even answer a SYN."""
        self.refuse()
        self._held = full_listener(self.port)

    def heal(self) -> None:
        """End every fault; connections that were made in one are reset."""
        self.pause, self.stalled, self.deaf, self.cut_lists, self.cut_events = 0.0, False, False, 0, 0
        self.cut()
        if self._listener.fileno() < 0:
            self._listener = listen(self.port, backlog=16)
            self._do(self._accept)

    def inject(self, data: bytes) -> None:
        """Add bytes to every answer that has begun."""

        def write() -> None:
            for stream, link in self._streams.items():
                if link.answered:
                    stream.write(data)

        self._do(write)

    # On the loop.

    def _do(self, action: Callable[[], T]) -> T:
        async def run() -> T:
            return action()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(5.0)

    def _accept(self) -> None:
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener, self._welcome)

    def _stop_accepting(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)
        self._listener.close()

    def _welcome(self) -> None:
        """Accept; a callback rather than a task, for a cancelled `sock_accept` may lose whom it has accepted."""
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        self.connections += 1
        if self.deaf:
            self._held.append(client)
            return
        client.setblocking(False)
        self._clients.add(client)
        task = self._loop.create_task(self._connection(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _cut(self) -> None:
        for stream, link in self._streams.items():
            link.answered = False
            stream.abort()
        for held in self._held:
            held.close()
        self._held = []

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # aborted transports close their sockets in the next turn
        for client in self._clients:  # of tasks that were cancelled before they had begun, or in the handshake
            client.close()

    async def _connection(self, client: socket.socket) -> None:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            inner, _ = await self._loop.connect_accepted_socket(lambda: protocol, client, ssl=self._inner)
            writer = asyncio.StreamWriter(inner, protocol, reader, self._loop)
            link = self._streams[inner] = Link()
            try:
                answers, requests = await asyncio.open_connection(*self._upstream, ssl=self._outer)
                try:
                    await self._pass_on(link, reader, requests, answers, writer)
                finally:
                    requests.transport.abort()
            finally:
                del self._streams[inner]
                self._clients.discard(client)
                inner.abort()

    async def _pass_on(
        self,
        link: Link,
        reader: asyncio.StreamReader,
        requests: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Both directions, until either ends."""
        up, down = self._up(link, reader, requests), self._down(link, answers, writer)
        both = [self._loop.create_task(up), self._loop.create_task(down)]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    async def _up(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        unfinished = b""
        while data := await reader.read(65536):
            *heads, unfinished = (unfinished + data).split(b"\r\n\r\n")
            for head in heads:
                link.asked, link.answered = parsed(head), False
                self.seen.append(link.asked)
            writer.write(data)

    async def _down(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            while self.stalled:  # noqa: ASYNC110  it is set by another thread
                await asyncio.sleep(0.02)
            link.answered = True
            if self._cuts(link, data):
                writer.write(data[: len(data) // 2])
                await asyncio.sleep(0.05)  # for the half to be on its way before the reset overtakes it
                return
            if not self.pause:
                writer.write(data)
                continue
            for number in range(len(data)):
                writer.write(data[number : number + 1])
                await asyncio.sleep(self.pause)

    def _cuts(self, link: Link, data: bytes) -> bool:
        if self.cut_events and link.watch and b'{"type":' in data:
            self.cut_events -= 1
        elif self.cut_lists and not link.watch:
            self.cut_lists -= 1
        else:
            return False
        return True


def parsed(head: bytes) -> Seen:
    """The head of a request; header names in lower case."""
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Seen(time.monotonic(), first.split(" ")[1], headers)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def listen(port: int, *, backlog: int, address: str = HOST) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(backlog)
    return listener


def full_listener(port: int, address: str = HOST) -> list[socket.socket]:
    """Sockets that, as long as they are open, let a SYN to this address go unanswered: the queue behind it is full."""
    listener = listen(port, backlog=0, address=address)
    sockets = [listener]
    while True:
        client = socket.socket()
        client.settimeout(0.2)
        sockets.append(client)
        try:
            client.connect(listener.getsockname())
        except TimeoutError:
            return sockets
