"""Waits for many sockets at once, and for a bell that any thread may ring.

One thread owns an Asker and calls `ask` and `sleep`; `ring` ends whatever it waits for, at once and in every state,
because it never waits for anything but this selector. At most `AT_ONCE` questions are under way.
"""

import contextlib
import selectors
import socket
from collections import deque
from collections.abc import Callable, Sequence

from kubelb.clock import monotonic
from kubelb.discovery.dns.dialogue import Dialogue
from kubelb.discovery.dns.steps import Answer, Failure, Question
from kubelb.model import Address

__all__ = ["AT_ONCE", "Asker", "StoppedError"]

AT_ONCE = 16
"""Questions under way at the same time: enough to hide the way, few enough not to be taken for a flood."""


class StoppedError(Exception):
    """The bell was rung for good."""


class Asker:
    """`stopped` is asked after each ring. In wall time, as every wait for a socket is."""

    def __init__(self, stopped: Callable[[], bool]) -> None:
        self._stopped = stopped
        self._preferred: Address | None = None
        self._selector = selectors.DefaultSelector()
        self._bell, self._string = socket.socketpair()
        for end in (self._bell, self._string):
            end.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._open: list[Dialogue] = []

    def ring(self) -> None:
        """From any thread: end the wait. Not after `close`, which its owner makes sure of."""
        with contextlib.suppress(BlockingIOError):  # the buffer is full of rings already
            self._string.send(b"!")

    def ask(self, questions: Sequence[Question], servers: tuple[Address, ...]) -> tuple[Answer | Failure, ...]:
        """Answers in the order of the questions. Raises `StoppedError`."""
        dialogues = [Dialogue(question, self._order(servers)) for question in questions]
        waiting = deque(dialogues)
        try:
            while waiting or self._open:
                now = monotonic()
                while waiting and len(self._open) < AT_ONCE:
                    dialogue = waiting.popleft()
                    dialogue.begin(now)
                    self._keep(dialogue)
                if self._open:
                    self._wait_for_one()
        finally:
            for dialogue in self._open:
                self._forget(dialogue.sock)
                dialogue.close()
            self._open.clear()
        self._preferred = next((each.server for each in dialogues if each.server), self._preferred)
        return tuple(each.result for each in dialogues if each.result is not None)

    def sleep(self, seconds: float, awake: Callable[[], bool]) -> None:
        """Return after so many seconds, or when `awake` is true at a ring. Raises `StoppedError`."""
        until = monotonic() + seconds
        while not awake() and (left := until - monotonic()) > 0:
            self._select(left)

    def close(self) -> None:
        """Leave nothing open."""
        for dialogue in self._open:
            dialogue.close()
        self._selector.close()
        self._bell.close()
        self._string.close()

    def _order(self, servers: tuple[Address, ...]) -> tuple[Address, ...]:
        """The one that answered last comes first, so that a dead one costs a wait once."""
        if self._preferred in servers:
            return (self._preferred, *(each for each in servers if each != self._preferred))
        return servers

    def _keep(self, dialogue: Dialogue) -> None:
        if dialogue.result is None and dialogue.sock is not None:
            self._selector.register(dialogue.sock, _wish(dialogue), dialogue)
            self._open.append(dialogue)

    def _wait_for_one(self) -> None:
        now = monotonic()
        for dialogue in self._select(max(0.0, min(each.until for each in self._open) - now)):
            self._move(dialogue, dialogue.ready)
        now = monotonic()
        for dialogue in [each for each in self._open if each.until <= now]:
            self._move(dialogue, dialogue.late)

    def _move(self, dialogue: Dialogue, step: Callable[[float], None]) -> None:
        before = dialogue.sock
        self._forget(before)
        self._open.remove(dialogue)
        step(monotonic())
        self._keep(dialogue)

    def _forget(self, sock: socket.socket | None) -> None:
        if sock is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(sock)

    def _select(self, seconds: float) -> list[Dialogue]:
        ready = [key.data for key, _ in self._selector.select(seconds)]
        if None in ready:
            with contextlib.suppress(BlockingIOError):
                self._bell.recv(4096)
        if self._stopped():
            raise StoppedError
        return [dialogue for dialogue in ready if dialogue is not None]


def _wish(dialogue: Dialogue) -> int:
    return selectors.EVENT_WRITE if dialogue.writing else selectors.EVENT_READ
