"""The streams of one namespace, and how they become one.

    subscribe -> a desk that is there: a seat at it
              -> else a new desk at the stream that gathers, or at a new stream

The first service of a process has its stream, list and watch at once, and waits for nothing. One that comes later is
listed at once, too; before its watch begins there is a moment for others that may come with it, as they do where thirty
load balancers are made in a loop. Then the younger stream's watch takes in all services (`scope.py`). So there is one
watch for the namespace, or two for a moment. Streams are narrowed when their watch begins anew, every 5 to 10 minutes:
until then what is said of a service that was closed is not listened to.

What is here is decided under the registry's lock, and done outside it.
"""

import threading

from kubelb.clock import Clock
from kubelb.discovery.kube.desk import Desk, Seat, Subscriber
from kubelb.discovery.kube.diagnose import Trouble
from kubelb.discovery.kube.reader import Reader
from kubelb.discovery.kube.scope import Wide
from kubelb.discovery.kube.versions import number, older

__all__ = ["COLLECT", "LONGEST", "Channel"]

COLLECT = 0.1
"""Seconds without a newcomer after which a watch begins, where there may be more of them."""
LONGEST = 1.0
"""Seconds after which it begins although they keep coming: nothing is told meanwhile to those that were listed."""
ASIDE = 60.0
"""Seconds for which nothing is widened after a wider watch was refused."""


class Channel:
    """One for each API server, credentials and namespace."""

    def __init__(self, lock: threading.Lock, clock: Clock) -> None:
        self._lock = lock
        self._clock = clock
        self._aside = float("-inf")
        self.streams: tuple[Reader, ...] = ()
        self.desks: dict[str, Desk[Reader]] = {}

    # -- by the registry, which holds the lock

    def gathering(self) -> Reader | None:
        """The stream that newcomers may join."""
        return next((stream for stream in self.streams if stream.gathering), None)

    def seat(self, service: str, subscriber: Subscriber) -> Seat[Reader]:
        """A seat at a desk that is there."""
        desk = self.desks[service]
        seat = Seat(desk, subscriber, joined=False)
        desk.seats += (seat,)
        return seat

    def open(self, service: str, subscriber: Subscriber, stream: Reader) -> Seat[Reader]:
        """The first seat at a new desk. Where its stream is in trouble, it is told so when it joins."""
        desk = Desk(service, self._clock, stream)
        with desk.lock:  # it is new, so free; what the stream tells meanwhile waits, and comes after what is read here
            self.desks[service] = desk
            stream.desks.of = {**stream.desks.of, service: desk}
            desk.trouble = stream.desks.trouble
            seat = Seat(desk, subscriber, joined=desk.trouble is None)
            desk.seats = (seat,)
        stream.last_arrival = self._clock()
        return seat

    def leave(self, seat: Seat[Reader]) -> Reader | None:
        """Give it back; returns a stream that has nothing more to do."""
        seat.gone = True
        desk, stream = seat.desk, seat.desk.owner
        desk.seats = tuple(each for each in desk.seats if each is not seat)
        if desk.seats or self.desks.get(desk.service) is not desk:
            return None
        del self.desks[desk.service]
        self._take(stream, {desk.service})
        return None if stream.desks.of else self._end(stream)

    # -- by a stream

    def settle(self, stream: Reader) -> float:
        """Seconds to wait for more newcomers; 0 ends the gathering."""
        with self._lock:
            if stream.desks.unlisted():
                return 0.0
            now = self._clock()
            alone = len(self.streams) == 1 and len(stream.desks.of) == 1
            rest = min(stream.last_arrival + COLLECT, stream.began + LONGEST) - now
            if rest > 0 and not alone:
                return rest
            stream.gathering = False
            return 0.0

    def widen(self, stream: Reader, version: str, known: float) -> Wide:
        """What a watch of the stream shall be of: all desks of the namespace that are well, if that can be."""
        with self._lock:
            mine = tuple(stream.desks.of)
            foreign: set[str] = set()
            for other in self.streams if number(version) is not None and self._clock() >= self._aside else ():
                if other is stream or not other.settled:
                    continue
                foreign.update(other.desks.of)
                theirs = other.cursor
                version = theirs if older(theirs, version) else version
                known = min(known, other.known)
            return Wide((*mine, *sorted(foreign)), version, known, frozenset(foreign))

    def newest(self) -> str:
        """The newest version that any service of the namespace has come to, "" where none is known, or is no number.

        A list that is older takes back what is known. The version that a watch begins at says less: it is the oldest.
        """
        with self._lock:
            versions = [desk.newest for desk in self.desks.values() if number(desk.newest) is not None]
        return max(versions, key=int, default="")

    def aside(self) -> None:
        """A wider watch was not accepted."""
        self._aside = self._clock() + ASIDE

    def adopt(self, stream: Reader, wide: Wide) -> Trouble | None:
        """Have the stream read what its watch has taken in, and end those that have nothing more to do."""
        adopted: list[Desk[Reader]] = []
        ended: list[Reader] = []
        with self._lock:
            if stream not in self.streams:
                return None
            for owner in self.streams:
                if owner is stream or not owner.settled or older(owner.cursor, wide.version):
                    continue
                taken = self._take(owner, wide.foreign)
                adopted += taken
                if not owner.desks.of:
                    ended.append(self._end(owner))
            for desk in adopted:
                desk.owner = stream
            stream.desks.of = {**stream.desks.of, **{desk.service: desk for desk in adopted}}
        for owner in ended:
            owner.stop(wait=False)
        for desk in adopted:
            with desk.lock:  # after whatever its owner was just telling it
                if desk.trouble is not None:
                    return desk.trouble
        return None

    def _take(self, owner: Reader, services: set[str] | frozenset[str]) -> list[Desk[Reader]]:
        before = owner.desks.of
        owner.desks.of = {service: desk for service, desk in before.items() if service not in services}
        return [desk for service, desk in before.items() if service in services]

    def _end(self, stream: Reader) -> Reader:
        self.streams = tuple(each for each in self.streams if each is not stream)
        return stream
