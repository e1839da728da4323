"""Closing an asyncio channel: on its own loop, on a later one, or beside it in another thread.

What runs has its grace and is cancelled then. No close that is cut short leaves anything open: what closes is a task of
the channel's own, for which `close` only waits.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import grpc.aio

from kubelb.adapters._grpc.aio.endings import now
from kubelb.adapters._grpc.shared.plain import Plain
from kubelb.adapters._grpc.shared.readiness import Poll
from kubelb.adapters._grpc.shared.subchannels import SubChannels
from kubelb.runtime.fork import settled
from kubelb.runtime.loops import refuse_trio
from kubelb.service import Service

__all__ = ["AioClosing", "close_now", "closed"]

PATIENCE = 5.0
"""Seconds until a loop that runs in another thread has to begin to close its channel."""


class AioClosing:
    """Base of `AioChannel`."""

    lb: Service
    subs: SubChannels
    plain: Plain
    loop: asyncio.AbstractEventLoop | None
    flows: set[asyncio.Task[Any]]
    """Calls whose first attempt was not the whole story."""
    running: set[Any]
    """RPCs that no flow sees to, for `close(grace)`."""
    past: Any
    """Calls that go past kubelb, for `close`."""
    aside: Any
    """Has something done for which nothing waits but `close`."""
    _kept: dict[Any, Any]
    _owns: bool
    _closing: set[asyncio.Task[None]]

    def _start_anew(self, gone: Iterable[grpc.aio.Channel] = ()) -> None:
        """Forget what belonged to a loop that does not run any more; `gone`: channels that were made there."""
        raise NotImplementedError

    async def close(self, grace: float | None = None) -> None:
        """End every call and connection, and the load balancer if it was made from a target here. Idempotent.

        Calls that run have `grace` seconds to end, none by default; then they are cancelled. So they are when this is.
        It may be awaited on another event loop than the channel's: on a later one, where nothing of it runs any more,
        or beside it, in another thread, and is then done where the channel belongs.
        """
        self.refuse_trio()
        if grace is not None and grace < 0:
            raise ValueError(f"close(grace={grace!r}): give seconds, 0 or more")
        settled()
        loop = self.loop
        if loop is None or loop is asyncio.get_running_loop():
            await self._close_here(grace)
        elif not await self._closed_there(loop, grace):
            self._start_anew(self.subs.take_all() + self.plain.take())
            await self._close_here(None)

    async def _closed_there(self, loop: asyncio.AbstractEventLoop, grace: float | None) -> bool:
        """Close on the loop that the channel belongs to; False where that does not run, or stops before it is done."""
        if not loop.is_running():
            return False
        begun: list[bool] = []

        async def close() -> None:
            begun.append(True)
            await self._close_here(grace)

        closing, poll, clock = asyncio.run_coroutine_threadsafe(close(), loop), Poll(), asyncio.get_running_loop().time
        until = clock() + PATIENCE
        try:
            while not closing.done():
                if not loop.is_running():
                    return False
                if not begun and clock() > until:  # it may be waiting for what runs here
                    raise RuntimeError(
                        f"{self!r} is bound to another event loop, which does not come to close it; close it there"
                    )
                await asyncio.sleep(poll.pause())
        finally:
            if not (closing.done() or loop.is_closed()):
                closing.cancel()
        closing.result()
        return True

    async def _close_here(self, grace: float | None) -> None:
        channels = self.subs.take_all() + self.plain.take()
        self._kept.clear()
        try:
            if grace:
                await self._drained(grace)
        finally:  # also where the wait is cut short: nothing else knows what runs
            for task in tuple(self.flows):
                task.cancel()
            for call in (*self.running, *self.past):  # grpcio looks for them in the stacks of tasks, and misses some
                with suppress(Exception):
                    call.cancel()
            for channel in channels:
                self.aside(closed(channel))
        try:
            if self._closing:
                await asyncio.wait(self._closing)
        finally:
            if self._owns:
                await self.lb.aclose()

    async def _drained(self, grace: float) -> None:
        """Wait for what runs. grpcio's own grace will not do: a close that is cut short there cancels nothing."""
        poll, clock = Poll(), self.lb.balancer.clock
        until = clock() + grace
        while (self.running or self.flows or self._passing_by()) and clock() < until:  # noqa: ASYNC110
            await asyncio.sleep(min(poll.pause(), max(0.0, until - clock())))

    def _passing_by(self) -> bool:
        return not all(call.done() for call in tuple(self.past))

    def refuse_trio(self) -> None:
        """Raise RuntimeError where trio runs the caller, in which grpc.aio hangs or is not understood."""
        refuse_trio(repr(self), "the channels of kubelb.adapters.grpc", "stub.Method, request")

    async def __aenter__(self) -> Self:
        self.refuse_trio()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def close_now(channel: grpc.aio.Channel) -> None:
    """Close a channel whose loop does not run: what it has to do there is not waited for.

    Its calls first, for a loop that is closed refuses what their cancelling asks of it, and grpcio gives up there.
    """
    for call in tuple(getattr(channel, "_active_calls", ())):
        with suppress(Exception):
            call.cancel()
    with suppress(Exception):
        now(channel.close())


async def closed(channel: grpc.aio.Channel) -> None:
    """Close a channel on its own loop."""
    with suppress(Exception):
        await channel.close()
