"""The thread that runs a reflector over a transport, for some services of a namespace.

A stream is a daemon thread and one connection. Nothing that happens in it ends it silently: what was not foreseen is
told as a failure of kind ``internal`` and followed by a wait and a fresh start. Nothing that a subscriber does can hurt
the stream or another subscriber, except by being slow; they only take notes. What streams share is `sharing.py`.

Ending a stream takes less than 50 ms in any state: the wait that the thread is in is ended, then the thread is waited
for. Three things cannot be ended and finish by themselves, in a daemon thread: a name look-up (it has a thread of
its own), an exec plugin of a kubeconfig, and a single step of decoding.
"""

import contextlib
import random
import threading

from kubelb.clock import Clock, monotonic
from kubelb.discovery.kube.access import Locator
from kubelb.discovery.kube.channel import Channel
from kubelb.discovery.kube.comeback import Comeback
from kubelb.discovery.kube.desk import mistake
from kubelb.discovery.kube.diagnose import Trouble
from kubelb.discovery.kube.dispatch import Desks
from kubelb.discovery.kube.lifeline import Lifeline
from kubelb.discovery.kube.reader import Reader
from kubelb.discovery.kube.reflector import Reflector
from kubelb.discovery.kube.scope import Wide
from kubelb.discovery.kube.steps import PAUSE, READ, RESYNC, ROUSED, Answer, Failure, Get, Phase, Sleep, Step
from kubelb.discovery.kube.transport import Transport
from kubelb.discovery.kube.waits import Steps
from kubelb.process import thread_ends
from kubelb.threads import begin

__all__ = ["Stream"]

GRACE = 0.03
"""Seconds that `stop` waits for the thread, below its promise of 50 ms."""


class Stream:
    """One list and watch, of some services of a namespace."""

    def __init__(
        self,
        channel: Channel,
        namespace: str,
        service: str,
        locator: Locator,
        *,
        clock: Clock,
        rng: random.Random,
        comeback: Comeback,
        connect_timeout: float,
        read_timeout: float,
    ) -> None:
        self.desks: Desks[Reader] = Desks(self)
        self.gathering = True
        """Whether newcomers may join."""
        self.began = self.last_arrival = clock()
        self._channel = channel
        self._line = Lifeline()
        self._wake = threading.Event()
        self._resync = False
        self._transport = Transport(
            locator,
            self._line,
            self._warn,
            connected=self._connected,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
        )
        self._comeback = comeback
        self._reflector = Reflector(namespace, self, self.desks, clock=clock, rng=rng, comeback=comeback)
        self._thread = threading.Thread(target=self._run, name=f"kubelb-watch-{namespace}-{service}", daemon=True)

    @property
    def stage(self) -> str:
        """What the stream is waiting for, for messages."""
        phase = self._line.phase
        where = "" if phase is Phase.CREDENTIALS else f" {self._transport.server or 'the API server'}"
        return f"{phase.value}{where}"

    # -- from any thread

    @property
    def cursor(self) -> str:
        """The version from which nothing was missed by its desks."""
        return self._reflector.cursor

    @property
    def known(self) -> float:
        """When everything was known last."""
        return self._reflector.recovery.known

    @property
    def settled(self) -> bool:
        """Whether everything is known of its desks, and no failure was told that is not over."""
        return not self.gathering and bool(self.cursor) and self.desks.trouble is None

    def begin(self) -> None:
        """Start the thread."""
        begin(self._thread)
        self._comeback.join(self._wake.set)

    def resync(self) -> None:
        """Fetch everything again, now."""
        self._resync = True
        self._wake.set()
        if self._line.phase is Phase.STREAM:
            self._line.cut()

    def joined(self) -> None:
        """A newcomer came. Where the server was away it may be back, as one that begins would find out."""
        if self.desks.trouble is not None:
            self._resync = True
        self._wake.set()

    def stop(self, *, wait: bool = True) -> None:
        """End it, whatever it waits for; and `wait` for a moment until it has."""
        self._comeback.leave(self._wake.set, self._reflector.recovery)
        self._line.stop()
        self._wake.set()
        if wait and self._thread is not threading.current_thread():
            self._thread.join(GRACE)

    # -- the thread

    def _run(self) -> None:
        while not self._line.stopped:
            steps = self._reflector.run()
            try:
                self._drive(steps)
            except BaseException as error:  # noqa: BLE001  also SystemExit, out of a kubeconfig's plugin
                self.desks.failed(mistake(error))
                self._sleep(Sleep(self._reflector.backoff.next()))
            finally:
                steps.close()
                with contextlib.suppress(Exception):
                    self._transport.close()
        # Once more: a thread that was past its last question when it was stopped may have told of itself since.
        self._comeback.leave(self._wake.set, self._reflector.recovery)
        thread_ends()

    def _drive(self, steps: Steps) -> None:
        step = next(steps)
        while not self._line.stopped:
            answer = self._answer(step)
            if self._line.stopped:
                return
            step = steps.send(answer)

    def _connected(self, seconds: float) -> None:
        with contextlib.suppress(StopIteration):
            self._drive(self._reflector.connected(seconds))

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

    def _warn(self, warning: str) -> None:
        self.desks.skipped("the credentials", warning)

    # -- which services (`scope.py`)

    def all(self) -> tuple[str, ...]:
        self.desks.listing = tuple(self.desks.of)
        return self.desks.listing

    def count(self) -> int:
        return len(self.desks.of)

    def unlisted(self) -> tuple[str, ...]:
        self.desks.listing = self.desks.unlisted()
        return self.desks.listing

    def arrived(self) -> bool:
        return bool(self.desks.unlisted())

    def newest(self) -> str:
        return self._channel.newest()

    def settle(self) -> float:
        return self._channel.settle(self) if self.gathering else 0.0

    def widen(self, version: str, known: float) -> Wide:
        return self._channel.widen(self, version, known)

    def adopt(self, wide: Wide) -> Trouble | None:
        return self._channel.adopt(self, wide)

    def aside(self) -> None:
        self._channel.aside()

    # -- fork

    def abandon(self) -> None:
        """In a forked child: this stream's thread is not here; where it is a greenlet, it ends when it wakes."""
        self._line.abandon()
