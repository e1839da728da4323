"""HTTP/2 in threads, and an exception of a signal's handler that cuts one of them off in the middle.

The kind: an interrupt in one thread that gives others wrong answers, raw errors, or nothing for ever.
"""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from tests.faults.http2_pod import Pod, Told
from tests.waiting import until

import kubelb
from kubelb.adapters._httpx.http2.machine import Machine
from kubelb.adapters._httpx.http2.wire import Wire
from kubelb.adapters.httpx import Transport

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no signals and forks of this kind")


class Cut(BaseException):
    """What a signal's handler raises."""


def echo(told: Told) -> None:
    told.headers(200, ("x-echo", told.path))
    told.data(told.path.encode(), end=True)


@pytest.fixture
def pod(pod: Pod) -> Pod:
    pod.handler = echo
    return pod


def ask(transport: Transport, path: str, seconds: float = 10) -> str:
    """Return what is wrong with the answer. Without httpx's client: its cookie jar can be left locked as well."""
    timeout = {"connect": seconds, "read": seconds, "write": seconds, "pool": seconds}
    response = transport.handle_request(httpx.Request("GET", f"http://x{path}", extensions={"timeout": timeout}))
    try:
        body = response.read().decode()
    finally:
        response.close()
    return "" if body == response.headers["x-echo"] == path else f"{path}: {body}, {response.headers['x-echo']}"


class Neighbours:
    """Threads that ask all the time."""

    def __init__(self, transport: Transport, count: int = 3) -> None:
        self.transport = transport
        self.good = 0
        self.wrong: list[str] = []
        self.errors: Counter[str] = Counter()
        self._over = False
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int) -> None:
        turn = 0
        while not self._over:
            turn += 1
            try:
                wrong = ask(self.transport, f"/{number}-{turn}")
            except httpx.TransportError as error:
                self.errors[type(error).__name__] += 1
            except BaseException as error:  # what is looked for
                self.wrong.append(repr(error))
            else:
                self.good += 1
                self.wrong += [wrong] if wrong else []

    def stop(self) -> None:
        self._over = True
        for thread in self._threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in self._threads)


@pytest.fixture
def neighbours(transport: Transport) -> Iterator[Neighbours]:
    ask(transport, "/first")
    made = Neighbours(transport)
    yield made
    made.stop()


class Alarm:
    """Cuts off what runs in the main thread."""

    def __init__(self) -> None:
        self.armed = False

    def cut(self, *_: object) -> None:
        if self.armed:
            raise Cut

    def during(self, seconds: float, act: Callable[[], object]) -> None:
        """Act, for so long at most; nothing is raised once this has returned."""
        try:
            self.armed = True
            signal.setitimer(signal.ITIMER_REAL, seconds)
            act()
        finally:
            self.armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    made = Alarm()
    before = signal.signal(signal.SIGALRM, made.cut)
    yield made
    signal.signal(signal.SIGALRM, before)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a socket cut off in its dial is GC's
def test_interrupts_at_any_time_hurt_no_neighbour(
    alarm: Alarm, neighbours: Neighbours, transport: Transport, balancer: kubelb.LoadBalancer
) -> None:
    """No wrong answer, no error that is not httpx's, no thread that stays, nothing in flight afterwards."""
    chance = random.Random(1)
    cuts, ends = 0, time.monotonic() + 4
    while time.monotonic() < ends:
        try:
            alarm.during(chance.uniform(0.0005, 0.012), lambda: ask(transport, "/main"))
        except Cut:
            cuts += 1
        except httpx.TransportError:
            pass
    neighbours.stop()
    assert neighbours.wrong == []
    assert neighbours.errors["ReadTimeout"] == neighbours.errors["PoolTimeout"] == 0
    assert cuts > 20
    assert neighbours.good > 20
    assert ask(transport, "/last") == ""
    assert until(lambda: all(endpoint.in_flight == 0 for endpoint in balancer.endpoints()))


PLACES = [
    (Machine, "open", True),
    (Machine, "open", False),
    (Machine, "receive", True),
    (Machine, "receive", False),
    (Machine, "output", False),
    (Machine, "drop", True),
    (Machine, "drop", False),
    (Wire, "_wake", False),
    (Wire, "_flush", True),
    (Wire, "_let_go", True),
]
"""A method, and whether the cut comes before it or after it."""


@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place[1]}-{'before' if place[2] else 'after'}")
def test_a_cut_inside_ends_the_connection_for_all(
    place: tuple[type, str, bool],
    neighbours: Neighbours,
    transport: Transport,
    balancer: kubelb.LoadBalancer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those that wait on it are told at once, it is used no more, and the endpoint is not to blame."""
    owner, name, before = place
    assert until(lambda: neighbours.good > 5)
    plain: Callable[..., Any] = getattr(owner, name)
    main, cuts = threading.current_thread(), 0

    def cutting(*given: Any, **named: Any) -> Any:
        nonlocal cuts
        mine = threading.current_thread() is main and not cuts
        cuts += mine
        if mine and before:
            raise Cut
        found = plain(*given, **named)
        if mine:
            raise Cut
        return found

    monkeypatch.setattr(owner, name, cutting)
    ends = time.monotonic() + 20
    while not cuts and time.monotonic() < ends:
        try:
            ask(transport, "/main")
        except Cut:
            break
    assert cuts == 1
    good = neighbours.good
    assert until(lambda: neighbours.good > good + 5)
    neighbours.stop()
    assert neighbours.wrong == []
    assert set(neighbours.errors) <= {"ReadError"}
    assert ask(transport, "/last") == ""
    (endpoint,) = balancer.endpoints()
    assert endpoint.in_flight == 0
    assert endpoint.state == "ready"
