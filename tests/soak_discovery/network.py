"""Pods' servers on pod addresses, and a gate in front of an API server: an event loop in a thread of its own.

The gate passes bytes on as they are. It is there to reset connections as a proxy does, and to count those that are
made; while it is shut it refuses them, as a port does on which no process listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

from tests.integration.processes import free_port
from tests.integration.proxy import HOST, listen

__all__ = ["Gate", "Network", "Pods"]

T = TypeVar("T")

WORK = 0.004
"""Seconds that a pod needs for an answer."""


class Network:
    """The loop. A context manager."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="network", daemon=True)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it on the loop, from another thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10.0)

    def __enter__(self) -> Network:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.do(_cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5.0)
        self.loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Gate:
    """Leads to one port on loopback."""

    def __init__(self, network: Network, port: int) -> None:
        self.port = free_port()
        self.came: list[float] = []
        """When each connection was made."""
        self._network = network
        self._upstream = port
        self._server: asyncio.Server | None = None
        self._inside: set[asyncio.StreamWriter] = set()

    def open(self) -> None:
        """Let connections in."""
        self._network.do(self._open())

    def shut(self) -> None:
        """Reset all, and refuse new ones."""
        self._network.do(self._shut())

    def cut(self) -> None:
        """Reset all."""
        self._network.do(self._cut())

    async def _open(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._pass, sock=listen(self.port, backlog=64))

    async def _shut(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        await self._cut()

    async def _cut(self) -> None:
        for writer in tuple(self._inside):
            _reset(writer)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came.append(time.monotonic())
        self._inside.add(writer)
        try:
            answers, onward = await asyncio.open_connection(HOST, self._upstream)
        except OSError:
            _reset(writer)
            self._inside.discard(writer)
            return
        ways = [asyncio.create_task(_copy(reader, onward)), asyncio.create_task(_copy(answers, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._inside.discard(writer)
            onward.transport.abort()
            _reset(writer)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()


class Pods:
    """A server for each pod of the services that get requests. It answers with its own address."""

    def __init__(self, network: Network, port: int) -> None:
        self._network = network
        self._port = port
        self._servers: dict[str, asyncio.Server] = {}
        self._idle: dict[str, set[asyncio.StreamWriter]] = {}

    def up(self, address: str) -> None:
        """It listens when this returns."""
        self._network.do(self._up(address))

    def down(self, address: str) -> None:
        """It refuses connections when this returns; what it is at work on it ends."""
        self._network.do(self._down(address))

    @property
    def living(self) -> set[str]:
        return set(self._servers)

    async def _up(self, address: str) -> None:
        idle = self._idle[address] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while address in self._servers:
                    idle.add(writer)
                    await reader.readuntil(b"\r\n\r\n")
                    idle.discard(writer)
                    await asyncio.sleep(WORK)
                    body = address.encode()
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                    await writer.drain()
            idle.discard(writer)
            writer.close()

        self._servers[address] = await asyncio.start_server(serve, sock=listen(self._port, backlog=64, address=address))

    async def _down(self, address: str) -> None:
        self._servers.pop(address).close()
        for writer in tuple(self._idle.pop(address)):
            writer.close()
