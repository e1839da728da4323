"""The law that a policy works under threads, and a way to make them meet.

Without control, two threads are between two given lines of a pick at the same moment once in a million times, and then
in production. So each is traced, and before every line of the policy a random choice says which of them goes on. The
same seed makes the same choices, so what is found once is found again.
"""

import inspect
import random
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeAlias

from kubelb.core.lease import Lease
from kubelb.core.policies.base import Picker
from kubelb.core.state import EndpointState
from kubelb.model import Outcome, Verdict
from kubelb.testing.policy_trial import NOW, Trial, picked_rightly

__all__ = ["works_under_threads"]

TraceFunction: TypeAlias = Callable[[FrameType, str, Any], Any]

OURS = {__file__, Trial.keyed.__code__.co_filename, Lease.release.__code__.co_filename}
THREADS = 4
PICKS = 80
PATIENCE = 0.005
"""Seconds after which a thread goes on although it is another's turn: that one may wait for a lock of the policy's."""


def works_under_threads(trial: Trial) -> None:
    """threads may pick at the same time, while requests come and go"""
    for count in (2, 17):  # what goes round among few is at its end more often
        states = trial.states(count)
        picker = trial.build(states)
        errors: list[BaseException] = []
        turns = Turns(THREADS, trial.seed)
        crew = [
            threading.Thread(target=pick_away, args=(trial, picker, trial.own(states), turns, number, errors))
            for number in range(THREADS)
        ]
        for thread in crew:
            thread.start()
        turns.begin()
        for thread in crew:
            thread.join()
        if errors:
            raise errors[0]


def pick_away(
    trial: Trial,
    picker: Picker,
    states: Sequence[EndpointState],
    turns: "Turns",
    number: int,
    errors: list[BaseException],
) -> None:
    """Pick and release by turns; what is raised goes into `errors`."""
    with turns.taken_by(number):
        try:
            for request, _ in zip(trial.keyed(), range(PICKS), strict=False):
                state = picked_rightly(picker, request, NOW, states, "under threads, pick")
                if state is not None:
                    Lease(state, NOW).release(Outcome(Verdict.OK, latency=0.01))
        except BaseException as error:  # noqa: BLE001 - it is raised again by the thread that asked
            errors.append(error)


class Turns:
    """Which of some threads goes on."""

    def __init__(self, count: int, seed: int) -> None:
        self._gates = [threading.Semaphore(0) for _ in range(count)]
        self._running = list(range(count))
        self._rng = random.Random(seed)

    def begin(self) -> None:
        """It is the first one's turn."""
        self._gates[0].release()

    @contextmanager
    def taken_by(self, number: int) -> Iterator[None]:
        """In its thread: wait for the first turn, give way before each line, and for good at the end."""

        def trace(frame: FrameType, event: str, arg: object) -> TraceFunction | None:  # noqa: ARG001 - Python's own
            code = frame.f_code
            # Not in a generator: CPython 3.11 crashes where another thread resumes one that is stopped by its tracing.
            if code.co_filename in OURS or code.co_flags & inspect.CO_GENERATOR:
                return None
            self._give_way(number)
            return trace

        self._gates[number].acquire(timeout=1.0)
        sys.settrace(trace)
        try:
            yield
        finally:
            sys.settrace(None)
            self._running.remove(number)
            for other in self._running[:1]:
                self._gates[other].release()

    def _give_way(self, number: int) -> None:
        other = self._rng.choice(tuple(self._running))  # others leave it meanwhile
        if other != number:
            self._gates[other].release()
            self._gates[number].acquire(timeout=PATIENCE)
