"""Waiting for a connection, in a task: as `sync/waiting.py` has it for threads."""

import asyncio
from contextlib import suppress

from kubelb.adapters._grpc.shared.readiness import Poll, Readiness

__all__ = ["AioWaiting"]


class AioWaiting(Readiness):
    """`kubelb.runtime.calls.AioConnections`."""

    async def wait(self, version: int | None, until: float) -> None:
        """Return when another pick may say something else, or at `until`."""
        over = self.question(version)
        loop, event = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop was closed meanwhile, and its waiters with it
                loop.call_soon_threadsafe(event.set)

        feed = self.lb.feed()
        if feed is not None:
            feed.add_waiter(wake)
        clock, poll = self.lb.balancer.clock, Poll()
        self.subs.connect()
        try:
            while (left := until - clock()) > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(poll.pause(), left)):
                        await event.wait()
                if event.is_set() or over():
                    self.subs.unreached.hear()
                    if hearing := self.subs.unreached.hearing:  # the pick that follows is to say why nothing connects
                        await asyncio.wait(hearing)
                    return
        finally:
            if feed is not None:
                feed.remove_waiter(wake)
