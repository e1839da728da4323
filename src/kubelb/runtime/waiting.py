"""Waiting for endpoints, in a thread or in a task. What gives up takes itself off the list."""

import threading
from collections.abc import Callable

from kubelb.clock import Clock
from kubelb.runtime.feed import Feed

__all__ = ["await_until", "wait_until"]


def wait_until(feed: Feed, changed: Callable[[], bool], until: float, clock: Clock) -> None:
    """Block until `changed()` or `until`; asked again at each snapshot and when the feed closes."""
    event = threading.Event()
    wake = event.set
    feed.add_waiter(wake)
    try:
        if not changed():
            event.wait(min(max(0.0, until - clock()), threading.TIMEOUT_MAX))
    finally:
        feed.remove_waiter(wake)


async def await_until(feed: Feed, changed: Callable[[], bool], until: float, clock: Clock) -> None:
    """The same for asyncio; the event loop is never blocked."""
    import asyncio

    loop = asyncio.get_running_loop()
    event = asyncio.Event()

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(event.set)
        except RuntimeError:  # the loop was closed meanwhile, and its waiters with it
            return

    feed.add_waiter(wake)
    try:
        if not changed():
            async with asyncio.timeout(max(0.0, until - clock())):
                await event.wait()
    except TimeoutError:
        return
    finally:
        feed.remove_waiter(wake)
