"""HTTP/2 and a fork. The kind: a child that speaks on its parent's connection."""

import asyncio
import ctypes
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from tests.faults.http2_pod import Pod, Told

from kubelb.adapters._httpx.http2.wire import Wire
from kubelb.adapters.httpx import AsyncTransport, Transport

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no signals and forks of this kind")


def in_c() -> int:
    """Fork so that Python is not told.

    Before that no other thread may ask for the interpreter's lock, as each does when it has waited for 5 ms: a child
    that finds that asked for waits until that thread has had it, which is for ever.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000.0)
    try:
        time.sleep(0.01)  # those that wait have it now, and wait with the new interval from here on
        return int(ctypes.PyDLL(None).fork())
    finally:
        sys.setswitchinterval(interval)


def in_child(fork: Callable[[], int], act: Callable[[], object]) -> int:
    """Return the exit status of a child that does so: 0 where nothing was raised."""
    sys.stdout.flush()
    if (child := fork()) == 0:
        status = 1
        try:
            signal.alarm(20)
            act()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


async def closed_in_a_child(held: Any) -> None:
    """A child of a fork in C goes on with this loop, and closes the response; returns in the parent, after its end."""
    loop = asyncio.get_running_loop()
    if in_c() == 0:
        try:
            signal.alarm(20)
            asyncio._set_running_loop(loop)  # Python 3.11 compares process ids
            await held.response.aclose()
            for _ in range(20):
                await asyncio.sleep(0)
        finally:
            os._exit(0)
    os.wait()  # noqa: ASYNC222  # it is to stand still


ACTS: dict[str, Callable[[list[Any]], object]] = {
    "close": lambda held: held[0].close(),
    "collected": lambda held: (held.clear(), gc.collect()),
    "read": lambda held: pytest.raises(httpx.ReadError, next, held[1]),  # noqa: RUF061  # an expression
}


def halves(pod: Pod) -> threading.Event:
    """The pod answers half of what it has to say, and the other half when the event is set."""
    go_on = threading.Event()

    def slow(told: Told) -> None:
        told.headers()
        told.data(b"a")
        go_on.wait(30)
        told.data(b"b", end=True)

    pod.handler = slow
    return go_on


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("fork", [os.fork, in_c], ids=["python", "c"])
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("locked", [False, True], ids=["free", "locked"])
def test_a_child_leaves_its_parents_stream_alone(
    fork: Callable[[], int], act: str, locked: bool, pod: Pod, transport: Transport
) -> None:
    """Whatever it does with the response that it has a copy of: no reset gets out, and no lock is waited for."""
    go_on = halves(pod)
    locks: list[Any] = []
    if locked:
        connections = [found for found in gc.get_objects() if isinstance(found, Wire)]
        assert all(not found._lock.locked() for found in connections)
    response = transport.handle_request(httpx.Request("GET", "http://x/"))
    parts = response.iter_raw()
    assert next(parts) == b"a"
    if locked:
        locks = [found._lock for found in gc.get_objects() if isinstance(found, Wire) and found._machine.streams]
        assert locks
        for lock in locks:
            lock.acquire()
    held = [response, parts]
    try:
        status = in_child(fork, lambda: ACTS[act](held))
    finally:
        for lock in locks:
            lock.release()
    go_on.set()
    assert status == 0
    assert b"".join(parts) == b"b"
    assert [told.reset for told in pod.all_told()] == [None]


class Inherited:
    """What a child has of an asyncio client in the midst of an answer: it lets go of all of it, or calls it."""

    def __init__(self, transport: AsyncTransport, response: httpx.Response, parts: Any) -> None:
        self.transport, self.response, self.parts = transport, response, parts

    def close(self) -> None:
        asyncio.run(self.response.aclose())

    def close_all(self) -> None:
        asyncio.run(self.transport.aclose())

    def collected(self) -> None:
        vars(self).clear()
        asyncio.set_event_loop(None)
        gc.collect()

    def read(self) -> None:
        async def read() -> None:
            with pytest.raises(httpx.ReadError):
                await anext(self.parts)

        asyncio.run(read())
        assert [view.failures for view in self.transport.lb.endpoints()] == [0]  # it is no fault of the pod

    def ask(self) -> None:
        async def ask() -> None:
            response = await self.transport.handle_async_request(httpx.Request("GET", "http://x/"))
            assert await response.aread() == b"ab"

        asyncio.run(ask())


async def begun(pod: Pod) -> Inherited:
    transport = AsyncTransport(f"static:///{pod.address}", http1=False, http2=True)
    response = await transport.handle_async_request(httpx.Request("GET", "http://x/"))
    parts = response.aiter_raw()
    assert await anext(parts) == b"a"
    return Inherited(transport, response, parts)


async def ended(pod: Pod, held: Inherited) -> None:
    """The parent reads the rest, and its connection is as it was."""
    assert [part async for part in held.parts] == [b"b"]
    response = await held.transport.handle_async_request(httpx.Request("GET", "http://x/"))
    assert await response.aread() == b"ab"
    assert {told.reset for told in pod.all_told()} == {None}
    await held.transport.aclose()


@pytest.fixture
def go_on(pod: Pod) -> threading.Event:
    """Set, it lets the pod answer the other half."""
    return halves(pod)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("fork", [os.fork, in_c], ids=["python", "c"])
@pytest.mark.parametrize("act", [Inherited.close, Inherited.close_all, Inherited.read, Inherited.collected])
def test_a_child_leaves_its_parents_tasks_alone(
    fork: Callable[[], int], act: Callable[[Inherited], object], pod: Pod, go_on: threading.Event
) -> None:
    """The same of asyncio, whose tasks a child has copies of, too: nor is the parent's selector told anything."""
    runners = [asyncio.Runner()]
    held = runners[0].run(begun(pod))

    def child() -> None:
        runners.clear()
        act(held)

    assert in_child(fork, child) == 0
    go_on.set()
    runners[0].run(ended(pod, held))
    runners[0].close()
    assert pod.accepted == 1


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("act", [Inherited.close, Inherited.close_all, Inherited.read, Inherited.ask])
def test_a_child_of_a_running_loop_leaves_its_tasks_alone(
    act: Callable[[Inherited], object], pod: Pod, go_on: threading.Event
) -> None:
    """Forked by a coroutine, as `multiprocessing` forks; what the child asks goes on a connection of its own."""

    async def main() -> None:
        held = await begun(pod)
        if act is Inherited.ask:
            go_on.set()
        assert in_child(os.fork, lambda: act(held)) == 0
        go_on.set()
        await ended(pod, held)

    asyncio.run(main())


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_that_goes_on_with_its_parents_loop_leaves_its_tasks_alone(pod: Pod, go_on: threading.Event) -> None:
    """No child should; but asyncio does not notice a fork in C, and a coroutine that closes what it has does so."""

    async def main() -> None:
        held = await begun(pod)
        await closed_in_a_child(held)
        go_on.set()
        await ended(pod, held)

    asyncio.run(main())
    assert pod.accepted == 1
