"""HTTP/1.1 of asyncio and a fork. The kind: a child that touches what its parent's event loop waits for.

The selector of that loop is one for both, so even to close an inherited response there took its socket out of it, and
the parent waited for ever; over TLS the child's goodbye ended the parent's connection.
"""

import asyncio
import os
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import trustme
from tests.adapters.raw import Peer, RawServer
from tests.faults.test_http2_forks import Inherited, closed_in_a_child, in_c, in_child

from kubelb.adapters.httpx import AsyncTransport

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks of this kind"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


@pytest.fixture
def go_on() -> threading.Event:
    """Set, it lets the pod answer the other half."""
    return threading.Event()


@pytest.fixture(params=["http", "https"])
def pod(request: Any, go_on: threading.Event) -> Iterator[RawServer]:
    """It answers half of what it has to say, and the other half when the event is set."""

    def halves(peer: Peer) -> None:
        while True:
            peer.request()
            peer.send(HEAD + b"a")
            go_on.wait(30)
            peer.send(b"b")

    tls = None
    if request.param == "https":
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("x").configure_cert(tls)
    made = RawServer(halves, tls=tls)
    made.url = f"{request.param}://x/"  # type: ignore[attr-defined]
    yield made
    go_on.set()
    made.close()


async def whole(pod: Any, transport: AsyncTransport) -> bytes:
    response = await transport.handle_async_request(httpx.Request("GET", pod.url))
    return await response.aread()


class Reading(Inherited):
    """The parent waits for the other half when it forks: then its selector has the socket."""

    waits: asyncio.Future[bytes]


async def begun(pod: Any, *, waits: bool) -> Reading:
    transport = AsyncTransport(f"static:///{pod.address}", verify=False)
    response = await transport.handle_async_request(httpx.Request("GET", pod.url))
    parts = response.aiter_raw()
    assert await anext(parts) == b"a"
    held = Reading(transport, response, parts)
    if waits:
        held.waits = asyncio.ensure_future(anext(parts))
        await asyncio.sleep(0.01)
    return held


async def ended(pod: Any, held: Reading) -> None:
    """The parent reads the rest, and its connection is as it was."""
    async with asyncio.timeout(20):
        rest = [await held.waits] if hasattr(held, "waits") else []
        assert [*rest, *[part async for part in held.parts]] == [b"b"]
        assert await whole(pod, held.transport) == b"ab"
        await held.transport.aclose()


def ask(pod: Any, held: Inherited) -> None:
    assert asyncio.run(whole(pod, held.transport)) == b"ab"


ACTS: dict[str, Callable[[Inherited], object]] = {
    "close": Inherited.close,
    "close all": Inherited.close_all,
    "read": Inherited.read,
    "collected": Inherited.collected,
}


@pytest.mark.parametrize("fork", [os.fork, in_c], ids=["python", "c"])
@pytest.mark.parametrize("act", ACTS)
def test_a_child_leaves_its_parents_connection_alone(
    fork: Callable[[], int], act: str, pod: RawServer, go_on: threading.Event
) -> None:
    """Whatever it does with the response that it has a copy of.

    Where nothing of ours is told of the fork the collector ends what waits, as it does with the bare client.
    """
    runners = [asyncio.Runner()]
    held = runners[0].run(begun(pod, waits=act != "read" and (act, fork) != ("collected", in_c)))

    def child() -> None:
        runners.clear()
        ACTS[act](held)

    assert in_child(fork, child) == 0
    go_on.set()
    runners[0].run(ended(pod, held))
    runners[0].close()
    assert pod.accepted == 1


@pytest.mark.parametrize("act", ["close", "close all", "read", "ask"])
def test_a_child_of_a_running_loop_leaves_its_connection_alone(
    act: str, pod: RawServer, go_on: threading.Event
) -> None:
    """Forked by a coroutine, as `multiprocessing` forks; what the child asks goes on a connection of its own."""

    async def main() -> None:
        held = await begun(pod, waits=act != "read")
        if act == "ask":
            go_on.set()
        assert in_child(os.fork, lambda: ask(pod, held) if act == "ask" else ACTS[act](held)) == 0
        go_on.set()
        await ended(pod, held)

    asyncio.run(main())
    assert pod.accepted == (2 if act == "ask" else 1)


def test_a_child_that_goes_on_with_its_parents_loop_leaves_its_connection_alone(
    pod: RawServer, go_on: threading.Event
) -> None:
    """No child should; but asyncio does not notice a fork in C, and a coroutine that closes what it has does so."""

    async def main() -> None:
        held = await begun(pod, waits=True)
        await closed_in_a_child(held)
        go_on.set()
        await ended(pod, held)

    asyncio.run(main())
    assert pod.accepted == 1
