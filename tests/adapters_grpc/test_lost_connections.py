"""Kind: what happened once to a connection counted once for each call on it, and ejected a healthy pod.

Every kind of call, sync and asyncio, on real connections that are cut or grow old.
"""

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from tests.adapters_grpc import aio_kit
from tests.adapters_grpc.aio_kit import eventually, on_loop
from tests.adapters_grpc.conftest import in_flight, until
from tests.adapters_grpc.cutter import Cutter, Leaver
from tests.adapters_grpc.test_failures import WAYS

import kubelb
from kubelb.adapters import grpc as balanced
from kubelb.adapters._grpc.shared.subchannel import READY
from kubelb.adapters.grpc import aio as balanced_aio
from kubelb.core import tracking

CALLS = 12
NO_RETRIES = kubelb.Retry(attempts=1)


@pytest.fixture
def cutter() -> Iterator[Callable[[Any], Cutter]]:
    made: list[Cutter] = []

    def make(server: Any) -> Cutter:
        made.append(Cutter(server.port))
        return made[-1]

    yield make
    for each in made:
        each.close()


def holds(server: Any) -> threading.Event:
    """Have the server's calls wait, in the handler, until told or ended."""
    go = threading.Event()

    def behave(method: str, context: Any) -> None:
        while context.is_active() and not go.wait(0.01):
            pass

    server.behave = behave
    return go


def counted(lb: kubelb.LoadBalancer, address: str) -> kubelb.EndpointView:
    return next(view for view in lb.endpoints() if view.address == address)


def all_ready(channel: Any) -> bool:
    return len(channel.subs) > 0 and all(sub.check(True) == READY for sub in channel.subs._subs.values())


def start(calls: int, job: Callable[[], Any]) -> tuple[list[threading.Thread], list[Any]]:
    """Have so many threads do it; returns them and what became of it."""
    ends: list[Any] = []

    def run() -> None:
        try:
            ends.append(job())
        except grpc.RpcError as error:
            ends.append(error.code())

    threads = [threading.Thread(target=run) for _ in range(calls)]
    for thread in threads:
        thread.start()
    return threads, ends


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("way", WAYS)
def test_a_cut_connection_is_one_failure(server: Any, balance: Any, cutter: Any, way: Any, reset: bool) -> None:
    """Of as many calls as were on it: no more than one is the endpoint's, and it goes on serving."""
    here, other = server(), server()
    go, way_there = holds(here), cutter(here)
    lb = balance(way_there, other, policy="round_robin", retry=NO_RETRIES)
    with balanced.insecure_channel(lb) as channel:
        grpc.channel_ready_future(channel).result(20)
        assert until(lambda: all_ready(channel), 20)
        threads, ends = start(2 * CALLS, lambda: way(channel, timeout=30))
        assert until(lambda: here.active == CALLS and other.total == CALLS, 20)
        assert way_there.cut(reset=reset) == 1
        for thread in threads:
            thread.join(30)
        assert ends.count(grpc.StatusCode.UNAVAILABLE) == CALLS
        view = counted(lb, way_there.address)
        assert (view.failures, view.state) == (1, "ready")
        go.set()
        assert until(lambda: all_ready(channel) and way_there.open == 1, 20)
        before = here.total
        assert all(way(channel, timeout=30) for _ in range(4))
        assert here.total > before


@pytest.mark.parametrize("way", aio_kit.ways)
@on_loop
async def test_nor_is_it_more_for_asyncio(server: Any, balance: Any, cutter: Any, way: Any) -> None:
    """The same on an event loop."""
    here, other = server(), server()
    go, way_there = holds(here), cutter(here)
    lb = balance(way_there, other, policy="round_robin", retry=NO_RETRIES)
    async with balanced_aio.insecure_channel(lb) as channel:
        await channel.channel_ready()
        assert await eventually(lambda: all_ready(channel), 20)
        calls = [asyncio.ensure_future(way(channel, timeout=30)) for _ in range(2 * CALLS)]
        assert await eventually(lambda: here.active == CALLS and other.total == CALLS, 20)
        assert way_there.cut() == 1
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(end, grpc.RpcError) for end in ends) == CALLS
        view = counted(lb, way_there.address)
        assert (view.failures, view.state) == (1, "ready")
        go.set()
        assert await eventually(lambda: all_ready(channel) and way_there.open == 1, 20)
        before = here.total
        assert all([await way(channel, timeout=30) for _ in range(4)])
        assert here.total > before


