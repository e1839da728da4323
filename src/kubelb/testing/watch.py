"""One open watch: a queue of changes and commands, filled by the store and by the test, emptied onto a connection."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import msgspec

from kubelb.testing import objects
from kubelb.testing.http1 import chunk
from kubelb.testing.labels import Selector
from kubelb.testing.store import Change, Stored


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a watch shows: the slices of a namespace (None: of all) that both selectors match."""

    namespace: str | None
    labels: Selector
    fields: Selector

    def matches(self, stored: Stored | None) -> bool:
        return (
            stored is not None
            and (self.namespace is None or stored.key[0] == self.namespace)
            and self.labels(stored.labels)
            and self.fields(stored.fields)
        )

    def event(self, change: Change) -> bytes | None:
        """The change as this watch sees it: an object that leaves the selector is DELETED, one that enters ADDED."""
        before, after = self.matches(change.old), self.matches(change.new)
        if after and change.new is not None:
            return event_line("MODIFIED" if before else "ADDED", change.new.raw)
        if not before or change.old is None:
            return None
        if change.new is None:
            return event_line("DELETED", change.last.raw)
        # Out of the selector, not out of the store: shown as it was last seen, under the version of the change.
        body = msgspec.json.decode(change.old.raw)
        body["metadata"]["resourceVersion"] = str(change.version)
        return event_line("DELETED", msgspec.json.encode(body))


def event_line(kind: str, raw: bytes) -> bytes:
    """A watch event around a stored slice."""
    return b'{"type":"' + kind.encode() + b'","object":' + objects.SLICE_HEAD + raw[1:] + b"}\n"


def error_line(status: objects.Object) -> bytes:
    """An ERROR event: how an API server says that a watch cannot go on, after the status line said 200."""
    return msgspec.json.encode({"type": "ERROR", "object": status}) + b"\n"


def bookmark_line(version: int, *, initial_events_end: bool = False) -> bytes:
    """A BOOKMARK: everything up to `version` has been seen."""
    found = objects.bookmark(version, initial_events_end=initial_events_end)
    return msgspec.json.encode({"type": "BOOKMARK", "object": found}) + b"\n"


How = Literal["clean", "abrupt", "reset"]


@dataclass(frozen=True, slots=True)
class Line:
    """Command: send these bytes as they are."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Bookmark:
    """Command: send a bookmark now, if this watch asked for bookmarks."""


@dataclass(frozen=True, slots=True)
class End:
    """Command: end the stream: with the last chunk, without it, or by a reset of the connection."""

    how: How = "clean"


Item = Change | Line | Bookmark | End
Send = Callable[[bytes], None]


class Watch:
    """The loop of one watch. `put` may be called from any thread."""

    def __init__(self, wanted: Wanted, *, after: int, timeout: float, bookmarks: float | None) -> None:
        self.put: Callable[[Item], None]
        self._queue: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self.put = self._queue.put
        self._wanted = wanted
        self._after = after
        self._deadline = time.monotonic() + timeout
        self._bookmarks = bookmarks  # None: this client did not ask for any
        self._held = False

    def run(self, send: Send, version: Callable[[], int], *, head: bytes, hold: float) -> How:
        """Stream until the timeout or an `End`; how to end it. Raises `OSError`.

        `head` is sent first; where `hold` is positive only with the first event or after `hold` seconds, as proxies
        do that buffer. `version` tells the store's resourceVersion, for bookmarks.
        """
        if hold <= 0:
            send(head)
            head = b""
        release = time.monotonic() + hold
        next_bookmark = self._first_bookmark()
        while True:
            now = time.monotonic()
            if head and now >= release:
                send(head)
                head = b""
            if now >= self._deadline:
                if head:
                    send(head)
                return "clean"
            data: bytes | None = None
            if now >= next_bookmark:
                data = bookmark_line(version())
                next_bookmark = self._next_bookmark(now)
            else:
                try:
                    until = min(self._deadline, next_bookmark, release if head else self._deadline)
                    item = self._queue.get(timeout=max(0.0, until - now))
                except queue.Empty:
                    continue
                if isinstance(item, End):
                    if head:
                        send(head)
                    return item.how
                data = self._encode(item, version)
            if data:
                send(head + chunk(data))
                head = b""

    def _encode(self, item: Item, version: Callable[[], int]) -> bytes | None:
        if isinstance(item, Change):
            return self._wanted.event(item) if item.version > self._after else None
        if isinstance(item, Line):
            return item.data
        if isinstance(item, Bookmark) and self._bookmarks is not None:
            return bookmark_line(version())
        return None

    def _first_bookmark(self) -> float:
        return self._next_bookmark(time.monotonic())

    def _next_bookmark(self, now: float) -> float:
        """Each interval, and two seconds before the end, so that the next watch starts from a fresh version."""
        if self._bookmarks is None:
            return float("inf")
        upcoming = now + self._bookmarks
        last = self._deadline - 2.0
        return last if now < last < upcoming else upcoming
