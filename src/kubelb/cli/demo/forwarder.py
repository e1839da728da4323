"""A kube-proxy on loopback: each new connection goes to a random ready pod, and stays there.

What it shares with kube-proxy: the choice is per connection and blind to load; which pods are ready it reads from the
EndpointSlices; an existing connection stays on its pod while that is slow, or terminating; ready pods first, and where
there is none, those that still serve while they terminate (KEP-1669).

Where it differs, and which side that favours: it sees a change of the slices at once (kube-proxy takes up to a
second), which favours the plain side; it is a process of ours rather than a rule in the kernel, which costs the plain
side the time that `Stage.forwarder_cost` measures; where a pod refuses, the client's connection is accepted and then
reset instead of refused: an error either way.
"""

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeAlias

from kubelb.testing.kube_proxy import ready_addresses

__all__ = ["Forwarder", "ready_addresses"]

Address: TypeAlias = tuple[str, int]

_RESET = struct.pack("hh" if hasattr(socket, "SIO_RCVALL") else "ii", 1, 0)  # Windows has shorts in struct linger


class Forwarder:
    """Forwards TCP from a port of 127.0.0.1, on a thread of its own; `with` opens and closes it.

    `addresses` is asked anew for each connection.
    """

    def __init__(self, addresses: Callable[[], list[Address]], rng: random.Random) -> None:
        self._addresses = addresses
        self._rng = rng
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="kubelb-demo-forwarder", daemon=True)
        self._halves: set[_Half] = set()
        self._dials: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(5.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every connection and the thread; idempotent."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(1.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(1.0)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    async def _listen(self) -> int:
        self._server = await self._loop.create_server(self._accepted, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _close(self) -> None:
        self._server.close()
        for task in self._dials:
            task.cancel()
        for half in list(self._halves):
            half.abort()
        await asyncio.sleep(0)  # transports close in the loop's next round

    def _accepted(self) -> "_Half":
        client = _Half(self._halves)
        task = self._loop.create_task(self._dial(client))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)
        return client

    async def _dial(self, client: "_Half") -> None:
        await client.connected.wait()
        client.pause_reading()
        addresses = self._addresses()
        try:
            if not addresses:
                raise ConnectionRefusedError
            host, port = self._rng.choice(addresses)
            async with asyncio.timeout(5.0):
                _, pod = await self._loop.create_connection(lambda: _Half(self._halves), host, port)
        except OSError:  # refused, no route, timed out
            client.abort()
            return
        client.other, pod.other = pod, client
        client.resume_reading()
        if client.closed:
            pod.abort()


class _Half(asyncio.Protocol):
    """One of the two connections that make one: what comes in goes out on the other, an end as an end."""

    def __init__(self, halves: "set[_Half]") -> None:
        self.other: _Half | None = None
        self.connected = asyncio.Event()
        self.closed = False
        self._halves = halves

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._halves.add(self)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connected.set()

    def data_received(self, data: bytes) -> None:
        if self.other:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        if self.other:
            self.other.transport.write_eof()
        return False  # both ends speak HTTP/1.1, where the end of one direction is the end

    def pause_writing(self) -> None:
        if self.other:
            self.other.pause_reading()

    def resume_writing(self) -> None:
        if self.other:
            self.other.resume_reading()

    def pause_reading(self) -> None:
        if not self.closed:
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self.closed:
            self.transport.resume_reading()

    def abort(self) -> None:
        """End it by a reset, as the far end did."""
        if not self.closed:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self._halves.discard(self)
        if self.other and not self.other.closed:
            if error is None:
                self.other.transport.close()
            else:
                self.other.abort()
