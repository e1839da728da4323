"""A peer of HTTP/2 that stops reading: what is kept for it, and for how long.

The kinds: a body that is taken from its producer faster than its peer takes it, into memory; an upload that its
neighbour's starves; a connection that has ended, whose tasks and socket wait for ever for a peer that reads nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from tests.faults.http2_pod import FIRST_WINDOW, Pod
from tests.waiting import until

import kubelb
from kubelb.adapters.httpx import AsyncTransport, Transport

URL = "http://reviews.prod/"
PART = b"x" * 65536
TIMEOUT = httpx.Timeout(30, write=0.3)
LAST = 2**31 - 1


@pytest.fixture
def pod() -> Iterator[Pod]:
    """Its windows are no limit."""
    made = Pod(name="pod")
    made.settings = {**made.settings, FIRST_WINDOW: 2**30}
    made.on_connect = lambda link: link.do(lambda h2: h2.increment_flow_control_window(2**30))
    yield made
    made.close()


@pytest.fixture
def lb(pod: Pod) -> Iterator[kubelb.LoadBalancer]:
    with kubelb.LoadBalancer(f"static:///{pod.address}") as lb:
        yield lb
        assert all(view.in_flight == 0 for view in lb.endpoints())


def client(lb: kubelb.LoadBalancer) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=AsyncTransport(lb, http1=False, http2=True), timeout=TIMEOUT)


class Parts:
    """A body of 100 MB at most; notes how much was taken of it, and in `order` by whom."""

    def __init__(self, name: str = "", order: list[str] | None = None, most: int = 1600) -> None:
        self.name = name
        self.order = [] if order is None else order
        self.most = most

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(self.most):
            self.order.append(self.name)
            yield PART

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self:
            yield part


class AsyncParts(Parts):
    """The same, which cannot be taken in any other way."""

    __iter__ = None  # type: ignore[assignment]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in Parts.__iter__(self):
            yield part


def tasks() -> list[str]:
    """Of connections."""
    names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    return [name for name in names if name.startswith("Connection.")]


async def gone() -> bool:
    for _ in range(2000):
        if not tasks():
            return True
        await asyncio.sleep(0.01)
    return False


def test_a_body_is_not_taken_faster_than_its_peer_takes_it(pod: Pod, lb: kubelb.LoadBalancer) -> None:
    parts = Parts()
    with httpx.Client(transport=Transport(lb, http1=False, http2=True), timeout=TIMEOUT) as sync:
        sync.get(URL)
        pod.links[0].deaf = True
        with pytest.raises(httpx.WriteTimeout):
            sync.post(URL, content=iter(parts))
    assert len(parts.order) < parts.most / 3  # what fits into sockets, and a little


def test_a_body_is_not_taken_faster_than_its_peer_takes_it_in_asyncio(pod: Pod, lb: kubelb.LoadBalancer) -> None:
    parts = AsyncParts()

    async def main() -> None:
        async with client(lb) as aio:
            await aio.get(URL)
            pod.links[0].deaf = True
            with pytest.raises(httpx.WriteTimeout):
                await aio.post(URL, content=parts)
        assert tasks() == []  # as soon as the client is closed

    asyncio.run(main())
    assert len(parts.order) < parts.most / 3


def test_uploads_take_turns(pod: Pod, lb: kubelb.LoadBalancer) -> None:
    order: list[str] = []
    pod.reads = False

    async def main() -> None:
        async with client(lb) as aio:
            await aio.get(URL)
            each = [aio.post(URL, content=AsyncParts(name, order, most=50), timeout=30) for name in "abc"]
            responses = await asyncio.gather(*each)
            assert [response.status_code for response in responses] == [200] * 3

    asyncio.run(main())
    assert pod.accepted == 1
    first = order[: len(order) // 2]
    assert {name for name in "abc" if first.count(name) >= len(first) / 5} == {*"abc"}


def test_a_connection_that_has_ended_waits_for_no_peer_that_reads_nothing(pod: Pod, lb: kubelb.LoadBalancer) -> None:
    """Nothing but itself knows of it: its client still has others, and is not closed."""

    async def main() -> None:
        aio = client(lb)
        await aio.get(URL)
        link = pod.links[0]

        def leave(told: Any) -> None:
            if told.method == "POST":
                link.frame(7, 0, LAST.to_bytes(4, "big") + bytes(4))
                link.deaf = True

        pod.on_headers = leave
        with pytest.raises(httpx.WriteTimeout):
            await aio.post(URL, content=b"x" * 8_000_000)
        assert await gone()
        link.deaf = False
        await aio.aclose()

    asyncio.run(main())
    assert until(lambda: not pod.links, 10.0)


def test_a_cancelled_close_waits_for_no_peer_that_reads_nothing(pod: Pod, lb: kubelb.LoadBalancer) -> None:
    async def main() -> None:
        aio = client(lb)
        await aio.get(URL)
        pod.links[0].deaf = True
        upload = asyncio.create_task(aio.post(URL, content=b"x" * 8_000_000, timeout=30))
        await asyncio.sleep(0.1)
        closing = asyncio.create_task(aio.aclose())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing, upload], timeout=20)
        assert isinstance(upload.exception(), httpx.ReadError)
        assert await gone()
        pod.links[0].deaf = False

    asyncio.run(main())
    assert until(lambda: not pod.links, 10.0)
