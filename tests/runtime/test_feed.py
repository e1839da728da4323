"""The feed: at once where it may, coalesced where it must; nobody's trouble is anybody else's."""

import errno
import math
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from statistics import median
from typing import Any

import pytest

from core.kit import pods
from kubelb.clock import monotonic
from kubelb.errors import TargetError
from kubelb.model import Snapshot
from kubelb.runtime.feed import PACE, Feed
from kubelb.runtime.worker import Worker

from .kit import Source, no_threads_left, until


class Bench:
    """A feed between a scripted source and a list."""

    def __init__(self, source: Source | None = None) -> None:
        self.source = source or Source(None)
        self.seen: list[tuple[float, Snapshot]] = []
        self.worker = Worker()
        self.feed = Feed(lambda: self.source, self.publish, self.worker, monotonic)
        self.breaks: Exception | None = None

    def publish(self, snapshot: Snapshot) -> None:
        self.seen.append((monotonic(), snapshot))
        if self.breaks:
            error, self.breaks = self.breaks, None
            raise error

    def open(self) -> None:
        self.feed.start()
        self.feed.start()  # an interrupted start may be repeated
        until(lambda: self.source.polls)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with no_threads_left():
        made = Bench()
        yield made
        made.feed.close()


def test_the_first_change_goes_out_at_once(bench: Bench) -> None:
    """With nothing published for 50 ms a change takes a thread switch, not a pace (best of five)."""
    bench.open()
    best = 1.0
    for number in range(5):
        time.sleep(PACE + 0.01)
        start = monotonic()
        bench.source.say(pods(number))
        until(lambda number=number: len(bench.seen) == number + 1)  # type: ignore[misc]
        best = min(best, bench.seen[-1][0] - start)
    assert best < PACE / 2


def test_a_burst_is_coalesced(bench: Bench) -> None:
    """500 changes in 0.3 s are at most eight snapshots, 50 ms apart, and the last one is the last.

    A machine that stands still between a poll and its snapshot shortens the time to the next one: hence the median.
    """
    bench.open()
    end = monotonic() + 0.3
    for number in range(500):
        bench.source.say(pods(number % 7))
        time.sleep(max(0.0, min(0.0006, end - monotonic())))
    until(lambda: bench.seen[-1][1].version == bench.source.version)
    took = monotonic() - end + 0.3
    assert len(bench.seen) <= 2 + took / PACE
    times = [when for when, _ in bench.seen]
    assert median(later - earlier for earlier, later in pairwise(times)) >= PACE - 0.015


def test_what_is_held_back_is_asked_for_unasked(bench: Bench) -> None:
    """A source may name the time of its next news; an earlier notice comes first, and that time is kept too."""
    bench.open()
    bench.source.again = 0.12
    start = monotonic()
    bench.source.say(pods(1))
    until(lambda: len(bench.seen) == 1)
    bench.source.notify = lambda: None
    bench.source.say(pods(2))
    until(lambda: len(bench.seen) == 2)
    assert bench.seen[1][0] - start >= 0.1


def test_an_earlier_notice_does_not_wait_for_a_later_appointment(bench: Bench) -> None:
    """News that come before the time a source named are published when they come."""
    bench.open()
    bench.source.again = 30.0
    bench.source.say(pods(1))
    until(lambda: len(bench.seen) == 1)
    bench.source.say(pods(2))
    until(lambda: len(bench.seen) == 2, 2)


def test_news_during_a_poll_cause_another(bench: Bench) -> None:
    """Nothing said while a snapshot is on its way is forgotten."""
    bench.open()
    inside, go_on = threading.Event(), threading.Event()
    plain = bench.feed._publish

    def slow(snapshot: Snapshot) -> None:
        plain(snapshot)
        inside.set()
        go_on.wait(5)

    bench.feed._publish = slow
    bench.source.say(pods(1))
    assert inside.wait(5)
    bench.source.say(pods(2))
    bench.source.say(pods(3))
    go_on.set()
    until(lambda: bench.seen[-1][1].version == 3)


