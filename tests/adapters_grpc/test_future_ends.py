"""Futures have no lock and no event of their own: threads that wait, callbacks that are added and cancels that come
while one ends, the object that it leaves, and what is asked of a future that is not grpcio's."""

import gc
import sys
import threading
from types import FrameType
from typing import Any
from weakref import ref

import grpc
import pytest
from tests.adapters_grpc.conftest import in_flight, until
from tests.adapters_grpc.test_failures import aborts

from kubelb.adapters import grpc as balanced
from kubelb.runtime.switch import disabled, switch

ECHO = "/test.Echo/UU"
CREW = 8


@pytest.mark.parametrize("how", ["answer", "cancel"])
def test_all_that_wait_are_woken(server: Any, balance: Any, how: str) -> None:
    """Kind: a wake that some threads miss. By the answer, and by a cancel at once, while the RPC still runs."""
    alone, go_on = server(), threading.Event()
    alone.behave = lambda method, context: go_on.wait(20)
    ends: list[str] = []

    def wait() -> None:
        try:
            future.result(timeout=20)
            ends.append("answer")
        except grpc.FutureCancelledError:
            ends.append("cancel")

    with balanced.insecure_channel(balance(alone)) as channel:
        future = channel.unary_unary(ECHO).future(b"x", timeout=30)
        threads = [threading.Thread(target=wait) for _ in range(CREW)]
        for thread in threads:
            thread.start()
        assert until(lambda: len(future._waiters) == CREW)
        go_on.set() if how == "answer" else future.cancel()
        for thread in threads:
            thread.join(20)
        assert ends == [how] * CREW
        go_on.set()


def test_waits_that_are_over_leave_nothing(server: Any, balance: Any) -> None:
    """Kind: a list that grows. A loop that looks every moment waits a thousand times for one answer; a time that no
    clock reaches is as good as none."""
    alone, go_on = server(), threading.Event()
    alone.behave = lambda method, context: go_on.wait(20)
    with balanced.insecure_channel(balance(alone)) as channel:
        future = channel.unary_unary(ECHO).future(b"x", timeout=30)
        for timeout in (0.0, -1.0, 0.0001) * 50:
            with pytest.raises(grpc.FutureTimeoutError):
                future.exception(timeout)
        assert future._waiters == []
        go_on.set()
        assert future.result(timeout=1e12)


@pytest.mark.parametrize("ending", ["answer", "failure", "cancel"])
def test_callbacks_added_while_it_ends(server: Any, balance: Any, ending: str) -> None:
    """Kind: a callback that is lost, or called twice, as it comes in the moment of the end."""
    alone = server()
    if ending == "failure":
        alone.behave = aborts(grpc.StatusCode.INVALID_ARGUMENT, 10_000)
    with balanced.insecure_channel(balance(alone)) as channel:
        echo = channel.unary_unary(ECHO)
        for _ in range(30):
            told: list[int] = []
            future = echo.future(b"x", timeout=20)

            def add(first: int, future: Any = future, told: list[int] = told) -> None:
                for number in range(first, 400, 2):
                    future.add_done_callback(lambda done, number=number: told.append(number))

            threads = [threading.Thread(target=add, args=(first,)) for first in range(2)]
            for thread in threads:
                thread.start()
            if ending == "cancel":
                future.cancel()
            for thread in threads:
                thread.join()
            assert until(lambda told=told: len(told) >= 400)
            assert sorted(told) == list(range(400))


