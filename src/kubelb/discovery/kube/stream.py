"""The thread that runs a reflector over a transport, and the streams of this process, shared by whoever wants the same.

    subscribe(key) -> Seat    the first starts the thread; a later one is told by `Seat.join` what is known (`desk.py`)
    leave(seat)               the last one ends it

A stream is a daemon thread and one connection. Nothing that happens in it ends it silently: what nobody foresaw is told
as a failure of kind ``internal`` and followed by a wait and a fresh start. Nothing that a subscriber does can hurt the
stream or another subscriber, but for being slow; they only take notes.

Ending a stream takes less than 50 ms in any state: the wait that the thread is in is ended, then the thread is waited
for. Three things cannot be ended and are left to finish alone, in a daemon thread: a name look-up (it has a thread of
its own), an exec plugin of a kubeconfig, and a single step of decoding.
"""

import contextlib
import random
import threading
from dataclasses import dataclass
from weakref import WeakValueDictionary

from kubelb.clock import Clock, monotonic
from kubelb.discovery.kube import plugin, resolve
from kubelb.discovery.kube.access import Locator
from kubelb.discovery.kube.comeback import Comeback
from kubelb.discovery.kube.desk import Desk, Seat, Subscriber, mistake
from kubelb.discovery.kube.diagnose import Trouble
from kubelb.discovery.kube.lifeline import Lifeline
from kubelb.discovery.kube.query import Query
from kubelb.discovery.kube.reflector import Reflector
from kubelb.discovery.kube.steps import PAUSE, READ, RESYNC, ROUSED, Answer, Failure, Get, Phase, Sleep, Step
from kubelb.discovery.kube.transport import CONNECT_TIMEOUT, READ_TIMEOUT, Transport
from kubelb.discovery.kube.waits import Steps
from kubelb.discovery.kube.wire import Slice
from kubelb.process import thread_ends

__all__ = ["Key", "Stream", "after_fork_in_child", "leave", "subscribe"]

GRACE = 0.03
"""Seconds that `stop` waits for the thread, below its promise of 50 ms."""


@dataclass(frozen=True)
class Key:
    """What makes two streams the same. Several services of a namespace may share one, by a set selector."""

    locator: Locator
    namespace: str
    services: tuple[str, ...]
    clock: Clock
    connect_timeout: float = CONNECT_TIMEOUT
    read_timeout: float = READ_TIMEOUT


