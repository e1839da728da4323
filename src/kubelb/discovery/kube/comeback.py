"""What the streams of one process to one API server tell each other, so that they come back soon and not all at once.

    a stream breaks            its next try takes a `turn`: 4 a second, however many streams there are
    its requests fail          they wait as each one's backoff says, but evenly: `again` has n streams that wait for
                               half a minute ask one after the other, one every half minute / n, 3 a second at most.
                               Those that fail first know of few others and stand far apart; the next ones take the
                               gaps between them, so that n are evenly spread whatever the order in which they failed.
                               A stream that reads n services counts as n, so that it does not matter how many of them
                               are in one namespace
    one of them is answered    `answered`: all that wait are roused and come within a second, each in its turn: 3 in
                               the first second with that one, 20 in the next, then 50 and 100, then as many as are left

A stream that only broke and is answered again rouses those that wait for their turn. Where any could not connect at all
it rouses every stream, except those that were refused by a server that answers (403, 500): these would be asked each
time that a proxy cuts the stream of another.

So together they ask no more often than each for itself would, the first that is answered has all others catch up at
once, and thirty streams find a server that was away for long within two seconds.

A server may answer one and fall silent, or be away again. So a turn that is sooner than four a second holds only for
as long as the server answers: not when a request has failed since, nor while `WINDOW` streams that had their turn
still wait for an answer. A stream that has lost its turn takes another one, of four a second.

A connection that hangs is no request yet. When it comes to be after all, as all do at once where a server stood still,
its stream takes another turn before it asks.

A stream notes the epoch before it asks. One whose request failed after the server was heard by another finds another
epoch than it noted, and does not sleep at all; nor can one that is about to fall asleep miss the call.
"""

import threading
from bisect import insort
from collections.abc import Callable

from kubelb.clock import Clock
from kubelb.records import record

__all__ = ["AWAY", "HUNG", "JITTER", "PROBE", "RAMP", "WINDOW", "Comeback"]

AWAY = 0.25
"""Seconds between two turns of streams that broke."""
PROBE = 0.3
"""Seconds between two requests after failed ones, at least."""
RAMP = (0.5, 0.05, 0.02, 0.01)
"""Seconds between two turns in each second after the server answered again."""
WINDOW = 5
"""Streams that may wait for an answer while others still have their turn soon."""
HUNG = AWAY
"""Seconds after which a connection has taken so long that the turn in which it was begun is over."""
JITTER = 1.0
"""Seconds within which those that were roused come."""


@record(frozen=True, slots=True)
class _Failing:
    """A stream whose requests fail."""

    away: bool
    """Whether it cannot even connect."""
    services: int
    """How many it reads."""


class Comeback:
    """One for each API server. All methods may be called from any thread."""

    def __init__(self, clock: Clock) -> None:
        self.epoch = 0
        """How often the server has come back."""
        self.ramp = 0
        """How often it was found to answer."""
        self._clock = clock
        self._lock = threading.Lock()
        self._sleepers: set[Callable[[], None]] = set()
        self._failing: dict[object, _Failing] = {}
        self._opened: float | None = None
        self._back = False
        """Whether all were roused since then."""
        self._turn = float("-inf")
        self._soon: set[object] = set()
        """The streams whose turn holds only while the server answers."""
        self._asking: set[object] = set()
        """Those that had their turn, and no answer yet."""
        self._probes: list[float] = []
        """When the streams whose requests failed will ask again, in order."""

    def join(self, rouse: Callable[[], None]) -> None:
        """Have `rouse` called when the epoch changes; it must return at once."""
        with self._lock:
            self._sleepers.add(rouse)

    def leave(self, rouse: Callable[[], None], stream: object) -> None:
        """Take that back; the stream has ended."""
        with self._lock:
            self._sleepers.discard(rouse)
            self._failing.pop(stream, None)
            self._ended(stream)

    def turn(self, stream: object, troubled: bool) -> float:
        """Reserve a turn; returns the seconds until it is there. Only `troubled` streams wait while all is well."""
        with self._lock:
            now = self._clock()
            self._ended(stream)
            if not troubled and self._gap(now) is None and not self._away():
                return 0.0
            slot = max(now, self._turn)
            gap = self._gap(slot)  # that of its own second: what is reserved now for later waits no longer than due
            if gap is None:
                gap = AWAY
            elif len(self._asking) >= WINDOW:
                gap = max(gap, AWAY)
            self._turn = slot + gap
            if gap < AWAY:
                self._soon.add(stream)
            return slot - now

    def goes(self, stream: object, troubled: bool) -> bool:
        """Whether the turn, which is there, still holds; then the stream asks."""
        with self._lock:
            soon = stream in self._soon
            self._soon.discard(stream)
            if soon and (self._opened is None or len(self._asking) >= WINDOW):
                return False
            if troubled:
                self._asking.add(stream)
            return True

    def heard(self, stream: object) -> None:
        """The stream was answered something, whatever it means."""
        with self._lock:
            self._ended(stream)

    def fails(self, stream: object, epoch: int, *, away: bool, services: int = 1) -> None:
        """A request of the stream, made in `epoch`, failed; it could not even connect where the server is `away`."""
        with self._lock:
            self._failing[stream] = _Failing(away, services)
            self._ended(stream)
            if epoch == self.epoch:
                self._opened = None

    def again(self, delay: float) -> float:
        """Return the seconds after which to ask again, where the stream alone would wait for `delay`."""
        with self._lock:
            now = self._clock()
            gap = max(PROBE, delay / max(1, sum(each.services for each in self._failing.values())))
            slot = now + min(gap, delay)
            self._probes = [at for at in self._probes if at > now]
            if gap < delay:
                for at in self._probes:
                    if at - slot >= gap:
                        break
                    slot = max(slot, at + gap)
            insort(self._probes, slot)
            return slot - now

    def answered(self, stream: object) -> None:
        """A stream that broke, or whose requests failed, was answered."""
        with self._lock:
            now = self._clock()
            back = self._away() or stream in self._failing
            self._failing.pop(stream, None)
            self._ended(stream)
            if self._gap(now) is None:
                self._opened = self._turn = now
                self.ramp += 1
            elif not back or self._back:
                return
            self._back = back
            if back:
                self._probes.clear()
                self.epoch += 1
            sleepers = tuple(self._sleepers)
        for rouse in sleepers:
            rouse()

    def _away(self) -> bool:
        return any(each.away for each in self._failing.values())

    def _ended(self, stream: object) -> None:
        self._soon.discard(stream)
        self._asking.discard(stream)

    def _gap(self, now: float) -> float | None:
        """Seconds between two turns while the streams come back, None at other times."""
        second = len(RAMP) if self._opened is None else int(now - self._opened)
        return RAMP[second] if second < len(RAMP) else None
