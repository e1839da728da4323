"""HTTP/2 in threads and a fork. The kind: a child that speaks on its parent's connection."""

import ctypes
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from tests.faults.http2_pod import Pod, Told

from kubelb.adapters._httpx.http2.wire import Wire
from kubelb.adapters.httpx import Transport

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no signals and forks of this kind")


def in_c() -> int:
    """Fork so that Python is not told."""
    return int(ctypes.PyDLL(None).fork())


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


ACTS: dict[str, Callable[[list[Any]], object]] = {
    "close": lambda held: held[0].close(),
    "collected": lambda held: (held.clear(), gc.collect()),
    "read": lambda held: pytest.raises(httpx.ReadError, next, held[1]),  # noqa: RUF061  # an expression
}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("fork", [os.fork, in_c], ids=["python", "c"])
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("locked", [False, True], ids=["free", "locked"])
def test_a_child_leaves_its_parents_stream_alone(
    fork: Callable[[], int], act: str, locked: bool, pod: Pod, transport: Transport
) -> None:
    """Whatever it does with the response that it has a copy of: no reset gets out, and no lock is waited for."""
    go_on = threading.Event()

    def slow(told: Told) -> None:
        told.headers()
        told.data(b"a")
        go_on.wait(30)
        told.data(b"b", end=True)

    pod.handler = slow
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
