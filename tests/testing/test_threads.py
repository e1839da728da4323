"""The threads that run servicers: one for each call that is under way, and none for ever."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from unittest.mock import Mock

import pytest

from kubelb.testing import threads as module
from kubelb.testing.connection import join
from kubelb.testing.threads import Threads

from .helpers import until


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "kubelb-testing-handler"]


def test_as_many_as_there_is_work_and_no_more() -> None:
    """Functions that block run side by side; one after another share a thread."""
    threads = Threads()
    assert names() == []
    for _ in range(20):
        assert threads.submit(threading.get_ident).result(5.0)
        until(lambda: threads._idle == 1)
    assert len(names()) == 1
    go = threading.Event()
    waiting = [threads.submit(go.wait, 10.0) for _ in range(30)]
    until(lambda: len(names()) == 30)
    go.set()
    assert all(future.result(5.0) for future in waiting)
    threads.close()
    threads.join(time.monotonic() + 5.0)
    assert names() == []


def test_an_error_is_the_futures() -> None:
    """The thread goes on."""
    threads = Threads()
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 // 0).result(5.0)
    assert threads.submit(lambda: 7).result(5.0) == 7
    threads.close()
    threads.join(time.monotonic() + 5.0)


def test_an_idle_thread_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while; the next function gets a new one."""
    monkeypatch.setattr(module, "IDLE", 0.02)
    threads = Threads()
    assert threads.submit(lambda: 7).result(5.0) == 7
    until(lambda: names() == [])
    assert threads.submit(lambda: 8).result(5.0) == 8
    threads.close()
    threads.join(time.monotonic() + 5.0)


def test_closing_waits_for_nobody() -> None:
    """What is under way goes on, and its thread ends with it; what comes later is cancelled."""
    threads = Threads()
    go = threading.Event()
    busy: Future[bool] = threads.submit(go.wait, 10.0)
    threads.close()
    threads.join(time.monotonic() + 0.02)
    assert names() != []
    assert threads.submit(lambda: 7).cancelled()
    go.set()
    assert busy.result(5.0)
    threads.join(time.monotonic() + 5.0)
    assert names() == []


def test_a_thread_that_is_about_to_start_is_waited_for() -> None:
    """It has an identity a moment before it counts as started, and joining it then is an error."""
    begin, connection = threading.Event(), Mock(ended=False)

    class Slow(threading.Thread):
        def _set_ident(self) -> None:
            super()._set_ident()
            begin.wait(10)

        def run(self) -> None:
            connection.ended = True

    connection.thread = Slow()
    starting = threading.Thread(target=connection.thread.start)
    starting.start()
    until(lambda: connection.thread.ident is not None)
    threading.Timer(0.05, begin.set).start()
    join([connection], time.monotonic() + 10)
    assert connection.ended
    starting.join()
