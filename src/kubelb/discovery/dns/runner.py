"""The thread that runs a poller over an asker.

A daemon thread and no socket but those of a question under way. Nothing that happens in it ends it silently: what
is not foreseen is told as a failure of kind ``internal`` and followed by a wait and a fresh start. It ends within 50 ms
in any state, because the asker's bell ends whatever it waits for.

After a fork the child closes what it inherited, and nothing else: the sockets and the selector are the parent's.
"""

import contextlib
import threading
import traceback
from collections.abc import Callable
from weakref import WeakSet

from kubelb.discovery.dns.asker import Asker, StoppedError
from kubelb.discovery.dns.hosts import HostsFile
from kubelb.discovery.dns.nameservers import Nameservers
from kubelb.discovery.dns.poller import Poller, Steps
from kubelb.discovery.dns.steps import HOSTS, RESYNC, Ask, Config, Failure, Reply, Rest, Sleep, Step
from kubelb.process import thread_ends
from kubelb.threads import begin

__all__ = ["Runner", "abandon_all", "place"]

GRACE = 0.03
"""Seconds that `stop` waits for the thread, below its promise of 50 ms."""


class Runner:
    """One life: `begin` once, `stop` once. `rung` is called on the thread after a ring, `orphaned` in a child."""

    def __init__(
        self,
        name: str,
        poller: Poller,
        nameservers: Nameservers,
        hosts: HostsFile,
        *,
        failed: Callable[[Failure], None],
        rung: Callable[[], None],
        orphaned: Callable[[], None],
    ) -> None:
        self._poller = poller
        self._nameservers = nameservers
        self._hosts = hosts
        self._failed = failed
        self._rung = rung
        self._orphaned = orphaned
        self._config: Config | None = None
        self._stopped = self._resync = False
        self._lock = threading.Lock()
        self._asker: Asker | None = Asker(self._is_stopped)
        self._thread = threading.Thread(target=self._run, args=(self._asker,), name=name, daemon=True)
        _runners.add(self)

    def begin(self) -> None:
        """Start the thread; where there is none to be had nothing stays open."""
        try:
            begin(self._thread)
        except RuntimeError:
            asker, self._asker = self._asker, None
            if asker is not None:
                asker.close()
            raise

    def resync(self) -> None:
        """Ask again, now."""
        self._resync = True
        self.ring()

    def stop(self) -> None:
        """End the thread."""
        self._stopped = True
        self.ring()
        if self._thread is not threading.current_thread():
            self._thread.join(GRACE)

    def abandon(self) -> None:
        """In a forked child: the thread is not here; where it is a greenlet, it ends when it wakes."""
        self._stopped = True
        asker, self._asker = self._asker, None
        if asker is not None:
            asker.close()
            self._orphaned()

    def ring(self) -> None:
        """End whatever the thread waits for, for a moment."""
        with self._lock:
            if self._asker is not None:
                self._asker.ring()

    def _is_stopped(self) -> bool:
        if not self._stopped:
            self._rung()
        return self._stopped

    # -- the thread

    def _run(self, asker: Asker) -> None:
        try:
            while not self._stopped:
                steps = self._poller.run()
                try:
                    self._drive(steps, asker)
                except Exception as error:  # noqa: BLE001 - a mistake of ours must not end discovery
                    if self._stopped:  # perhaps by a fork, which closed what a greenlet still waits on
                        return
                    asker.drop()  # or answers that nothing reads would end each moment of the sleep at once
                    self._failed(Failure("internal", f"kubelb made a mistake: {place(error)}", "please report it"))
                    asker.sleep(self._poller.backoff.next(), self._is_stopped)
                finally:
                    steps.close()
        except StoppedError:
            pass
        finally:
            with self._lock:
                self._asker = None
            asker.close()
            thread_ends()

    def _drive(self, steps: Steps, asker: Asker) -> None:
        step = next(steps)
        with contextlib.suppress(StoppedError):
            while not self._stopped:
                step = steps.send(self._answer(step, asker))

    def _answer(self, step: Step, asker: Asker) -> Reply:
        if isinstance(step, Ask):
            assert self._config is not None
            return asker.ask(step.questions, self._config, step.enough)
        if isinstance(step, Rest):
            return asker.rest(step.questions, step.seconds, lambda: self._resync)
        if step is HOSTS:
            return self._hosts.hosts()
        asker.drop()
        if isinstance(step, Sleep):
            asker.sleep(step.seconds, self._is_stopped if step.through else lambda: self._resync)
            if not step.through and self._resync:
                self._resync = False
                return RESYNC
            return None
        found = self._nameservers.config()
        if isinstance(found, Config):
            self._config = found
        return found


_runners: WeakSet[Runner] = WeakSet()


def abandon_all() -> None:
    """In a forked child: every thread is the parent's."""
    for runner in list(_runners):
        runner.abandon()


def place(error: BaseException) -> str:
    """What and where, without the text, which may hold anything."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {frames[-1].name}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"
