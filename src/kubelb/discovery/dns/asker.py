"""Waits for many sockets at once, and for a bell that any thread may ring.

One thread owns an Asker and calls `ask`, `rest` and `sleep`; `ring` ends whatever it waits for, at once and in every
state, because it never waits for anything but this selector. At most `AT_ONCE` questions are under way.

Not every question is worth waiting for. Where `enough` says that an answer is one to go on with, the others are waited
for as long as they keep coming; once none has for `SETTLE` seconds, what there is is returned. The rest stay under way.
"""

import contextlib
import selectors
import socket
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from kubelb.clock import monotonic
from kubelb.discovery.dns.dialogue import Dialogue
from kubelb.discovery.dns.exchange import Exchange
from kubelb.discovery.dns.manners import Manners
from kubelb.discovery.dns.steps import Answer, Config, Enough, Question, Replies
from kubelb.model import Address

__all__ = ["AT_ONCE", "SETTLE", "Asker", "StoppedError"]

AT_ONCE = 16
"""Questions under way at the same time: enough to hide the way, few enough not to be taken for a flood."""
SETTLE = 0.05
"""Seconds that the other answers are given after one to go on with: the Resolution Delay of RFC 8305, 3."""


class StoppedError(Exception):
    """The bell was rung for good."""


class Asker:
    """`stopped` is asked after each ring. In wall time, as every wait for a socket is."""

    def __init__(self, stopped: Callable[[], bool]) -> None:
        self._stopped = stopped
        self._preferred: Address | None = None
        self._turn = 0
        self._manners = Manners()
        self._selector = selectors.DefaultSelector()
        self._bell, self._string = socket.socketpair()
        for end in (self._bell, self._string):
            end.setblocking(False)
        self._selector.register(self._bell, selectors.EVENT_READ)
        self._waiting: deque[Dialogue] = deque()
        self._open: list[Dialogue] = []
        self._left: dict[Question, Dialogue] = {}

    def ring(self) -> None:
        """From any thread: end the wait. Not after `close`, which its owner makes sure of."""
        with contextlib.suppress(BlockingIOError):  # the buffer is full of rings already
            self._string.send(b"!")

    def ask(self, questions: Sequence[Question], config: Config, enough: Enough | None = None) -> Replies:
        """Answers in the order of the questions, None for what is left for `rest`. Raises `StoppedError`."""
        dialogues = [Dialogue(each, self._order(config), config, self._manners) for each in questions]
        self._waiting += dialogues
        self._wait(dialogues, enough)
        self._left.update((each.question, each) for each in dialogues if each.result is None)
        return tuple(each.result for each in dialogues)

    def rest(self, questions: Sequence[Question], seconds: float, awake: Callable[[], bool]) -> Replies:
        """What became of questions that were left, after so many seconds at most; `awake` as for `sleep`."""
        left = [self._left[question] for question in questions]
        self._wait(left, until=monotonic() + seconds, awake=awake)
        return tuple(each.result for each in left)

    def drop(self) -> None:
        """Give up what is left, also where a mistake of ours has left it in between."""
        left = [key for key in self._selector.get_map().values() if key.data is not None]
        for key in left:
            self._selector.unregister(key.fileobj)
        for dialogue in (*(key.data[0] for key in left), *self._open):
            dialogue.close()
        self._open.clear()
        self._waiting.clear()
        self._left.clear()

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

    def _order(self, config: Config) -> tuple[Address, ...]:
        """The one that answered last comes first, so that a dead one costs a wait once; or each in its turn."""
        servers = config.servers
        if config.rotate and servers:
            now = monotonic()
            self._turn += 1
            first = self._turn % len(servers)
            turned = (*servers[first:], *servers[:first])
            return tuple(sorted(turned, key=lambda server: self._manners.sulks(server, now)))
        if self._preferred in servers:
            return (self._preferred, *(each for each in servers if each != self._preferred))
        return servers

    def _wait(
        self,
        dialogues: list[Dialogue],
        enough: Enough | None = None,
        until: float = float("inf"),
        awake: Callable[[], bool] = lambda: False,
    ) -> None:
        news = monotonic()
        while any(each.result is None for each in dialogues):
            self._begin()
            if not self._open:  # each of them failed as it began
                continue
            now = monotonic()
            settles = news + SETTLE if enough and _any(dialogues, enough) else float("inf")
            moved = self._wait_for_one(min(settles, until) - now)
            # Judged only where nothing was there to be read: a stall of our own is no silence of theirs.
            now = monotonic()
            if moved:
                news = now
            elif now >= min(settles, until) or awake():
                break
        self._preferred = next((each.server for each in dialogues if each.server), self._preferred)

    def _begin(self) -> None:
        now = monotonic()
        while self._waiting and len(self._open) < AT_ONCE:
            dialogue = self._waiting.popleft()
            dialogue.begin(now)
            self._keep(dialogue)

    def _keep(self, dialogue: Dialogue) -> None:
        if dialogue.result is None:
            for exchange in dialogue.open:
                wish = selectors.EVENT_WRITE if exchange.writing else selectors.EVENT_READ
                self._selector.register(exchange.sock, wish, (dialogue, exchange))
            self._open.append(dialogue)

    def _wait_for_one(self, seconds: float) -> bool:
        """Wait for something to happen; returns whether anything came."""
        now = monotonic()
        ready = self._select(max(0.0, min(seconds, *(each.until - now for each in self._open))))
        for dialogue, exchange in ready:
            if exchange in dialogue.open:  # else another one of the same question has just been answered
                self._move(dialogue, partial(dialogue.ready, exchange))
        now = monotonic()
        for dialogue in [each for each in self._open if each.until <= now]:
            self._move(dialogue, dialogue.late)
        return bool(ready)

    def _move(self, dialogue: Dialogue, step: Callable[[float], None]) -> None:
        self._forget(dialogue)
        self._open.remove(dialogue)
        step(monotonic())
        self._keep(dialogue)

    def _forget(self, dialogue: Dialogue) -> None:
        for exchange in dialogue.open:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(exchange.sock)

    def _select(self, seconds: float) -> list[tuple[Dialogue, Exchange]]:
        ready = [key.data for key, _ in self._selector.select(seconds)]
        if None in ready:
            with contextlib.suppress(BlockingIOError):
                self._bell.recv(4096)
        if self._stopped():
            raise StoppedError
        return [pair for pair in ready if pair is not None]


def _any(dialogues: list[Dialogue], enough: Enough) -> bool:
    return any(isinstance(each.result, Answer) and enough(each.question, each.result) for each in dialogues)
