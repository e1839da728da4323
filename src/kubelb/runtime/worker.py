"""The background worker: one a process, for what must happen later or elsewhere.

One thread keeps the time and runs nothing itself. What is due goes to a runner thread, a spare one if there is one, so
that code which takes its time (a user's policy building a table) delays neither the timer nor another job.
Ordinarily there is one runner. Threads are daemons, start with the first job, and end with the last user: `retain` and
`release` count those.

Nothing here is on the path of a request.
"""

import heapq
import threading
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import TypeAlias

from kubelb.clock import Clock, monotonic
from kubelb.runtime.fork import register
from kubelb.runtime.greenlets import PatchedTooLate, concerns, look
from kubelb.threads import begin

__all__ = ["Worker", "worker"]

Job: TypeAlias = Callable[[], None]

SPARE = 5.0
"""Seconds for which a runner without work is kept."""
RETRY = 0.5
"""Seconds until a job is handed over again for which there was no thread: a process may be at its limit for a while."""
STOP = 0.05
"""Seconds that `release` waits for the threads; a job that is still running then ends by itself."""


class Worker:
    """Runs jobs at times. Jobs must not raise; one that does is reported by `threading.excepthook`."""

    def __init__(self, clock: Clock = monotonic) -> None:
        self.clock = clock
        self._renew()
        register(self)
        concerns(self)

    def _renew(self) -> None:
        self._wakeup = threading.Condition(threading.Lock())
        self._heap: list[tuple[float, int, Job]] = []
        self._order = count()
        self._ready: deque[Job] = deque()
        self._work = threading.Condition(threading.Lock())
        self._idle = 0
        self._threads: set[threading.Thread] = set()
        self._timing = False
        self._users = 0
        self._epoch = object()

    def after_fork_in_child(self) -> None:
        """No thread is here; one that is all the same (a greenlet) is of an older epoch, and ends when it wakes."""
        before = self._wakeup, self._work
        self._renew()
        for condition in before:
            if condition.acquire(blocking=False):  # else a thread of the parent holds it, for ever
                condition.notify_all()
                condition.release()

    def running(self) -> bool:
        """Whether there are threads."""
        return bool(self._threads)

    def after_patch(self) -> None:
        """Nothing runs: locks that greenlets can wait for, and the users that there are."""
        users = self._users
        self._renew()
        self._users = users

    def patched_too_late(self) -> None:
        """Nothing to be done: each pick is told."""

    def retain(self) -> None:
        """Count one more user. Raises RuntimeError where threads became greenlets while ours ran."""
        look()
        with self._wakeup:
            self._users += 1

    def release(self) -> None:
        """Count one user less; with the last one every thread ends and jobs not yet begun are dropped."""
        with self._wakeup, self._work:
            self._users -= 1
            if self._users > 0:
                return
            self._heap.clear()
            self._ready.clear()
            self._idle = 0
            self._epoch = object()  # threads of an older epoch end; none of them may be counted on
            self._timing = False
            self._wakeup.notify_all()
            self._work.notify_all()
            threads = tuple(self._threads)
        deadline = self.clock() + STOP
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - self.clock()))

    def call_at(self, when: float, job: Job) -> None:
        """Run `job` on a runner thread at `when`, in the worker's time."""
        with self._wakeup:
            if self._users <= 0:
                return
            if not self._timing:
                self._spawn("kubelb-timer", self._keep_time)  # first: without it the job is not taken, and that is told
                self._timing = True
            heapq.heappush(self._heap, (when, next(self._order), job))
            if self._heap[0][0] == when:
                self._wakeup.notify_all()

    def _spawn(self, name: str, target: Callable[[object], None]) -> None:
        thread = threading.Thread(target=self._run, args=(target, self._epoch), name=name, daemon=True)
        begin(thread)
        self._threads.add(thread)

    def _run(self, target: Callable[[object], None], epoch: object) -> None:
        try:
            target(epoch)
        finally:
            self._threads.discard(threading.current_thread())

    def _keep_time(self, epoch: object) -> None:
        while True:
            with self._wakeup:
                while epoch is self._epoch and (not self._heap or self._heap[0][0] > self.clock()):
                    left = self._heap[0][0] - self.clock() if self._heap else None
                    self._wakeup.wait(None if left is None else min(max(0.0, left), threading.TIMEOUT_MAX))
                if epoch is not self._epoch:
                    return
                job = heapq.heappop(self._heap)[2]
            try:
                look()
            except PatchedTooLate:  # every member is told; a thread that we began now would be a greenlet of this one
                return
            if not self._hand_over(job, epoch):
                self.call_at(self.clock() + RETRY, job)
            del job  # what a job holds must not live until the next one comes

    def _hand_over(self, job: Job, epoch: object) -> bool:
        """Whether it found a runner; the one thread that keeps the time must not end because there is no second."""
        with self._work:
            if epoch is not self._epoch:
                return True  # dropped, as all of that epoch
            self._ready.append(job)
            if self._idle >= len(self._ready):
                self._work.notify()
                return True
            try:
                self._spawn("kubelb-runner", self._run_jobs)
            except (RuntimeError, MemoryError):
                self._ready.pop()
                return False
            return True

    def _run_jobs(self, epoch: object) -> None:
        while True:
            with self._work:
                if not self._ready and epoch is self._epoch:
                    self._idle += 1
                    self._work.wait(SPARE)
                    if epoch is self._epoch:
                        self._idle -= 1
                if epoch is not self._epoch or not self._ready:
                    return
                job = self._ready.popleft()
            job()
            del job


worker = Worker()
"""The one of this process."""
