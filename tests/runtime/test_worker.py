"""The background worker: lazy, punctual, unmoved by slow jobs, gone within 50 ms."""

import threading
import time
from typing import Any

import pytest
from tests.stalls import elapsed

from kubelb.clock import monotonic
from kubelb.runtime.worker import Worker

from .kit import no_threads_left, until


def names() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("kubelb"))


def test_threads_start_with_the_first_job_and_end_with_the_last_user() -> None:
    """No thread for a user, two for a job, none after the release."""
    with no_threads_left():
        worker = Worker()
        worker.retain()
        worker.retain()
        assert names() == []
        done = threading.Event()
        worker.call_at(monotonic(), done.set)
        assert done.wait(5)
        assert names() == ["kubelb-runner", "kubelb-timer"]
        worker.release()
        assert "kubelb-timer" in names()
        worker.release()


def test_without_users_nothing_runs() -> None:
    """A job for a worker that nobody holds is dropped."""
    worker = Worker()
    worker.call_at(monotonic(), pytest.fail)
    assert names() == []


def test_jobs_run_in_the_order_of_their_times() -> None:
    """An earlier job given later goes first."""
    with no_threads_left():
        worker = Worker()
        worker.retain()
        ran: list[int] = []
        now = monotonic()
        for number in (3, 1, 2):
            worker.call_at(now + number * 0.02, lambda number=number: ran.append(number))  # type: ignore[misc]
        until(lambda: len(ran) == 3)
        assert ran == [1, 2, 3]
        assert monotonic() - now >= 0.06
        worker.release()


def test_a_slow_job_delays_nobody() -> None:
    """While two jobs hang, twenty others are done within moments."""
    with no_threads_left():
        worker = Worker()
        worker.retain()
        go_on = threading.Event()
        for _ in range(2):
            worker.call_at(monotonic(), lambda: go_on.wait(10))  # type: ignore[arg-type,return-value]
        time.sleep(0.02)
        late: list[float] = []
        for number in range(20):
            due = monotonic() + number * 0.002
            worker.call_at(due, lambda due=due: late.append(monotonic() - due))  # type: ignore[misc]
        until(lambda: len(late) == 20)
        assert sorted(late)[10] < 2.0  # and not the ten seconds of those two
        go_on.set()
        worker.release()


def test_release_takes_fifty_milliseconds_at_most() -> None:
    """Also while a job hangs; jobs not yet begun are dropped."""
    with no_threads_left():
        worker = Worker()
        worker.retain()
        hanging, go_on = threading.Event(), threading.Event()

        def hang() -> None:
            hanging.set()
            go_on.wait(10)

        worker.call_at(monotonic(), hang)
        assert hanging.wait(5)
        worker.call_at(monotonic() + 0.2, pytest.fail)
        assert elapsed(worker.release).own < 0.1
        go_on.set()


def test_release_from_a_job_of_its_own() -> None:
    """A job may be the last user; it does not wait for itself."""
    with no_threads_left():
        worker = Worker()
        worker.retain()
        took: list[float] = []

        def last() -> None:
            start = monotonic()
            worker.release()
            took.append(monotonic() - start)

        worker.call_at(monotonic(), last)
        until(lambda: took)
        assert took[0] < 2.0


def test_a_job_that_raises_is_reported_and_the_next_one_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error goes to threading.excepthook."""
    reported: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", reported.append)
    with no_threads_left():
        worker = Worker()
        worker.retain()
        worker.call_at(monotonic(), lambda: 1 // 0)  # type: ignore[arg-type,return-value]
        done = threading.Event()
        until(lambda: reported)
        worker.call_at(monotonic(), done.set)
        assert done.wait(5)
        assert reported[0].exc_type is ZeroDivisionError
        worker.release()


def test_a_user_that_comes_while_the_last_one_leaves_is_served() -> None:
    """Release and retain side by side, 200 times: no job of the newcomer is lost."""
    with no_threads_left():
        worker = Worker()
        for _ in range(200):
            worker.retain()
            worker.call_at(monotonic(), lambda: None)
            leaving = threading.Thread(target=worker.release)
            leaving.start()
            worker.retain()
            done = threading.Event()
            worker.call_at(monotonic(), done.set)
            leaving.join()
            if not done.wait(0.5):  # retained before the other left: the job was one of its own
                raise AssertionError("a job was lost")
            worker.release()


def test_a_thread_that_cannot_start_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller is told, the next job starts the timer, the release has nothing to wait for."""
    with no_threads_left():
        worker = Worker()
        worker.retain()

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError):
                worker.call_at(monotonic(), lambda: None)
        done = threading.Event()
        worker.call_at(monotonic(), done.set)
        assert done.wait(5)
        worker.release()


def test_jobs_outlive_a_time_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """No runner can be started for a while: what was due runs afterwards, and so does what comes later."""
    monkeypatch.setattr("kubelb.runtime.worker.RETRY", 0.01)
    start = threading.Thread.start
    refused: list[threading.Thread] = []

    def refuse_runners(thread: threading.Thread) -> None:
        if thread.name == "kubelb-runner":
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    with no_threads_left():
        worker = Worker()
        worker.retain()
        held, later = threading.Event(), threading.Event()
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse_runners)
            worker.call_at(monotonic(), held.set)
            until(lambda: len(refused) > 1)
        assert held.wait(5)
        worker.call_at(monotonic(), later.set)
        assert later.wait(5)
        worker.release()


def test_a_spare_runner_goes_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner without work ends, the timer stays."""
    monkeypatch.setattr("kubelb.runtime.worker.SPARE", 0.02)
    with no_threads_left():
        worker = Worker()
        worker.retain()
        worker.call_at(monotonic(), lambda: None)
        until(lambda: "kubelb-runner" in names())
        until(lambda: names() == ["kubelb-timer"])
        worker.release()
