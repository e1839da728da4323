"""The asyncio shell: one task reads, and one writes while there is something to write.

No request reads or writes by itself, so one that is cancelled, or whose time is over, interrupts nothing that its
neighbours need: it takes its stream out of the machine, lets RST_STREAM be written, and is gone without an await. The
reading task runs as long as the connection and closes it at its end; so an idle connection answers a PING, and hears
that its peer goes away.

After a fork the child has a copy of all that, and the selector of the parent's event loop is one for both: even to
close the socket there would make the parent deaf. So the child does nothing with a connection that it has not made, and
keeps it for ever.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from kubelb.adapters._httpx.foreign import not_ours
from kubelb.adapters._httpx.http2.headers import request_fields
from kubelb.adapters._httpx.http2.machine import AT_ONCE
from kubelb.adapters._httpx.http2.pooled import Pooled
from kubelb.adapters._httpx.http2.stream import Stream, Waiter
from kubelb.adapters._httpx.produced import Produced
from kubelb.adapters.defaults import SETTLE
from kubelb.clock import monotonic

__all__ = ["Connection"]

READ = 1 << 16
TURNS = 8
"""Of the event loop, from bytes in the kernel to the reading task: two or three."""
GOODBYE = 0.05
"""Seconds for GOAWAY to be written, when a connection is closed."""


class Connection(Pooled):
    """What httpcore's async pool takes for a connection; over a network stream that is ours from now on.

    `more` is called when the peer allows more streams than before.
    """

    def __init__(self, core: Any, origin: Any, stream: Any, keepalive: float | None, more: Callable[[], None]) -> None:
        super().__init__(core, origin, stream, keepalive)
        self._more = more
        self._loop = asyncio.get_running_loop()
        self._writer: asyncio.Task[None] | None = None
        self._stopped = False
        """The reading task is told to end, or does so by itself; told twice it would not close the socket."""
        self._flush()
        self._reader = self._loop.create_task(self._read())

    # One request

    async def handle_async_request(self, request: Any) -> Any:
        """Send it on a stream of its own; returns when the headers of its response are here, or all of a short one."""
        if self.foreign():
            raise self._core.ConnectionNotAvailable
        timeouts = request.extensions["timeout"]
        fields, body = request_fields(request)
        if not self._machine.streams:
            await self._look()
        if not self._machine.can_open() and self._machine.settling():
            await self._settled(timeouts)
        stream = self._machine.open(fields, body=body)
        self._expires = None
        try:
            if body:
                await self._send(stream, request.stream, timeouts)
            else:
                self._flush()
            if not stream.answered():
                await self._wait(stream, stream.answered, timeouts, "read")
            while not stream.whole():
                await self._wait(stream, partial(stream.further, stream.got), timeouts, "read")
            return self._response(stream, _Body(self, stream, timeouts))
        except BaseException:
            self.drop(stream)
            raise

    async def _look(self) -> None:
        """Let the reading task take in what has come to an idle connection: it may be its end."""
        turns = TURNS
        while turns and self._network.get_extra_info("is_readable") and not self._machine.ended:
            turns -= 1
            await asyncio.sleep(0)

    async def _settled(self, timeouts: Any) -> None:
        """Wait for the peer's SETTINGS."""
        machine = self._machine
        newcomer = Waiter()
        machine.newcomers.append(newcomer)
        try:
            seconds = timeouts.left("pool")
            mine = seconds is not None and seconds < SETTLE
            if not await self._waited(newcomer, lambda: not machine.settling(), seconds if mine else SETTLE):
                if mine:
                    raise self._core.PoolTimeout("timed out waiting for a stream")
                machine.settle()
                self._wake()
        finally:
            machine.newcomers.remove(newcomer)

    async def _send(self, stream: Stream, parts: Any, timeouts: Any) -> None:
        machine = self._machine

        def ready() -> bool:
            return machine.unwanted(stream) or (self._writer is None and machine.room(stream) > 0)

        stream.fresh = False
        if isinstance(parts, Produced):
            self._flush()
            async for part in parts:
                if await self._sent(stream, part, ready, timeouts, at_once=True):
                    return
        else:
            for part in parts:
                if await self._sent(stream, part, ready, timeouts, at_once=len(part) >= AT_ONCE):
                    return
        machine.finish(stream)
        self._flush()

    async def _sent(
        self, stream: Stream, part: bytes, ready: Callable[[], bool], timeouts: Any, *, at_once: bool
    ) -> bool:
        """Send a part of the body, once all before it is written; returns whether no more of it is wanted."""
        machine = self._machine
        rest = memoryview(part)
        while rest:
            if machine.unwanted(stream):
                return True
            if self._writer is None:
                rest = rest[machine.send(stream, rest) :]
                if rest or at_once:
                    self._flush()
                    # Uploads take turns: the one that has written is the last to be woken for the next time.
                    machine.streams[stream.id] = machine.streams.pop(stream.id)
            if rest:
                await self._wait(stream, ready, timeouts, "write")
        return machine.unwanted(stream)

    async def next(self, stream: Stream, timeouts: Any) -> bytes:
        """Return the next part of the body, empty at its end."""
        if self.foreign():
            raise not_ours(self._core.ReadError)
        if (left := timeouts.left("read")) is not None and left <= 0:
            raise self._core.ReadTimeout("timed out")
        if not stream.readable():
            await self._wait(stream, stream.readable, timeouts, "read")
        return self._taken(stream)

    def drop(self, stream: Stream) -> None:
        """The request has ended, however it did; safe to call twice."""
        if self.foreign():
            return
        self._machine.drop(stream)
        self._rest()
        self._flush()

    # Waiting

    async def _wait(self, waiter: Stream, ready: Callable[[], bool], timeouts: Any, kind: str) -> None:
        """Wait until it is ready; raises the timeout of this kind."""
        since = monotonic()
        if await self._waited(waiter, ready, timeouts.left(kind)):
            return
        self._machine.doubt(since)
        self._flush()
        timeout: Exception = getattr(self._core, f"{kind.capitalize()}Timeout")("timed out")
        raise timeout

    async def _waited(self, waiter: Waiter, ready: Callable[[], bool], seconds: float | None) -> bool:
        """Wait until it is ready; returns whether it is."""
        if ready():
            return True
        if seconds is None:
            timer = None
        elif seconds <= 0:
            return False
        else:
            timer = self._loop.call_later(seconds, self._expire, waiter)
        waiter.late = False
        try:
            while not ready():
                if waiter.late:
                    return False
                waiter.gate = self._loop.create_future()
                await waiter.gate
        finally:
            waiter.gate = None
            if timer is not None:
                timer.cancel()
        return True

    @staticmethod
    def _expire(waiter: Waiter) -> None:
        waiter.late = True
        if waiter.gate is not None and not waiter.gate.done():
            waiter.gate.set_result(None)

    def _wake(self, waiters: Iterable[Waiter] | None = None) -> None:
        changed = self._machine.changed
        for waiter in changed if waiters is None else waiters:
            if waiter.gate is not None and not waiter.gate.done():
                waiter.gate.set_result(None)
        changed.clear()

    # The socket

    async def _read(self) -> None:
        machine = self._machine
        try:
            while not machine.ended:
                data = await self._network.read(READ, None)
                if self.foreign():
                    return
                if not data:
                    machine.lost(None)
                    break
                more = machine.receive(data)
                self._wake()
                self._flush()
                if more:
                    self._more()
        except Exception as error:  # noqa: BLE001  # the socket's end, whatever anyio makes of it
            machine.lost(error)
        finally:
            self._stopped = True
            if not self.foreign():
                machine.close()
                self._wake()
                with suppress(Exception):
                    await self._network.aclose()

    def _flush(self) -> None:
        """Let what there is be written."""
        if self._machine.changed:
            self._wake()
        if self._writer is None:
            data = self._machine.output()
            if data:
                self._writer = self._loop.create_task(self._write(data))
            elif self._machine.ended:
                self._stop()
        elif self._machine.ended and not self._stopped:  # its peer may read no more, and that task never end
            self._loop.call_later(GOODBYE, self._stop)

    async def _write(self, data: bytes) -> None:
        machine = self._machine
        try:
            while data and not self.foreign():
                await self._network.write(data, None)
                data = machine.output()
        except Exception as error:  # noqa: BLE001
            await asyncio.sleep(0)  # the peer may have said why before it closed, and that may be read first
            machine.lost(error)
        finally:
            self._writer = None
            self._wake([*machine.streams.values()])
            if machine.ended:
                self._stop()

    def _stop(self) -> None:
        """The connection has ended: so does what reads it, which closes it."""
        if not (self._stopped or self.foreign()) and asyncio.current_task() is not self._reader:
            self._stopped = True
            self._reader.cancel()

    # What the pool asks

    async def aclose(self) -> None:
        """End it, and every request on it."""
        if self.foreign():
            return
        self._machine.close()
        self._flush()
        try:
            if self._writer is not None:
                await asyncio.wait([self._writer], timeout=GOODBYE)
        finally:
            self._stop()  # also where that wait is cancelled
        await asyncio.wait([task for task in (self._reader, self._writer) if task is not None])


class _Body:
    """A response's body, for httpcore."""

    def __init__(self, connection: Connection, stream: Stream, timeouts: Any) -> None:
        self._connection = connection
        self._stream = stream
        self._timeouts = timeouts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while data := await self._connection.next(self._stream, self._timeouts):
                yield data
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        self._connection.drop(self._stream)
