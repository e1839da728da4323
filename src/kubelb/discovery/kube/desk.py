"""What is known of one service, and every subscriber in this process that is told.

    replace, upsert, delete, failed, recovered    by the stream that owns it: noted here, then told to each
    Seat.join                                     a latecomer is told at once what is known; no server is asked

What is known is kept as JSON, because a latecomer may want another port than those before it, and cannot use what
those have made of it. Large slices are zipped: that costs 0.1 ms for 100 endpoints, and 10 000 of them take half a
megabyte beside the four that the model takes, instead of doubling it. The few slices that changed last are kept as they
came: what changes is most often what changed before, and packing it each time was a fifth of what an event costs.

A lock makes it one story: a seat that joins is told a state, and then every event after it. It is held while they
are told, so nothing that leaves may ask for it: the registry changes the seats, under its own lock.
Order of locks: a desk's, then a subscriber's own or the registry's.
"""

import contextlib
import threading
import traceback
import zlib
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import msgspec

from kubelb.discovery.kube.diagnose import Code, Trouble
from kubelb.discovery.kube.pages import UNKNOWN
from kubelb.discovery.kube.repeats import Repeats
from kubelb.discovery.kube.sink import Sink
from kubelb.discovery.kube.versions import Seen, number, older
from kubelb.discovery.kube.wire import Slice, decode_slice

__all__ = ["Desk", "Seat", "Subscriber", "mistake"]

Owner = TypeVar("Owner")
"""What reads for a desk."""

LARGE = 2048
"""Bytes above which a slice is zipped."""
LOOSE = 8
"""Slices that are kept as they came, those that changed last: 100 endpoints take some 50 KB."""

_encode = msgspec.json.Encoder().encode


class Subscriber(Sink, Protocol):
    """Receives what is learnt of a service, on the thread that learns it; a latecomer first on its own."""

    def welcome(self, slices: list[Slice], heard: float) -> None:
        """All that is known, and when the source gave its last sign of life."""

    def orphaned(self) -> None:
        """In a forked child: what reads is the parent's; nothing is told any more until `start` is called again."""


class Seat(Generic[Owner]):
    """A subscriber's place at a desk."""

    __slots__ = ("desk", "gone", "joined", "subscriber")

    def __init__(self, desk: "Desk[Owner]", subscriber: Subscriber, *, joined: bool) -> None:
        self.desk = desk
        self.subscriber = subscriber
        self.joined = joined
        """Whether it is told of events; a latecomer is not before `join`."""
        self.gone = False

    def join(self) -> None:
        """Tell it what is known, and from now on whatever happens. No I/O; returns when it was told."""
        desk = self.desk
        with desk.lock:
            if self.gone or self.joined:
                return
            if desk.synced:
                desk.tell(self, lambda each: each.welcome(desk.slices(), desk.heard_at))
            trouble = desk.trouble
            if trouble is not None:
                desk.tell(self, lambda each: each.failed(trouble))
            self.joined = True


