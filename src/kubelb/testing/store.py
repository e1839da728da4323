"""The objects of a test cluster with their history: what etcd and the watch cache are to a real API server.

One counter, the resourceVersion, rises with every write to anything. Objects are kept encoded and are never changed
in place, so a list is a join of bytes, a watch event is encoded once for all watchers, and the state at an earlier
version is the present one with the history undone. `oldest` is the version below which history is forgotten: a watch
from there, or a list of that moment, is answered "410 Expired".
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec

Key = tuple[str, str]  # namespace, name
Object = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """One version of one object. `raw` is its JSON without `kind` and `apiVersion`, as the items of a list are."""

    key: Key
    version: int
    labels: Mapping[str, str]
    raw: bytes

    @property
    def fields(self) -> Mapping[str, str]:
        """What field selectors can ask about."""
        return {"metadata.namespace": self.key[0], "metadata.name": self.key[1]}


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """A write: `old` is None for a creation, `new` for a deletion, whose last state is then `last`."""

    version: int
    old: Stored | None
    new: Stored | None
    last: Stored  # for a deletion: the old state under the version of the deletion

    @property
    def key(self) -> Key:
        return self.last.key


class Expired(Exception):
    """The history of that version has been forgotten."""


Listener = Callable[[Change], None]


class Store:
    """Endpoint slices by namespace and name. `history` is how many changes are remembered for watches."""

    def __init__(self, *, history: int = 1000) -> None:
        self.lock = threading.RLock()
        self.version = 1000  # a cluster has written its own objects before any client looks
        self.oldest = 1000  # the least version from which a watch can still start
        self._objects: dict[Key, Stored] = {}
        self._history: deque[Change] = deque()
        self._keep = history
        self._listeners: dict[object, Listener] = {}

    def put(self, obj: Object) -> Stored:
        """Create or replace. An object equal to the one that is there is no write, as on a real server.

        Raises `ValueError` where it has no name, and `TypeError` where it holds what JSON cannot.
        """
        metadata = dict(obj.get("metadata") or {})
        if not metadata.get("name"):
            raise ValueError("metadata.name is missing")
        key = (str(metadata.get("namespace", "default")), str(metadata["name"]))
        with self.lock:
            old = self._objects.get(key)
            before: Object = msgspec.json.decode(old.raw)["metadata"] if old else {}
            metadata["namespace"] = key[0]
            metadata.setdefault("uid", before.get("uid") or str(uuid4()))
            metadata.setdefault("creationTimestamp", before.get("creationTimestamp") or now())
            metadata["generation"] = before.get("generation", 0) + 1
            body = {name: value for name, value in obj.items() if name not in ("kind", "apiVersion", "metadata")}
            if old is not None and _same(old, metadata, body):
                return old
            metadata["resourceVersion"] = str(self.version + 1)
            raw = msgspec.json.encode({"metadata": metadata, **body})  # may raise: before anything has changed
            labels = metadata.get("labels")
            self.version += 1
            new = Stored(key, self.version, dict(labels) if isinstance(labels, Mapping) else {}, raw)
            self._objects[key] = new
            self._record(Change(self.version, old, new, new))
            return new

    def delete(self, namespace: str, name: str) -> bool:
        """Remove; False when there was none."""
        with self.lock:
            old = self._objects.pop((namespace, name), None)
            if old is None:
                return False
            self.version += 1
            body = msgspec.json.decode(old.raw)
            body["metadata"]["resourceVersion"] = str(self.version)
            last = Stored(old.key, self.version, old.labels, msgspec.json.encode(body))
            self._record(Change(self.version, old, None, last))
            return True

    def get(self, namespace: str, name: str) -> Stored | None:
        """The present version of one object."""
        return self._objects.get((namespace, name))

    def at(self, version: int) -> list[Stored]:
        """Every object as it was at `version`, by namespace and name. Raises `Expired`."""
        with self.lock:
            objects = dict(self._objects)
            if version < self.version:
                if version < self.oldest:
                    raise Expired
                for change in reversed(self._history):
                    if change.version <= version:
                        break
                    if change.old is None:
                        objects.pop(change.key, None)
                    else:
                        objects[change.key] = change.old
        return [objects[key] for key in sorted(objects)]

    def since(self, version: int) -> list[Change]:
        """The changes after `version`, oldest first. Raises `Expired`."""
        with self.lock:
            if version < self.oldest:
                raise Expired
            return [change for change in self._history if change.version > version]

    def subscribe(self, listener: Listener) -> object:
        """Have `listener` called, under the lock, with every change from now on; it must only note it down."""
        ticket = object()
        with self.lock:
            self._listeners[ticket] = listener
        return ticket

    def unsubscribe(self, ticket: object) -> None:
        """Stop that."""
        with self.lock:
            self._listeners.pop(ticket, None)

    def expire(self) -> None:
        """Forget all history: every version that a client can know so far is too old."""
        with self.lock:
            self.version += 1  # so that a list made after this has a version from which a watch can start
            self.oldest = self.version
            self._history.clear()

    def _record(self, change: Change) -> None:
        self._history.append(change)
        while len(self._history) > self._keep:
            self.oldest = self._history.popleft().version
        for listener in list(self._listeners.values()):
            listener(change)


def now() -> str:
    """The present in the format of the API: seconds, UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _same(old: Stored, metadata: Object, body: Object) -> bool:
    before = msgspec.json.decode(old.raw)
    for volatile in ("resourceVersion", "generation"):
        before["metadata"].pop(volatile, None)
    wanted = {name: value for name, value in metadata.items() if name not in ("resourceVersion", "generation")}
    return bool(before == {"metadata": wanted, **body})