def test_an_ended_future_leaves_no_circle(server: Any, balance: Any) -> None:
    """Kind: what only the collector frees. Ended well, failed or cancelled, it goes when it is dropped."""
    alone = server()
    lb = balance(alone)
    gc.collect()
    gc.disable()
    try:
        with balanced.insecure_channel(lb) as channel:
            echo = channel.unary_unary(ECHO)
            for ending in ("answer", "failure", "cancel"):
                if ending == "failure":
                    alone.behave = aborts(grpc.StatusCode.INVALID_ARGUMENT)
                future = echo.future(b"x", timeout=20)
                future.add_done_callback(lambda done: None)
                if ending == "cancel":
                    future.cancel()
                else:
                    assert (future.exception(timeout=20) is None) == (ending == "answer")
                assert until(lambda: in_flight(lb) == 0)
                weak = ref(future)
                del future
                assert until(lambda weak=weak: weak() is None), ending
    finally:
        gc.enable()


class _Shouting:
    """A future around grpcio's that answers otherwise; all else is the inner one's, its private state, too."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def result(self, timeout: float | None = None) -> Any:
        return self._inner.result(timeout).upper()

    def add_done_callback(self, fn: Any) -> None:
        self._inner.add_done_callback(lambda _: fn(self))


def test_another_kind_of_future_is_asked(server: Any, balance: Any, monkeypatch: Any) -> None:
    """Kind: a short cut past an interceptor. What it has put around the RPC says what the response is."""

    class Shouts(grpc.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
        def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            return _Shouting(continuation(details, request))

    make = grpc.insecure_channel
    monkeypatch.setattr(
        grpc, "insecure_channel", lambda *said, **named: grpc.intercept_channel(make(*said, **named), Shouts())
    )
    with balanced.insecure_channel(balance(server())) as channel:
        assert channel.unary_unary(ECHO).future(b"abc", timeout=20).result(timeout=20).startswith(b"ABC")


def test_an_interrupt_in_a_cancel_or_a_wait(server: Any, balance: Any) -> None:
    """Kind: an interrupt at any bytecode. Wherever it hits what asks, the call ends, its callbacks are called once,
    another thread that waits is woken, and nothing is in flight."""
    alone, go_on = server(), threading.Event()
    alone.behave = lambda method, context: go_on.wait(20)
    lb = balance(alone)

    def interrupted(job: Any, at: int) -> bool:
        """Run it, and interrupt it at its `at`th step in `future_asked.py`; returns whether it got that far."""
        left = at

        def step(frame: FrameType, event: str, arg: object) -> Any:
            nonlocal left
            if not frame.f_code.co_filename.endswith("future_asked.py"):
                return None
            frame.f_trace_opcodes = True
            if event == "opcode":
                left -= 1
                if left == 0:
                    raise KeyboardInterrupt
            return step

        before = sys.gettrace()
        sys.settrace(step)
        try:
            job()
        except KeyboardInterrupt:
            return True
        except grpc.FutureTimeoutError:
            pass
        finally:
            sys.settrace(before)
        return False

    with balanced.insecure_channel(lb) as channel:
        echo = channel.unary_unary(ECHO)
        assert not interrupted(echo.future(b"x", timeout=20).cancel, 10_000)  # CPython 3.12 begins with it to trace
        for ask in ("cancel", "wait"):
            at, far = 0, True
            while far:
                at += 3
                go_on.clear()
                told: list[Any] = []
                future = echo.future(b"x", timeout=20)
                future.add_done_callback(told.append)
                far = interrupted(future.cancel if ask == "cancel" else lambda: future.result(0.0), at)  # noqa: B023
                go_on.set()
                waiter = threading.Thread(target=lambda: future.code())  # noqa: B023
                waiter.start()
                waiter.join(20)
                assert not waiter.is_alive()
                assert until(lambda: told == [future])  # noqa: B023
                assert future.done()
            assert at > 30
        assert until(lambda: in_flight(lb) == 0)


def test_one_switch(monkeypatch: Any) -> None:
    """The environment counts as it was when the switch was made; a block counts always."""
    made = switch()
    assert made() is None
    with disabled():
        assert made() is True
    monkeypatch.setenv("KUBELB_DISABLE", "1")
    by_environment = switch()
    monkeypatch.delenv("KUBELB_DISABLE")
    assert by_environment() is True
    assert made() is None
