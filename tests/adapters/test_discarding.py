"""A first answer that a retry throws away: its connection is given back once, whatever ends the call meanwhile.

The next user of that connection may have it at once. A second go at the old body would read the new user's answer.
"""

import asyncio
from typing import Any

import pytest
from tests.adapters.conftest import in_flight
from tests.adapters.world import AioWorld, World

TURNS = range(24)
"""Turns of the event loop after which the cancellation comes: before, within and after all that the discarding does."""


@pytest.mark.parametrize("turns", TURNS)
def test_a_cancelled_retry_leaves_the_next_user_alone(aio_world: AioWorld, service, balance, turns: int) -> None:
    """One connection; whoever waits for it gets its own answer, though the task before was cancelled."""
    backend = service(1)[0]
    lb = balance(backend)
    client = aio_world.client(lb, tls={"limits": aio_world.httpx.Limits(max_connections=1)})
    body = client._transport.kit.AsyncBody
    tasks: list[asyncio.Task[Any]] = []
    cancelling: list[asyncio.Task[None]] = []

    async def get(path: str) -> str:
        response = await client.get(f"http://reviews.prod{path}")
        assert response.status_code == 200
        return response.json()["path"]

    async def discard(self: Any, headers: Any) -> None:
        """The body's own; the retry that called it is cancelled some turns from now."""
        if not cancelling:
            cancelling.append(asyncio.ensure_future(cancel(tasks[0])))
        await original(self, headers)

    async def cancel(task: asyncio.Task[Any]) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()

    async def both() -> list[Any]:
        tasks.append(asyncio.ensure_future(get("/first")))
        await asyncio.sleep(0)
        tasks.extend(asyncio.ensure_future(get(f"/next/{number}")) for number in range(3))
        return await asyncio.gather(*tasks, return_exceptions=True)

    original = body.discard
    backend.fail(503, times=1)
    body.discard = discard
    try:
        first, *others = aio_world.run(both())
    finally:
        body.discard = original
    assert first == "/first" or isinstance(first, asyncio.CancelledError)
    assert others == ["/next/0", "/next/1", "/next/2"]
    assert in_flight(lb) == 0


def test_an_interrupted_retry_reads_no_body_twice(sync_world: World, service, balance) -> None:
    """Ctrl-C right after the connection was given back: the next request has it, and its answer is its own."""
    backend = service(1)[0]
    client = sync_world.client(balance(backend), tls={"limits": sync_world.httpx.Limits(max_connections=1)})
    body = client._transport.kit.Body
    seen: list[str] = []

    def close(self: Any) -> None:
        original(self)
        if not seen:
            seen.append("interrupted")
            another.append(stream.__enter__())
            raise KeyboardInterrupt

    stream = client.stream("GET", "http://reviews.prod/next")
    another: list[Any] = []
    original = body.close
    backend.fail(503, times=1)
    body.close = close
    try:
        with pytest.raises(KeyboardInterrupt):
            client.get("http://reviews.prod/first")
    finally:
        body.close = original
    another[0].read()
    assert another[0].json()["path"] == "/next"
    stream.__exit__(None, None, None)