class Desk(Generic[Owner]):
    """One service. What tells it something passes itself (`by`), and is heard only while it is the owner."""

    def __init__(self, service: str, clock: Callable[[], float], owner: Owner) -> None:
        self.service = service
        self.owner = owner
        """The stream that reads it; another takes it over under the registry's lock."""
        self.lock = threading.Lock()
        self.seats: tuple[Seat[Owner], ...] = ()
        """Replaced, never changed, under the registry's lock."""
        self.synced = False
        self.heard_at = clock()
        self.trouble: Trouble | None = None
        """What was told last, unless it is over."""
        self.newest = ""
        """The newest version that was applied here."""
        self._clock = clock
        self._repeats = Repeats(clock)
        self._slices: dict[str, bytes | Slice] = {}
        self._loose: dict[str, None] = {}  # names of those that are not packed, the last one changed last
        self._seen = Seen()
        self._floor = ""  # the version of the last list

    def __repr__(self) -> str:
        return f"<Desk {self.service} {len(self._slices)} slices, {len(self.seats)} seats>"

    def knows(self, name: str) -> bool:
        """Whether a slice of that name is here."""
        return name in self._slices

    def slices(self) -> list[Slice]:
        """What is known. The caller holds the lock."""
        return [kept if isinstance(kept, Slice) else decode_slice(_unpacked(kept)) for kept in self._slices.values()]

    def replace(self, by: Owner, slices: list[Slice], unread: frozenset[str] = frozenset(), version: str = "") -> None:
        """A complete list as of `version`; what is known of slices that are `unread` stays."""
        with self.lock:
            if self.owner is not by:
                return
            mine = {piece.metadata.name: piece for piece in slices if self._mine(piece)}
            versions = {name: piece.metadata.resource_version for name, piece in mine.items()}
            for name in self._slices if UNKNOWN in unread else self._slices.keys() & unread:
                versions.setdefault(name, self._seen.version(name))
            for name in self._seen.replace(versions):
                del self._slices[name]
            for name, piece in mine.items():
                self._slices[name] = _packed(piece)
            self.synced, self._floor, self.newest = True, version, version
            if self.trouble is not None and self.trouble.code is Code.INTERNAL:
                self.trouble = None  # a fresh start has mended it
                self._repeats.over()
            self._tell_all(lambda each: each.replace(slices, unread, version))

    def upsert(self, by: Owner, piece: Slice) -> None:
        """A slice is this now; one that belongs to another service is as good as deleted."""
        with self.lock:
            meta = piece.metadata
            if self.owner is not by or self._replayed(meta.name, meta.resource_version):
                return
            if not self._mine(piece):
                self._forget(piece)
            elif self._seen.upsert(meta.name, meta.resource_version):
                self._keep(meta.name, piece)
            else:
                return  # a latecomer was not there when it was deleted, and would believe it
            self._applied(meta.resource_version)
            self._tell_all(lambda each: each.upsert(piece))

    def delete(self, by: Owner, piece: Slice) -> None:
        """A slice is gone."""
        with self.lock:
            if self.owner is not by or self._replayed(piece.metadata.name, piece.metadata.resource_version):
                return
            if self._forget(piece):
                self._applied(piece.metadata.resource_version)
                self._tell_all(lambda each: each.delete(piece))

    def heard(self, by: Owner) -> None:
        """A sign of life."""
        if self.owner is not by:
            return
        self.heard_at = self._clock()
        self._tell_all(lambda each: each.heard())

    def failed(self, by: Owner, trouble: Trouble) -> None:
        """It cannot be read for now. The same failure again is told now and then (`repeats.py`)."""
        with self.lock:
            if self.owner is not by:
                return
            self.trouble = trouble
            if self._repeats.news(trouble):
                self._tell_all(lambda each: each.failed(trouble))

    def recovered(self, by: Owner) -> None:
        """It can, and everything is known."""
        with self.lock:
            if self.owner is not by or self.trouble is None:
                return
            self.trouble = None
            self._repeats.over()
            self._tell_all(lambda each: each.recovered())

    def skipped(self, by: Owner, what: str, reason: str) -> None:
        """Something made no sense."""
        if self.owner is by:
            self._tell_all(lambda each: each.skipped(what, reason))

    def tell(self, seat: Seat[Owner], message: Callable[[Subscriber], None]) -> None:
        """Tell one. Its own mistake is its own loss."""
        try:
            message(seat.subscriber)
        except Exception as error:  # noqa: BLE001
            with contextlib.suppress(Exception):
                seat.subscriber.failed(mistake(error))

    def _tell_all(self, message: Callable[[Subscriber], None]) -> None:
        for seat in self.seats:
            if seat.joined:
                self.tell(seat, message)

    def _applied(self, version: str) -> None:
        if older(self.newest, version):
            self.newest = version

    def _mine(self, piece: Slice) -> bool:
        return bool(piece.metadata.name) and piece.service == self.service

    def _replayed(self, name: str, version: str) -> bool:
        """Whether the list that is known came after it: a slice of which it knows nothing was gone by then.

        A watch that takes in another service begins before that one's list. Of a slice that is known, `Seen` can tell.
        """
        if name in self._slices:
            return False
        ours, listed = number(version), number(self._floor)
        return ours is not None and listed is not None and ours <= listed

    def _keep(self, name: str, piece: Slice) -> None:
        """What is known of it now; of those that changed before it, one too many is packed."""
        self._slices[name] = piece
        self._loose.pop(name, None)
        self._loose[name] = None
        if len(self._loose) > LOOSE:
            first = next(iter(self._loose))
            del self._loose[first]
            kept = self._slices.get(first)  # it may be gone, or packed with a list since
            if isinstance(kept, Slice):
                self._slices[first] = _packed(kept)

    def _forget(self, piece: Slice) -> bool:
        """Returns whether that is news, and not older than what is known."""
        if not self._seen.delete(piece.metadata.name, piece.metadata.resource_version):
            return False
        self._slices.pop(piece.metadata.name, None)
        return True


def _packed(piece: Slice) -> bytes:
    raw = _encode(piece)
    return raw if len(raw) < LARGE else zlib.compress(raw, 1)


def _unpacked(packed: bytes) -> bytes:
    return packed if packed.startswith(b"{") else zlib.decompress(packed)  # zlib's first byte is an x


def mistake(error: BaseException) -> Trouble:
    """What and where, without the text, which may hold anything."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {frames[-1].name}, line {frames[-1].lineno}" if frames else ""
    return Trouble(Code.INTERNAL, f"kubelb made a mistake: {type(error).__name__}{where}", "please report it")
