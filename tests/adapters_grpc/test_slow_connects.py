"""Connections that take long to be made: pods that are slow to shake hands, and those that never answer.

The kind: a bound of ours on connecting that is tighter than what a pod needs makes it dead to us, and each attempt that
is given up is a handshake in vain.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
import trustme
from tests.adapters.raw import blackhole
from tests.adapters_grpc.aio_kit import on_loop
from tests.adapters_grpc.test_tls import AS, NAME, served, trusting
from tests.forwarding import pump

from kubelb.adapters import grpc as balanced
from kubelb.adapters.grpc import aio as aio_balanced

pytestmark = pytest.mark.slow


class Porter:
    """Stands before a server and lets each connection wait before it leads it in; counts them."""

    def __init__(self, address: str, delay: float) -> None:
        self._place = address
        self._delay = delay
        self.accepted = 0
        self._stopping = threading.Event()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.accepted += 1
                self._open.append(sock)
                threading.Thread(target=self._lead, args=(sock,), daemon=True).start()

    def _lead(self, client: socket.socket) -> None:
        host, _, port = self._place.rpartition(":")
        with client, contextlib.suppress(OSError):
            if not self._stopping.wait(self._delay):
                with socket.create_connection((host, int(port)), timeout=5) as server:
                    server.settimeout(None)
                    pump(client, server)

    def close(self) -> None:
        self._stopping.set()
        for sock in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def porter() -> Iterator[Callable[..., Porter]]:
    made: list[Porter] = []

    def make(server: Any, delay: float) -> Porter:
        made.append(Porter(server.address, delay))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("delay", [1.3, 3.0])
@pytest.mark.parametrize("secure", [True, False], ids=["tls", "plain"])
def test_pods_that_are_slow_to_shake_hands(
    server: Any, balance: Any, porter: Callable[..., Porter], delay: float, secure: bool
) -> None:
    """They are waited for, as gRPC itself does, and none has to begin again."""
    authority = trustme.CA()
    servers = [server(credentials=served(authority, NAME) if secure else None) for _ in range(3)]
    porters = [porter(one, delay) for one in servers]
    lb = balance(*porters)
    made = balanced.secure_channel(lb, trusting(authority), AS) if secure else balanced.insecure_channel(lb)
    with made as channel:
        assert channel.unary_unary("/test.Echo/UU")(b"x", timeout=20).startswith(b"x@")
    assert [one.accepted for one in porters] == [1, 1, 1]


@on_loop
async def test_pods_that_are_slow_to_shake_hands_with_asyncio(
    server: Any, balance: Any, porter: Callable[..., Porter]
) -> None:
    """The same."""
    authority = trustme.CA()
    porters = [porter(server(credentials=served(authority, NAME)), 1.3) for _ in range(3)]
    async with aio_balanced.secure_channel(balance(*porters), trusting(authority), AS) as channel:
        answer = await channel.unary_unary("/test.Echo/UU")(b"x", timeout=20)
    assert answer.startswith(b"x@")
    assert [one.accepted for one in porters] == [1, 1, 1]


def test_a_pod_that_never_answers_delays_no_call(server: Any, balance: Any) -> None:
    """Connections are made ahead of need, and only those that are ready are picked."""
    one, other = server(), server()
    with blackhole() as hole, balanced.insecure_channel(balance(hole, one, other)) as channel:
        call = channel.unary_unary("/test.Echo/UU")
        call(b"x", timeout=20)
        began = time.monotonic()
        for _ in range(20):
            assert call(b"x", timeout=20).startswith(b"x@")
        assert time.monotonic() - began < 2.5


def test_nothing_but_pods_that_never_answer(balance: Any) -> None:
    """A call without a deadline is told in the end, some seconds later."""
    with blackhole() as hole, blackhole() as other, balanced.insecure_channel(balance(hole, other)) as channel:
        began = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/test.Echo/UU")(b"x")
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert time.monotonic() - began < 20
