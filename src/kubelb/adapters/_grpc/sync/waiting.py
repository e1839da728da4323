"""Waiting for a connection: by a thread that calls, by a future, by a subscriber (see `shared/readiness.py`)."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc

from kubelb.adapters._grpc.shared.readiness import Poll, Readiness
from kubelb.adapters._grpc.shared.subchannels import SubChannels
from kubelb.runtime.worker import worker
from kubelb.service import Service
from kubelb.threads import report

__all__ = ["Subscriptions", "Waiting", "look_on"]


def look_on(step: Callable[[], bool]) -> None:
    """Have the background worker ask `step` now and then, ever more rarely, until it says True."""
    worker.retain()
    _look_later(step, Poll())


def _look_later(step: Callable[[], bool], poll: Poll) -> None:
    worker.call_at(worker.clock() + poll.pause(), partial(_look, step, poll))


def _look(step: Callable[[], bool], poll: Poll) -> None:
    over = True
    try:
        over = step()
    finally:
        if over:
            worker.release()
    if not over:
        _look_later(step, poll)


class Waiting(Readiness):
    """`kubelb.runtime.calls.Connections` for threads."""

    def wait(self, version: int | None, until: float) -> None:
        """Block until another pick may say something else, or `until`."""
        over, event = self.question(version), threading.Event()
        wake = event.set
        feed = self.lb.feed()
        if feed is not None:
            feed.add_waiter(wake)
        clock, poll = self.lb.balancer.clock, Poll()
        self.subs.connect()
        try:
            while (left := until - clock()) > 0 and not event.wait(min(poll.pause(), left)):
                if over():
                    return
        finally:
            if feed is not None:
                feed.remove_waiter(wake)


class Subscriptions:
    """Callbacks for the state of the whole; while there are any, a job of the background worker looks at it."""

    def __init__(self, lb: Service, subs: SubChannels) -> None:
        self._lb = lb
        self._subs = subs
        self._looking = False
        self._callbacks: dict[Callable[[grpc.ChannelConnectivity], None], Any] = {}
        self._connect = False
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """The worker's jobs are the parent's."""
        self._lock = threading.Lock()
        if self._looking:
            self._looking = False
            self._look_on()

    def add(self, callback: Callable[[grpc.ChannelConnectivity], None], connect: bool) -> None:
        """Call it with the state now, from another thread, and with each that follows."""
        with self._lock:
            self._callbacks[callback] = None
            self._connect = self._connect or connect
        self._look_on()

    def remove(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """Do so no more."""
        with self._lock:
            self._callbacks.pop(callback, None)

    def close(self) -> None:
        """Tell of the end, and nothing after it."""
        with self._lock:
            callbacks, self._callbacks = self._callbacks, {}
        self._tell(callbacks, grpc.ChannelConnectivity.SHUTDOWN)

    def _look_on(self) -> None:
        with self._lock:
            if self._looking:
                return
            self._looking = True
        worker.retain()
        self._later(Poll())

    def _later(self, poll: Poll) -> None:
        worker.call_at(worker.clock() + poll.pause(), lambda: self._look(poll))

    def _look(self, poll: Poll) -> None:
        state = self._subs.connectivity(self._connect)
        with self._lock:
            untold = {callback: told for callback, told in self._callbacks.items() if told is not state}
            self._callbacks.update(dict.fromkeys(untold, state))
            self._looking = bool(self._callbacks)
        self._tell(untold, state)
        if self._looking:
            self._later(Poll() if untold else poll)
        else:
            worker.release()

    @staticmethod
    def _tell(callbacks: Any, state: grpc.ChannelConnectivity) -> None:
        for callback in callbacks:
            try:
                callback(state)
            except Exception as error:  # noqa: BLE001
                report(error)