@pytest.mark.slow
def test_connections_cut_again_and_again_under_load(server: Any, balance: Any, cutter: Any) -> None:
    """Other threads pick and connect in the very moment of the loss: still about one failure each, never one a call."""
    here, other = server(), server()
    holds(here)
    way_there = cutter(here)
    lb = balance(way_there, other, policy="round_robin", retry=NO_RETRIES, outliers=None)
    cuts, stop = 12, threading.Event()
    with balanced.insecure_channel(lb) as channel:
        grpc.channel_ready_future(channel).result(20)
        call = channel.unary_unary("/test.Echo/UU")

        def busy() -> None:
            while not stop.is_set():
                with contextlib.suppress(grpc.RpcError):
                    call(b"x", timeout=30)

        threads = [threading.Thread(target=busy) for _ in range(2 * CALLS)]
        for thread in threads:
            thread.start()
        failed = 0
        try:
            for _ in range(cuts):
                assert until(lambda: here.active >= CALLS, 20)
                failed += here.active
                assert way_there.cut()
                assert until(lambda: here.active < CALLS, 20)
        finally:
            stop.set()
            here.behave = lambda method, context: None
            way_there.cut()
            for thread in threads:
                thread.join(30)
    assert counted(lb, way_there.address).failures <= 3 * (cuts + 1) < failed / 2