def test_a_slow_consumer_delays_no_other_feed() -> None:
    """Two feeds of one worker: one hangs in its consumer, the other publishes."""
    with no_threads_left():
        one, other = Bench(), Bench()
        other.worker = one.worker
        other.feed = Feed(lambda: other.source, other.publish, one.worker, monotonic)
        go_on = threading.Event()
        one.feed._publish = lambda snapshot: go_on.wait(5) and None  # type: ignore[assignment,return-value]
        one.open()
        other.open()
        one.source.say(pods(1))
        for number in range(3):
            other.source.say(pods(number))
            until(lambda number=number: len(other.seen) > number, 2)  # type: ignore[misc]
        go_on.set()
        one.feed.close()
        other.feed.close()


def test_a_source_that_raises_is_asked_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error is reported, its news come with the next poll."""
    reported: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", reported.append)
    monkeypatch.setattr("kubelb.runtime.feed.RETRY", 0.02)
    bench.open()
    bench.source.raises = RuntimeError("bytes of another world")
    bench.source.say(pods(1))
    until(lambda: bench.seen)
    assert "another world" in str(reported[0].exc_value)


def test_a_source_that_cannot_be_started_is_started_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many open files, for a moment: its error is reported, and its news come all the same."""
    reported: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", reported.append)
    monkeypatch.setattr("kubelb.runtime.feed.RETRY", 0.02)
    start = bench.source.start

    def full(notify: Any) -> None:
        bench.source.start = start  # type: ignore[method-assign]
        raise OSError(errno.EMFILE, "Too many open files")

    bench.source.start = full  # type: ignore[method-assign]
    bench.source.say(pods(1))
    bench.open()
    until(lambda: bench.seen)
    assert "Too many open files" in str(reported[0].exc_value)
    assert bench.source.started == 1


TROUBLES = OSError(errno.EMFILE, "Too many open files"), TargetError("no kubeconfig"), ImportError("half installed")


@pytest.mark.parametrize("trouble", TROUBLES, ids=range(3))
def test_a_source_that_could_not_be_built_for_a_moment_is_built_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    """Whoever waits is told at once; the reason goes when it is built, which may take several tries.

    The kind of fault: what was wrong once is wrong for the life of the process, though a file was mended.
    """
    monkeypatch.setattr("kubelb.discovery.backoff.FIRST", 0.01)
    make, told = bench.feed._make, threading.Event()
    tries: list[int] = []

    def broken() -> Any:
        tries.append(1)
        if len(tries) == 3:
            bench.feed._make = make
        raise trouble

    bench.feed._make = broken
    bench.source.say(pods(1))
    bench.feed.add_waiter(lambda: told.set() if str(trouble) in bench.feed.problem else None)
    bench.open()
    until(lambda: bench.seen)
    assert told.is_set()
    assert bench.feed.problem == ""
    assert (len(tries), bench.source.started) == (3, 1)