class Stream:
    """One list and watch, for any number of subscribers."""

    def __init__(self, key: Key, rng: random.Random, comeback: Comeback) -> None:
        self.key = key
        self.desk: Desk[Stream] = Desk(key.services[0], key.clock, self)
        self._line = Lifeline()
        self._wake = threading.Event()
        self._resync = False
        self._transport = Transport(
            key.locator,
            self._line,
            self._warn,
            connect_timeout=key.connect_timeout,
            read_timeout=key.read_timeout,
        )
        self._comeback = comeback
        self._reflector = Reflector(
            Query(key.namespace, key.services), self, clock=key.clock, rng=rng, comeback=comeback
        )
        self._thread = threading.Thread(
            target=self._run, name=f"kubelb-watch-{key.namespace}-{key.services[0]}", daemon=True
        )

    @property
    def stage(self) -> str:
        """What the stream is waiting for, for messages."""
        phase = self._line.phase
        where = "" if phase is Phase.CREDENTIALS else f" {self._transport.server or 'the API server'}"
        return f"{phase.value}{where}"

    # -- from any thread

    def begin(self) -> None:
        """Start the thread."""
        self._thread.start()
        self._comeback.join(self._wake.set)

    def resync(self) -> None:
        """Fetch everything again, now."""
        self._resync = True
        self._wake.set()
        if self._line.phase is Phase.STREAM:
            self._line.cut()

    def stop(self) -> None:
        """End it, whatever it waits for."""
        self._comeback.leave(self._wake.set, self._reflector.recovery)
        self._line.stop()
        self._wake.set()
        if self._thread is not threading.current_thread():
            self._thread.join(GRACE)

    # -- the thread

    def _run(self) -> None:
        while not self._line.stopped:
            steps = self._reflector.run()
            try:
                self._drive(steps)
            except BaseException as error:  # noqa: BLE001  also SystemExit, out of a kubeconfig's plugin
                self.failed(mistake(error))
                self._sleep(Sleep(self._reflector.backoff.next()))
            finally:
                steps.close()
                with contextlib.suppress(Exception):
                    self._transport.close()
        thread_ends()

    def _drive(self, steps: Steps) -> None:
        step = next(steps)
        while not self._line.stopped:
            answer = self._answer(step)
            if self._line.stopped:
                return
            step = steps.send(answer)

    def _answer(self, step: Step) -> Answer:
        if isinstance(step, Get):
            return self._transport.get(step)
        if isinstance(step, Sleep):
            return self._sleep(step)
        if step is PAUSE:
            return None
        assert step is READ
        answer: bytes | Failure = b"" if self._resync else self._transport.read()
        if self._resync:
            self._resync = False
            self._transport.hang_up()
            return RESYNC
        return answer

    def _sleep(self, step: Sleep) -> Answer:
        """Nothing but `stop` and a comeback ends a sleep that goes through; in wall time, as the transport's waits."""
        end = monotonic() + step.seconds
        while not self._line.stopped:
            self._wake.clear()  # before the questions that it may have been set for, so that no call is missed
            if self._line.stopped:
                break
            if self._resync and not step.through:
                self._resync = False
                return RESYNC
            if step.roused is not None and step.roused():
                return ROUSED
            rest = end - monotonic()
            if rest <= 0:
                break
            self._wake.wait(rest)
        return None

    # -- what it learns

    def replace(self, slices: list[Slice], unread: frozenset[str] = frozenset()) -> None:
        self.desk.replace(slices, unread)

    def upsert(self, piece: Slice) -> None:
        self.desk.upsert(piece)

    def delete(self, piece: Slice) -> None:
        self.desk.delete(piece)

    def heard(self) -> None:
        self.desk.heard()

    def failed(self, trouble: Trouble) -> None:
        self.desk.failed(trouble)

    def recovered(self) -> None:
        self.desk.recovered()

    def skipped(self, what: str, reason: str) -> None:
        self.desk.skipped(what, reason)

    def _warn(self, warning: str) -> None:
        self.skipped("the credentials", warning)

    # -- fork

    def abandon(self) -> None:
        """In a forked child: this stream's thread is not here; where it is a greenlet, it ends when it wakes."""
        self._line.abandon()
        for seat in self.desk.seats:
            seat.subscriber.orphaned()


class _Registry:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.streams: dict[Key, Stream] = {}
        self._comebacks: WeakValueDictionary[tuple[Locator, Clock], Comeback] = WeakValueDictionary()

    def comeback(self, key: Key) -> Comeback:
        """That of the key's API server, for as long as a stream has it."""
        where = key.locator, key.clock
        found = self._comebacks.get(where)
        if found is None:
            found = self._comebacks[where] = Comeback(key.clock)
        return found


_registry = _Registry()


def subscribe(key: Key, subscriber: Subscriber, rng: random.Random) -> Seat[Stream]:
    """Take a seat at the stream of this key, or begin it. A latecomer is told nothing before it joins."""
    with _registry.lock:
        stream = _registry.streams.get(key)
        first = stream is None
        if stream is None:
            stream = Stream(key, rng, _registry.comeback(key))
        seat = Seat(stream.desk, subscriber, joined=first)
        stream.desk.seats += (seat,)
        if first:
            stream.begin()
            _registry.streams[key] = stream
        return seat


def leave(seat: Seat[Stream]) -> None:
    """Tell it no more; the last one ends the stream."""
    desk = seat.desk
    stream = desk.owner
    with _registry.lock:
        seat.gone = True
        desk.seats = tuple(each for each in desk.seats if each is not seat)
        last = not desk.seats
        if last and _registry.streams.get(stream.key) is stream:
            del _registry.streams[stream.key]
    if last:
        stream.stop()


def after_fork_in_child() -> None:
    """Forget every stream: their threads are in the parent, and so are the far ends of their connections."""
    global _registry
    before, _registry = _registry, _Registry()
    resolve.after_fork_in_child()
    plugin.after_fork_in_child()
    for stream in before.streams.values():
        stream.abandon()
