"""Beginnings and ends: endpoints that go away, what is closed, event loops, a missing client, many endpoints."""

import asyncio
import gc
import statistics
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from tests.adapters.raw import OK, Peer, half
from tests.adapters.world import AioWorld, World
from tests.waiting import until

from kubelb import Closed, LoadBalancer, Snapshot
from kubelb.service import service_of

URL = "http://reviews.prod/"


def without(lb: LoadBalancer, server: Any) -> None:
    """What discovery does when an endpoint is gone."""
    before = service_of(lb).balancer.snapshot
    assert before is not None
    left = tuple(endpoint for endpoint in before.endpoints if endpoint.authority != server.address)
    service_of(lb)._publish(Snapshot(before.version + 1, left))


def until_in(world: World, condition: Any, seconds: float = 3.0) -> bool:
    """The same as `until`, while the world's event loop runs."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        world.breathe(0.002)
        time.sleep(0.002)
    return True


def test_an_endpoint_that_is_removed_in_mid_stream(world: World, raw, balance) -> None:
    """Its stream is read to the end, no request goes there any more, and then its connection is closed."""
    finish = threading.Event()

    def stream(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
        finish.wait(20)
        peer.send(b"done")
        peer.hang()

    old, new = raw(stream), raw()
    lb = balance(old)
    client = world.client(lb)
    response = world.open(client, "GET", URL)
    service_of(lb)._publish(
        Snapshot(
            7, (*service_of(lb).balancer.snapshot.endpoints, *service_of(balance(new)).balancer.snapshot.endpoints)
        )
    )
    without(lb, old)
    for _ in range(5):
        assert world.get(client, URL).extensions["kubelb"]["endpoint"] == new.address
    assert (old.delivered, old.open) == (1, 1)
    finish.set()
    assert b"".join(world.chunks(response)) == b"halfdone"
    world.close(response)
    assert until_in(world, lambda: old.open == 0)
    assert (old.delivered, new.delivered, new.open) == (1, 5, 1)


def test_a_response_that_is_dropped_after_its_endpoint_has_gone(world: World, raw, balance) -> None:
    """The next request closes what nobody else will, and the endpoint's pool."""
    old, new = raw(half), raw()
    lb = balance(old)
    client = world.client(lb)
    response = world.open(client, "GET", URL)
    service_of(lb)._publish(Snapshot(7, service_of(balance(new)).balancer.snapshot.endpoints))
    assert (len(client._transport._pools), old.open) == (1, 1)
    del response
    gc.collect()
    assert world.get(client, URL).status_code == 200
    assert until_in(world, lambda: old.open == 0 and len(client._transport._pools) == 1)


def test_a_response_that_is_dropped_is_closed_where_no_endpoint_is_left(world: World, raw, balance) -> None:
    """Kind: what only an attempt does is not done by a request that is refused before it."""
    old = raw(half)
    lb = balance(old)
    client = world.client(lb)
    response = world.open(client, "GET", URL)
    service_of(lb)._publish(Snapshot(7, ()))
    assert (len(client._transport._pools), old.open) == (1, 1)
    del response
    gc.collect()
    with pytest.raises(world.httpx.ConnectError):
        world.get(client, URL)
    assert until_in(world, lambda: old.open == 0 and len(client._transport._pools) == 0)


def test_a_half_read_response_in_the_collectors_hands(sync_world: World, raw, balance) -> None:
    """It may come while a pool is made, inside the lock for that, and the endpoint may have gone meanwhile."""

    lb = balance(raw(half))
    client = sync_world.client(lb)
    response = sync_world.open(client, "GET", URL)
    reading = response.iter_raw()
    assert next(reading) == b"half"
    circle: list[object] = [response, reading]
    circle.append(circle)
    service_of(lb)._publish(Snapshot(7, service_of(balance(raw())).balancer.snapshot.endpoints))

    def collect() -> None:
        with client._transport._pools._lock:
            gc.collect()

    del response, reading, circle
    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert sync_world.get(client, URL).status_code == 200
    assert len(client._transport._pools) == 1


def test_the_idle_connections_of_a_removed_endpoint(world: World, raw, balance) -> None:
    """They are closed at once, and those of the others are kept."""
    old, new = raw(), raw()
    lb = balance(old, new, policy="round_robin")
    client = world.client(lb)
    for _ in range(2):
        world.get(client, URL)
    without(lb, old)
    assert until_in(world, lambda: old.open == 0)
    assert world.get(client, URL).status_code == 200
    assert (new.accepted, new.open) == (1, 1)


def test_a_closed_load_balancer(world: World, raw, balance) -> None:
    """It refuses with Closed, which is a ConnectError too; a stream under way is read to its end."""
    server = raw()
    lb = balance(server)
    client = world.client(lb)
    response = world.open(client, "GET", URL)
    lb.close()
    with pytest.raises(Closed) as caught:
        world.get(client, URL)
    assert isinstance(caught.value, world.httpx.ConnectError)
    assert world.read(response) == b"ok"
    assert server.delivered == 1