def test_what_could_not_be_built_is_built_at_once_when_asked(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `resync_now`, which does not wait for the next try; that finds it done. Asked again, the source is."""
    monkeypatch.setattr("kubelb.discovery.backoff.FIRST", 30.0)
    make = bench.feed._make

    def broken() -> Any:
        raise TargetError("no kubeconfig")

    bench.feed._make = broken
    bench.source.say(pods(1))
    bench.feed.start()
    until(lambda: bench.feed.problem and bench.feed._opens < math.inf)
    bench.feed._make = make
    bench.feed.resync_now()
    until(lambda: bench.seen, 20)
    bench.feed._open()
    assert bench.source.started == 1


def test_what_was_asked_for_during_a_try_is_not_lost(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The try may have read a file before it was mended: in vain, it is followed by another at once."""
    monkeypatch.setattr("kubelb.discovery.backoff.FIRST", 30.0)
    make = bench.feed._make

    def broken() -> Any:
        bench.feed._make = make
        bench.feed.resync_now()
        raise TargetError("no kubeconfig")

    bench.feed._make = broken
    bench.source.say(pods(1))
    bench.feed.start()
    until(lambda: bench.seen, 20)


def test_what_nobody_waits_for_any_more_is_not_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer that was dropped: the feed closes itself at the next try, and its threads end."""
    monkeypatch.setattr("kubelb.discovery.backoff.FIRST", 0.01)
    with no_threads_left():
        bench, tries = Bench(), list[int]()

        def broken() -> Any:
            tries.append(1)
            raise TargetError("no kubeconfig")

        bench.feed._make, bench.feed._gone = broken, lambda: len(tries) > 1
        bench.feed.start()
        until(lambda: bench.feed._closed)
    assert len(tries) == 2


def test_a_start_without_a_thread_can_be_repeated(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller is told; the worker counts nobody for it."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            bench.feed.start()
    assert bench.worker._users == 0
    bench.source.say(pods(1))
    bench.open()
    until(lambda: bench.seen)


def test_a_consumer_that_raises_harms_nobody(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiters are woken all the same, and the next snapshot comes."""
    reported: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", reported.append)
    bench.open()
    bench.breaks = RuntimeError("no room")
    woken = threading.Event()
    bench.feed.add_waiter(woken.set)
    bench.source.say(pods(1))
    assert woken.wait(5)
    until(lambda: reported)
    bench.source.say(pods(2))
    until(lambda: len(bench.seen) == 2)


def test_a_source_that_cannot_be_built_says_why() -> None:
    """The reason is kept, waiters are woken, closing works."""
    with no_threads_left():
        bench = Bench()

        def make() -> Any:
            raise ImportError("pip install something")

        bench.feed._make = make
        woken = threading.Event()
        bench.feed.add_waiter(woken.set)
        bench.feed.start()
        assert woken.wait(5)
        assert bench.feed.problem == "ImportError: pip install something"
        bench.feed.notify()
        bench.feed.close()


def test_waiters_are_called_once_and_taken_off_when_they_give_up(bench: Bench) -> None:
    """One that left is not called; one that stayed is called once; none is kept."""
    bench.open()
    calls: list[str] = []
    gone, stays = (lambda: calls.append("gone")), (lambda: calls.append("stays"))
    bench.feed.add_waiter(gone)
    bench.feed.add_waiter(stays)
    bench.feed.remove_waiter(gone)
    bench.source.say(pods(1))
    until(lambda: calls)
    bench.source.say(pods(2))
    until(lambda: len(bench.seen) == 2)
    assert calls == ["stays"]
    assert bench.feed._waiters == set()


def test_closing_wakes_and_stops_once(bench: Bench) -> None:
    """Idempotent; whoever comes later is called at once; nothing more is published."""
    bench.open()
    woken = threading.Event()
    bench.feed.add_waiter(woken.set)
    bench.feed.close()
    bench.feed.close()
    assert woken.is_set()
    assert bench.source.stopped == 1
    late = threading.Event()
    bench.feed.add_waiter(late.set)
    assert late.is_set()
    bench.source.say(pods(1))
    time.sleep(0.02)
    assert bench.seen == []


def test_closing_while_the_source_is_being_built_leaves_it_stopped() -> None:
    """Built too late: never started. Started meanwhile: stopped."""
    with no_threads_left():
        bench = Bench()
        building, go_on = threading.Event(), threading.Event()

        def make() -> Source:
            building.set()
            go_on.wait(5)
            return bench.source

        bench.feed._make = make
        bench.feed.start()
        assert building.wait(5)
        bench.feed.close()
        go_on.set()
    assert bench.source.started == 0
    with no_threads_left():
        bench = Bench()
        start = bench.source.start

        def slow(notify: Any) -> None:
            bench.feed.close()
            start(notify)

        bench.source.start = slow  # type: ignore[method-assign]
        bench.feed.start()
        until(lambda: bench.source.stopped == 2)
    assert bench.source.started == 1


def test_a_source_that_cannot_stop_keeps_no_threads(bench: Bench) -> None:
    """Its error comes out of close; waiters are woken and the worker let go."""
    bench.open()

    def broken() -> None:
        raise RuntimeError("stuck")

    bench.source.stop = broken  # type: ignore[method-assign]
    woken = threading.Event()
    bench.feed.add_waiter(woken.set)
    with pytest.raises(RuntimeError, match="stuck"):
        bench.feed.close()
    assert woken.is_set()
