"""The same request with the bare client and through kubelb, and every way to cancel it at a turn of the loop."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import anyio
from tests.adapters.raw import OK, Peer
from tests.adapters.world import AioWorld

__all__ = ["UNASKED", "WAYS", "Side", "alive", "answering", "sides", "turns"]

Get = Callable[[], Awaitable[Any]]
SOON = 60
"""Turns of the loop within which what was cancelled has ended; nothing in it may wait for a server."""

UNASKED = "it had ended before"


def answering(peer: Peer) -> None:
    """/whole is answered, /half in part, all else never."""
    while True:
        head = peer.request()
        if b"/whole" in head:
            peer.send(OK)
        elif b"/half" in head:
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")


class Side(NamedTuple):
    """One of the two: a client, and where the service is for it."""

    client: Any
    url: str
    pools: Callable[[], list[Any]]

    def lost(self) -> list[str]:
        """What is neither idle nor closed in its pools although nothing runs, and requests that have not left."""
        found = []
        for pool in self.pools():
            found += [repr(each) for each in pool.connections if not (each.is_idle() or each.is_closed())]
            found += [repr(each) for each in pool._requests]
        return found


def sides(
    world: AioWorld,
    server: Any,
    lb: Any,
    tls: ssl.SSLContext | None = None,
    limits: Any = None,
    http2: bool = False,
    **options: Any,
) -> tuple[Side, Side]:
    """The bare client, and the one over a transport of ours. Close both: `world.close(side.client)`."""
    scheme = "http" if tls is None else "https"
    given: dict[str, Any] = {} if limits is None else {"limits": limits}
    if http2:
        given |= {"http1": False, "http2": True}
    bare = world.httpx.AsyncClient(verify=tls or False, **given, **options)
    transport = world.transport(lb, verify=tls or False, **given)
    return (
        Side(bare, f"{scheme}://{server.address}", lambda: [bare._transport._pool]),
        Side(
            world.httpx.AsyncClient(transport=transport, **options),
            f"{scheme}://reviews.prod",
            lambda: [*transport._pools._plain.values(), *transport._pools._tls.values()],
        ),
    )


def alive() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def ended(task: asyncio.Task[Any], begun: int = 0) -> str:
    """How it ends, soon (and `begun` turns from now, if it was not cancelled yet); "late" if it does not."""
    for _ in range(begun + SOON):
        if task.done():
            break
        await asyncio.sleep(0)
    late = "" if task.done() else "late "
    try:
        result = await asyncio.wait_for(task, 5)
    except (asyncio.CancelledError, Exception) as error:
        return late + named(error)
    return late + str(getattr(result, "status_code", result))


def named(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return f"[{', '.join(named(each) for each in error.exceptions)}]"
    return type(error).__name__


async def by_cancel(get: Get, turn: int) -> str:
    task = asyncio.ensure_future(get())
    await turns(turn)
    task.cancel()
    return await ended(task)


async def by_two_cancels(get: Get, turn: int) -> str:
    """The second one while it cleans up after the first."""
    task = asyncio.ensure_future(get())
    await turns(turn // 6)
    task.cancel()
    await turns(turn % 6)
    task.cancel()
    return await ended(task)


async def by_wait_for(get: Get, turn: int) -> str:
    async def within() -> Any:
        return await asyncio.wait_for(get(), 60)

    task = asyncio.ensure_future(within())
    await turns(turn)
    task.cancel()
    return await ended(task)


def timed(get: Get) -> tuple[asyncio.Task[Any], asyncio.Timeout]:
    limit = asyncio.timeout(60)

    async def within() -> Any:
        async with limit:
            return await get()

    return asyncio.ensure_future(within()), limit


async def by_timeout(get: Get, turn: int) -> str:
    task, limit = timed(get)
    await turns(max(1, turn))
    limit.reschedule(asyncio.get_running_loop().time())
    return await ended(task)


async def by_timeout_and_cancel(get: Get, turn: int) -> str:
    """Both in the same turn."""
    task, limit = timed(get)
    await turns(max(1, turn))
    limit.reschedule(asyncio.get_running_loop().time())
    asyncio.get_running_loop().call_soon(task.cancel)
    return await ended(task)


async def by_group(get: Get, turn: int) -> str:
    async def neighbour() -> None:
        await turns(turn)
        raise KeyError("a neighbour's")

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(get())
            group.create_task(neighbour())

    return await ended(asyncio.ensure_future(both()), turn)


def scoped(get: Get, scope: Any) -> asyncio.Task[Any]:
    async def within() -> Any:
        with scope:
            return await get()
        return "left its scope"

    return asyncio.ensure_future(within())


async def by_scope(get: Get, turn: int) -> str:
    scope = anyio.CancelScope()
    task = scoped(get, scope)
    await turns(turn)
    scope.cancel()
    return await ended(task)


async def by_deadline(get: Get, turn: int) -> str:
    entered: list[anyio.CancelScope] = []

    async def within() -> Any:
        with anyio.fail_after(60) as scope:
            entered.append(scope)
            return await get()

    task = asyncio.ensure_future(within())
    await turns(max(1, turn))
    entered[0].deadline = 0.0
    return await ended(task)


async def by_scope_and_cancel(get: Get, turn: int) -> str:
    """The native one some turns after the scope's, while httpcore cleans up in a shield of anyio's."""
    scope = anyio.CancelScope()
    task = scoped(get, scope)
    await turns(turn // 6)
    scope.cancel()
    await turns(turn % 6)
    return await ended(task) if task.cancel() else UNASKED


async def by_cancel_in_a_shield(get: Get, turn: int) -> str:
    """A shield of the caller's own keeps scopes off, and no native cancellation."""
    task = scoped(get, anyio.CancelScope(shield=True))
    await turns(turn)
    task.cancel()
    return await ended(task)


WAYS = (
    by_cancel,
    by_two_cancels,
    by_wait_for,
    by_timeout,
    by_timeout_and_cancel,
    by_group,
    by_scope,
    by_deadline,
    by_scope_and_cancel,
    by_cancel_in_a_shield,
)