def test_closing_a_transport(world: World, raw, balance) -> None:
    """It closes its connections, and a load balancer only if it made that itself; twice is no error."""
    server = raw()
    lb = balance(server)
    for target in (lb, f"static:///{server.address}"):
        transport = world.transport(target)
        client = world.client(None, mounts={"http://reviews.prod": transport})
        world.get(client, URL)
        assert server.open == 1
        for _ in range(2):
            world.close(transport)
        assert until_in(world, lambda: server.open == 0)
        assert (transport.lb.balancer.refusal() is None) == (target is lb)


def test_closing_a_transport_while_a_body_is_read(world: World, raw, balance) -> None:
    """It loses its connection, with the client's own error, and the endpoint is not blamed for that."""
    server = raw(half)
    lb = balance(server)
    client = world.client(lb)
    response = world.open(client, "GET", URL)
    world.close(client._transport)
    with pytest.raises(world.httpx.ReadError):
        world.read(response)
    world.close(response)
    (state,) = service_of(lb).balancer.states()
    assert (state.successes, state.failures, state.in_flight) == (1, 0, 0)


def test_closing_a_transport_is_cancelled(aio_world: AioWorld, raw, balance) -> None:
    """Its pools have been taken out by then, so nobody else could close those that are left."""
    servers = [raw() for _ in range(4)]
    client = aio_world.client(balance(*servers, policy="round_robin"))
    for _ in servers:
        aio_world.get(client, URL)
    assert [server.open for server in servers] == [1, 1, 1, 1]

    async def cancelled() -> None:
        closing = asyncio.ensure_future(client._transport.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing

    aio_world.run(cancelled())
    assert until_in(aio_world, lambda: [server.open for server in servers] == [0, 0, 0, 0])


def test_two_event_loops_at_once(aio_world: AioWorld, raw, balance) -> None:
    """The second is told to use a transport of its own, which may share the load balancer."""
    lb = balance(raw())
    client = aio_world.client(lb)
    assert aio_world.get(client, URL).status_code == 200

    async def there(client: Any) -> int:
        status: int = (await client.get(URL)).status_code
        return status

    async def of_its_own() -> int:
        async with aio_world.httpx.AsyncClient(transport=aio_world.transport(lb)) as client:
            return await there(client)

    with asyncio.Runner() as other:
        with pytest.raises(RuntimeError, match="each loop an AsyncTransport of its own"):
            other.run(there(client))
        assert other.run(of_its_own()) == 200
    assert aio_world.get(client, URL).status_code == 200


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_event_loop_after_another(aio_world: AioWorld, raw, balance) -> None:
    """A transport moves on to a new loop when its own is closed; what was open there is the collector's."""
    server = raw()
    lb = balance(server)
    client = aio_world.httpx.AsyncClient(transport=aio_world.transport(lb))

    async def get() -> int:
        status: int = (await client.get(URL)).status_code
        return status

    assert [asyncio.run(get()) for _ in range(2)] == [200, 200]
    assert server.accepted == 2

    async def last() -> None:
        await get()
        await client.aclose()

    asyncio.run(last())
    gc.collect()
    assert until(lambda: server.open == 0)


def test_no_event_loop(aio_world: AioWorld, raw, balance) -> None:
    """Anywhere but under asyncio it says so."""
    transport = aio_world.transport(balance(raw()))
    coroutine = transport.handle_async_request(aio_world.httpx.Request("GET", URL))
    with pytest.raises(RuntimeError, match="asyncio only"):
        coroutine.send(None)


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_a_client_that_is_not_installed(name: str) -> None:
    """The ImportError names the pip command."""
    code = f"import sys; sys.modules[{name!r}] = None; import kubelb.adapters.{name}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert f"ImportError: kubelb.adapters.{name} needs {name}: pip install 'kubelb[{name}]'" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have one loopback address")
def test_many_endpoints_cost_no_more_than_one(world: World, raw, balance) -> None:
    """A request over 200 endpoints, with a connection to each, takes about as long as over one."""

    def answer(peer: Peer) -> None:
        while True:
            peer.request()
            peer.send(OK)

    server = raw(answer, host="")
    port = server.address.rpartition(":")[2]
    few = world.client(balance(server.address, policy="round_robin"))
    many = world.client(balance(*(f"127.0.2.{n}:{port}" for n in range(1, 201)), policy="round_robin"))
    taken: dict[Any, list[float]] = {few: [], many: []}
    for client in (many, few):
        for _ in range(200):
            world.get(client, URL)
    for _ in range(300):  # interleaved, so that a busy machine is busy for both
        for client, times in taken.items():
            began = time.perf_counter()
            world.get(client, URL)
            times.append(time.perf_counter() - began)
    # The best tenth: what the client does takes its time always, a server's thread that has to wait for a core not.
    best = {client: statistics.quantiles(times, n=10)[0] for client, times in taken.items()}
    assert best[many] < 4 * best[few]
