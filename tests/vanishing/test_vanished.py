"""A node vanishes without a goodbye, under every adapter at once: they are quicker together than one after the other.

The kind: a connection that nothing ends. A client without a timeout waits on it for ever, one with a long timeout for
as long as that, and a pool hands it out again. What is alive, but slow, is not to be mistaken for it.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from tests.adapters.raw import OK, Peer, RawServer
from tests.adapters_grpc.servers import EchoServer
from tests.faults.http2_pod import Pod, Told
from tests.vanishing.callers import Caller, Requests, http, rpc
from tests.vanishing.node import Node, established
from tests.waiting import until

from kubelb import LoadBalancer, Retry
from kubelb.adapters import grpc as balanced
from kubelb.adapters.sockets import keep_alive

pytestmark = pytest.mark.slow

SHORT = keep_alive(idle=1, interval=1, probes=2, unacknowledged=2.0)
SOON = 20.0
"""Seconds: the options say three; a busy machine has its own view."""
THINKS = 4.0
"""Seconds that a slow pod takes for an answer, more than the options give a node that is not there."""


class Rig:
    """One caller, its server and the node between them."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.thinks = 0.0
        self.asked = threading.Event()
        self._released = threading.Event()
        self._server = self._serving()
        self.node = Node(self._server.address)
        self.lb = LoadBalancer(f"static:///{self.node.address}", retry=Retry(attempts=1))
        caller.open(self.lb, SHORT)

    def _serving(self) -> Any:
        if self.caller.rpc:
            server = EchoServer()
            server.behave = lambda method, context: self.think()
            return server
        return Pod(self.told) if self.caller.http2 else RawServer(self.serve)

    def think(self) -> None:
        self.asked.set()
        self._released.wait(self.thinks)

    def serve(self, peer: Peer) -> None:
        while True:
            peer.request()
            self.think()
            peer.send(OK)

    def told(self, told: Told) -> None:
        self.think()
        told.answer()

    def failures(self) -> int:
        return sum(view.failures for view in self.lb.endpoints())

    def close(self) -> None:
        self._released.set()
        self.caller.close()
        self.lb.close()
        self.node.close()
        (self._server.stop if self.caller.rpc else self._server.close)()


def at_once(callers: list[Caller], what: Callable[[Rig], Any]) -> dict[str, Any]:
    """Do the same with each of them, at the same time; returns what came of it by their names."""

    def one(caller: Caller) -> Any:
        rig = Rig(caller)
        try:
            return what(rig)
        finally:
            rig.close()

    with ThreadPoolExecutor(len(callers)) as pool:
        return dict(zip([caller.name for caller in callers], pool.map(one, callers), strict=True))


def alike(callers: list[Caller], what: Any) -> dict[str, Any]:
    return {caller.name: what for caller in callers}


def broken(callers: list[Caller]) -> dict[str, Any]:
    """What each of them calls a broken connection, for which its endpoint is blamed once."""
    words = {"requests": "ConnectionError", "grpc": "UNAVAILABLE", "grpc.aio": "UNAVAILABLE"}
    return {caller.name: (words.get(caller.name, "ReadError"), 1) for caller in callers}


def test_an_idle_connection_is_closed() -> None:
    """Nobody has to use it for that, and so nobody gets it any more.

    gRPC is not among them: its servers allow no pings while no call runs, and it knows no other way.
    """

    def idle(rig: Rig) -> Any:
        answer = rig.caller.ask()
        before = established(rig.node.address)
        rig.node.vanish()
        return answer, before, until(lambda: not established(rig.node.address), SOON)

    callers = http()
    assert at_once(callers, idle) == alike(callers, ("ok", 1, True))


@pytest.mark.parametrize("body", [b"", bytes(1 << 23)], ids=["small", "upload"])
def test_a_request_that_is_sent_into_the_void_ends(body: bytes) -> None:
    """Within the time for which bytes may stay unacknowledged, as a broken connection; the client set no timeout.

    Be it that it has written everything, or that the kernel takes no more.
    """

    def sent(rig: Rig) -> Any:
        assert rig.caller.ask() == "ok"
        rig.node.vanish()
        began = time.monotonic()
        said = rig.caller.ask(body)
        assert 1.9 < time.monotonic() - began < SOON
        return said, rig.failures()

    callers = [*http(), *rpc()]
    assert at_once(callers, sent) == broken(callers)


def test_a_request_that_waits_for_its_answer_ends() -> None:
    """All that was sent is acknowledged, and the client is silent; its kernel asks."""

    def waiting(rig: Rig) -> Any:
        rig.thinks = 60.0
        threading.Thread(target=lambda: rig.asked.wait() and rig.node.vanish(), daemon=True).start()
        began = time.monotonic()
        said = rig.caller.ask()
        assert time.monotonic() - began < SOON
        return said, rig.failures()

    callers = http()
    assert at_once(callers, waiting) == broken(callers)


def test_a_slow_answer_is_waited_for() -> None:
    """Longer than a node may be silent: its kernel says that it is there, whatever its process does."""

    def slow(rig: Rig) -> Any:
        rig.thinks = THINKS
        began = time.monotonic()
        said = rig.caller.ask()
        assert time.monotonic() - began > THINKS
        return said, rig.failures()

    callers = [*http(), *rpc()]
    assert at_once(callers, slow) == alike(callers, ("ok", 0))


def test_an_upload_that_is_not_taken_in() -> None:
    """The price, which the docs name: no room for so long looks as if nothing was there; None gives it up."""

    def late(peer: Peer) -> None:
        peer.head()
        time.sleep(THINKS)
        while peer.sock.recv(1 << 20)[-3:] != b"end":
            pass
        peer.send(OK)

    def upload(unacknowledged: float | None) -> str:
        server = RawServer(late)
        options = keep_alive(idle=1, interval=1, probes=2, unacknowledged=unacknowledged)
        caller = Requests()
        with LoadBalancer(f"static:///{server.address}", retry=Retry(attempts=1)) as lb:
            caller.open(lb, options)
            said = caller.ask(bytes(1 << 23) + b"end")
            caller.close()
        server.close()
        return said

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(upload, (2.0, None))) == ["ConnectionError", "ok"]


def test_a_silent_call_of_grpc_has_no_ping_too_many() -> None:
    """A server counts pings that come sooner than it allows, whatever the call is about; later ones it does not mind.

    By default it allows one every 300 s, and a channel sends one every 310 s (`test_options.py`).
    """

    def silent(*options: tuple[str, int]) -> str:
        server = EchoServer(options=options)
        server.behave = lambda method, context: time.sleep(2 * THINKS)
        often = [("grpc.keepalive_time_ms", 1000), ("grpc.http2.max_pings_without_data", 0)]
        with balanced.insecure_channel(f"static:///{server.address}", often) as channel:
            try:
                channel.unary_unary("/test.Echo/UU")(b"", timeout=SOON)
            except grpc.RpcError as error:
                return error.code().name  # type: ignore[attr-defined,no-any-return]
            finally:
                server.stop()
        return "ok"

    allowing = ("grpc.http2.min_ping_interval_without_data_ms", 200)
    with ThreadPoolExecutor(2) as pool:
        both = pool.submit(silent), pool.submit(silent, allowing)
        assert [each.result() for each in both] == ["UNAVAILABLE", "ok"]