@pytest.mark.slow
@pytest.mark.parametrize("grace", [50, 700])
def test_an_aged_connection_is_no_failure_and_streams_spread_again(
    server: Any, balance: Any, monkeypatch: Any, grace: int
) -> None:
    """As many watches as before on each pod, whose connections end every second, with nothing else to call.

    An age is minutes elsewhere, so the time that must lie between two such ends is as much shorter here. On a busy
    machine one may be noticed a second late and the next one not.
    """
    monkeypatch.setattr(tracking, "PARTING", 0.1)
    age = [("grpc.max_connection_age_ms", 1500), ("grpc.max_connection_age_grace_ms", grace)]
    servers = [server(options=age), server(options=age)]
    for each in servers:
        each.between = lambda number: time.sleep(30 if number == 2 else 0)
    lb = balance(*servers, policy="least_request")
    stop, ends = threading.Event(), Counter[str]()
    with balanced.insecure_channel(lb) as channel:
        assert until(lambda: channel.subs.connectivity() is not None and all_ready(channel), 20)

        def watch() -> None:
            while not stop.is_set():
                try:
                    for _ in channel.unary_stream("/test.Echo/US")(b"x", timeout=60):
                        pass
                except grpc.RpcError as error:
                    ends[error.code().name] += 1
                    time.sleep(0.02)
                except ValueError:  # grpcio's, of a call that begins while the channel is closed
                    assert stop.is_set()

        threads = [threading.Thread(target=watch) for _ in range(CALLS)]
        for thread in threads:
            thread.start()
        try:
            assert until(lambda: ends["UNAVAILABLE"] >= 3 * CALLS, 60)
            even = (CALLS // 2, CALLS // 2)
            assert until(lambda: tuple(view.in_flight for view in lb.endpoints()) == even, 60)
            seen = [(view.failures, view.state) for view in lb.endpoints()]
        finally:
            stop.set()
            for each in servers:
                each.stop()
            channel.close()
            for thread in threads:
                thread.join(30)
    assert seen == [(0, "ready"), (0, "ready")]
    assert in_flight(lb) == 0


@pytest.mark.parametrize("words", ["max connection age", "GOAWAY received; Error code: 0; Debug Text: max_age", "gone"])
@pytest.mark.parametrize("at_once", [1, 16])
def test_a_server_does_not_escape_by_words(server: Any, balance: Any, words: str, at_once: int) -> None:
    """Kind: trust in a peer's word without a bound. One that ends every call by a status which speaks of its connection
    is ejected, calls alone and many at once, while its connection stands."""
    bad, good = server(), server()

    def behave(method: str, context: Any) -> None:
        time.sleep(0.005)
        context.abort(grpc.StatusCode.UNAVAILABLE, words)

    bad.behave = behave
    lb = balance(bad, good, policy="round_robin", retry=NO_RETRIES)
    with balanced.insecure_channel(lb) as channel:
        grpc.channel_ready_future(channel).result(20)
        assert until(lambda: all_ready(channel), 20)

        def calls() -> None:
            for _ in range(200 // at_once):
                if counted(lb, bad.address).state == "ejected":
                    return
                with contextlib.suppress(grpc.RpcError):
                    channel.unary_unary("/test.Echo/UU")(b"x", timeout=20)

        threads, _ = start(at_once, calls)
        for thread in threads:
            thread.join(60)
        assert counted(lb, bad.address).state == "ejected"
        assert bad.total <= 6 + 4 * at_once


def test_nor_by_leaving_again_and_again(server: Any, balance: Any) -> None:
    """One that really ends each connection, announced, with all that is on it, and answers nothing."""
    bad, good = Leaver(), server()
    lb = balance(bad, good, policy="round_robin", retry=NO_RETRIES)
    try:
        with balanced.insecure_channel(lb) as channel:
            grpc.channel_ready_future(channel).result(20)

            def call_and_see() -> bool:
                with contextlib.suppress(grpc.RpcError):
                    channel.unary_unary("/test.Echo/UU")(b"x", timeout=20)
                return counted(lb, bad.address).state == "ejected"

            assert until(call_and_see, 30)
            assert 5 <= bad.taken <= 12  # gRPC itself repeats what it takes for not looked at
            assert counted(lb, bad.address).failures == 5
    finally:
        bad.close()


def test_the_look_at_open_streams(server: Any, balance: Any) -> None:
    """A connection that was announced to end is made anew while its streams go on; without streams nobody looks."""
    here = server()
    go = threading.Event()
    here.between = lambda number: go.wait(30) if number == 1 else None
    lb = balance(here)
    with balanced.insecure_channel(lb) as channel:
        stream = channel.unary_stream("/test.Echo/US")(b"x", timeout=60)
        assert next(stream)
        sub = next(iter(channel.subs._subs.values()))
        old, here.server = here.server, None
        stopped = old.stop(20)
        assert until(lambda: sub.check(False) != READY, 20)
        here.start()
        assert until(lambda: sub.check(False) == READY, 20), "nobody has called meanwhile"
        go.set()
        assert len(list(stream)) == 2
        stopped.wait(20)
        assert until(lambda: not channel.keeper._looking, 20)
        assert counted(lb, here.address).failures == 0


@on_loop
async def test_the_look_of_asyncio(server: Any, balance: Any) -> None:
    """The same on an event loop."""
    here = server()
    go = threading.Event()
    here.between = lambda number: go.wait(30) if number == 1 else None
    lb = balance(here)
    async with balanced_aio.insecure_channel(lb) as channel:
        stream = channel.unary_stream("/test.Echo/US")(b"x", timeout=60)
        assert await stream.read()
        sub = next(iter(channel.subs._subs.values()))
        old, here.server = here.server, None
        stopped = old.stop(20)
        assert await eventually(lambda: sub.check(False) != READY, 20)
        here.start()
        assert await eventually(lambda: sub.check(False) == READY, 20)
        go.set()
        assert [await stream.read(), await stream.read(), await stream.read()][2] is grpc.aio.EOF
        await asyncio.to_thread(stopped.wait, 20)
        assert await eventually(lambda: not channel.keeper._looking, 20)
        assert counted(lb, here.address).failures == 0
