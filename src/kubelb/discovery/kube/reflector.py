"""List, then watch, for ever: what client-go calls a reflector, as a generator that does no I/O.

    LIST ----synced----> WATCH --ended--> WATCH ...          from the last version that was applied
      ^                    |
      +----- expired, refused, malformed twice, silent twice, resync, no working watch for two minutes

It yields Steps (`Get`, `READ`, `Sleep`, `PAUSE`) and is sent Answers; what it learns it tells a Sink. Time and chance
are given, so that a test is the server, the clock and the dice.

Rules (the numbers in brackets are those of client-go, tools/cache/reflector.go, where nothing else is said):
- The first list may be served from the watch cache (resourceVersion=0). A later one is never older than what is known.
  "" asks etcd itself, after a version was not available any more, or not yet.
- A failure never empties anything. It is told once each time, then there is a wait that grows, and that ends when
  another stream of the process hears from the server again (`comeback.py`).
- It is over when everything is known again, and not before: after a list, or a watch's first word. That a watch is
  accepted (200) is no such word: a server that was restarted accepts it, and says a second later that the version is
  too old (seen on 1.37). So after a server was away there is a list first, which costs less than that detour.
- What a server says while it starts is no failure yet: a first 403 where it was allowed before, a first watch that is
  closed at once, a first and a second 410 are followed by another try within a second, without a word.
- The version advances only after an event was applied, so that no reconnect can lose one.
- A list older than what is known is another API server that is behind, and is not applied. If the next one, which asks
  etcd, says so too, then history itself was restored from a backup, and it is.
- Where lists work and watches do not (a role without "watch", a proxy that cuts streams) what is known does not stand
  still: it is listed now and then, and the failure lasts all the same, until a watch works. client-go lists each time.
"""

import random
from collections.abc import Callable, Generator

import msgspec

from kubelb.clock import Clock
from kubelb.discovery.backoff import Backoff
from kubelb.discovery.kube.comeback import JITTER, Comeback
from kubelb.discovery.kube.diagnose import PROXY, Code, Trouble, failed, refused, revoked, said
from kubelb.discovery.kube.lines import Lines, LineTooLongError
from kubelb.discovery.kube.pages import fetch
from kubelb.discovery.kube.query import Query
from kubelb.discovery.kube.sink import Sink
from kubelb.discovery.kube.steps import READ, RESYNC, ROUSED, Answer, Failure, Get, Reply, Sleep, Step
from kubelb.discovery.kube.versions import older
from kubelb.discovery.kube.wire import decode_event, decode_slice
from kubelb.printable import shown

__all__ = ["Reflector"]

PAGE = 500
SHORT = 1.0
"""Seconds. A watch that ends sooner and brought nothing is a failure, or a broken proxy is asked 2500 times a second;
one that brought something is resumed no sooner."""
WATCH = 300, 600
"""Seconds that a watch may last, drawn each time so that clients do not come back together."""

BURST = 5
"""Lists that are made at once when asked for, by load balancers of one service that are opened one after the other;
then it is one a second, and so it is for code that calls resync_now in a loop."""
BLIND = 120.0
"""Seconds without a working watch after which a server that answers is asked for a list."""
FRESH = 10.0
"""Seconds for which a version is so young that a watch from it that is accepted, or says its first word, has brought
everything: no server has forgotten it, and nothing else has come into use meanwhile."""
FREE = 2
"""Times in a row that a version may be too old without being a failure: a restarted server says so to everybody."""
ANSWERED = {Code.FORBIDDEN, Code.SERVER, Code.SHORT, Code.BROKEN, Code.UNANSWERED}
"""Failures of a watch that say nothing of a list. One that asks to wait (429) or is away is not asked for more."""

AWAY = {Code.UNREACHABLE, Code.UNANSWERED}
"""Failures that end when the server answers anybody."""
NO_ANSWER = {Code.UNREACHABLE, Code.CREDENTIALS}
"""Failures of a request after which the next one is a list."""
REFUSED = {Code.FORBIDDEN, Code.UNAUTHORIZED, Code.SERVER, Code.UNANSWERED}
"""The same, but where watches have worked: where they never do, a list each time would be a burden."""
LASTING = {Code.THROTTLED, Code.REJECTED, Code.EXTRA, Code.MALFORMED}
"""Failures that do not end because another stream was answered."""

Steps = Generator[Step, Answer, None]


class _Behind(Exception):
    """The watch is accepted, and that proves nothing: its version is old. Raised and caught here."""


class Reflector:
    """One stream of slices. `run` may be called again after it was closed or broke: it begins with a list."""

    def __init__(
        self, query: Query, sink: Sink, *, clock: Clock, rng: random.Random, comeback: Comeback | None = None
    ) -> None:
        self._query = query
        self._sink = sink
        self._clock = clock
        self._rng = rng
        self._comeback = comeback or Comeback(clock)
        self._epoch = 0  # of the comeback, when the last request was made
        self.backoff = Backoff(clock, rng)
        self.cursor = ""
        """The last version applied; "" before the first list."""
        self._quorum = False
        self._doubt = False
        self._unauthorized = False
        self._retried = self._pardoned = False
        self._forbidden: list[float] = []
        self._troubled = False  # something went wrong since the last good answer
        self._turned = False  # the sleep that is over was for the next request's turn
        self._watched = False  # a watch was accepted, at any time
        self._proven = False  # and since the last list
        self._failing: Code | None = None
        self._accepted = False  # the watch was answered 200
        self._broke_later = False  # the failure came after a 200, so that another one mends nothing
        self._events = 0  # of the current watch
        self._expired = 0
        self._malformed = 0
        self._silent = 0
        self._brief = 0  # watches that broke or ended at once, in a row
        self._known = clock()
        """When everything was known last: a list was complete, or a watch worked."""
        self._blind = False  # the list stands in for a watch
        self._next_turn = float("-inf")

    def run(self) -> Steps:
        """The whole life."""
        while True:
            listed = self._clock()
            yield from self._list()
            if (yield from self._watch()):
                yield from self._turn()
            else:
                yield from self._pace(listed)

    # -- list

    def _list(self) -> Steps:
        """Until a complete list was delivered."""
        limit = PAGE
        self._accepted = False
        while True:
            version = "" if self._quorum else self.cursor or "0"
            yield from self._take_turn()
            try:
                fresh = self._unauthorized
                listed = yield from fetch(self._query, version, limit, fresh=fresh, sink=self._sink, clock=self._clock)
            except Trouble as trouble:
                if trouble.code is Code.EXPIRED and trouble.later_page and limit:
                    limit = 0  # the continue token is too old: one full list instead
                elif trouble.code in {Code.EXPIRED, Code.TOO_NEW} and not self._quorum:
                    self._quorum = True
                else:
                    limit = PAGE
                    yield from self._wait(trouble, allowed=bool(self.cursor))
                continue
            self._quorum = False
            found = listed.version
            if older(found, self.cursor) and not self._doubt:
                self._doubt = self._quorum = True
                self._sink.skipped("a list", f"version {found} is older than {self.cursor}, which was seen before")
                yield from self._sleep(self.backoff.next())
                continue
            self._doubt = self._proven = False
            self._sink.replace(listed.slices, listed.unread)
            self.cursor = found
            self._known = self._clock()
            if not self._blind:
                self._good()
            self._blind = False
            return

    # -- watch

    def _watch(self) -> Generator[Step, Answer, bool]:
        """Until another list is needed; returns whether because somebody asked for it while all was well."""
        while True:
            started = self._clock()
            try:
                resync = yield from self._stream()
            except _Behind:
                return False
            except Trouble as trouble:
                if (yield from self._relist_after(trouble, self._clock() - started)):
                    return False
                continue
            if resync:
                self._quorum = True
                return True
            lasted = self._clock() - started
            if lasted < SHORT and not self._events:
                closed = Trouble(Code.SHORT, f"a watch was closed after {lasted:.1f} s with nothing in it", PROXY)
                if (yield from self._relist_after(closed, lasted)):
                    return False
                continue
            self._expired = self._silent = self._brief = 0
            self._known = self._clock()
            self._good()
            yield from self._pace(started)

    def _relist_after(self, trouble: Trouble, lasted: float) -> Generator[Step, Answer, bool]:
        """Wait as this trouble demands; returns whether to list again, else the watch goes on where it was."""
        code = trouble.code
        self._troubled = True
        self._silent = self._silent + 1 if code is Code.SILENT else 0
        if code in {Code.BROKEN, Code.SHORT}:
            self._brief += 1
            if lasted >= SHORT or self._events:
                self._brief = 0
                if self._failing is None:  # else it may have been held back, and said nothing of what there is
                    self._known = self._clock()
            if self._brief <= 1:
                # A server restarts a moment after it was asked. Told, this would last for as long as a quiet service
                # says nothing on its next watch, up to a minute, and DNS would stand in for slices that are read.
                return (yield from self._sleep(max(self._rng.random(), SHORT - lasted)))
        else:
            self._brief = 0
        if code is Code.EXPIRED:
            self._expired = 1 if lasted >= FRESH else self._expired + 1
            if self._expired <= FREE:  # said to everybody at once, so nobody comes at once
                yield from self._sleep(self._rng.random())
            else:
                yield from self._wait(trouble, allowed=True)
            return True
        if code is Code.SILENT and self._silent == 1:
            return False  # a quiet service and no bookmarks, or a frozen peer: the next connect will tell
        if code is Code.SILENT:
            # Silence twice may be a version from the future, after a restore: such a watch is accepted and never ends.
            self._quorum = True
            yield from self._wait(trouble, allowed=True)
            return True
        if code is Code.TOO_NEW:
            self._quorum = True
        self._malformed = self._malformed + 1 if code is Code.MALFORMED else 0
        resync = yield from self._wait(trouble, allowed=self._watched)
        if resync or code in {Code.TOO_NEW, Code.REJECTED} or self._malformed > 1:
            return True
        if (
            self._failing is not None
            and not self._accepted
            and (code in NO_ANSWER or (code in REFUSED and self._proven))
        ):
            return True
        self._blind = code in ANSWERED and self._clock() - self._known >= BLIND
        return self._blind

    def _stream(self) -> Generator[Step, Answer, bool]:
        """One watch; returns whether somebody wants everything again."""
        self._events = 0
        self._accepted = False
        yield from self._take_turn()
        path = self._query.watch(self.cursor, self._rng.randint(*WATCH))
        answer = yield Get(path, watch=True, fresh=self._unauthorized)
        if isinstance(answer, Failure):
            raise failed(answer)
        assert isinstance(answer, Reply)
        if answer.status != 200:
            raise refused(answer, "watch", self._query.namespace)
        self._sink.heard()  # of a quiet service nothing else may come for a minute
        self._accepted = self._watched = self._proven = True
        if not self._broke_later:
            self._caught_up()
        lines = Lines()
        while True:
            answer = yield READ
            if answer is RESYNC:
                return True
            if isinstance(answer, Failure):
                raise failed(answer)
            assert isinstance(answer, bytes)
            if not answer:
                return False
            self._sink.heard()
            self._silent = 0
            try:
                whole = lines.feed(answer)
            except LineTooLongError as error:
                raise Trouble(Code.MALFORMED, str(error), PROXY) from None
            for line in whole:
                self._event(line)
                self._events += 1

    def _event(self, line: bytes) -> None:
        try:
            event = decode_event(line)
            if event.type == "ERROR":
                raise said(bytes(event.object), "watch", self._query.namespace)
            piece = decode_slice(event.object)
        except (msgspec.ValidationError, UnicodeDecodeError) as error:
            self._sink.skipped("a watch event", str(error))
            return
        except msgspec.DecodeError as error:
            raise Trouble(Code.MALFORMED, f"a watch event that is no JSON: {error}", PROXY) from None
        version = piece.metadata.resource_version
        if event.type not in {"ADDED", "MODIFIED", "DELETED", "BOOKMARK"}:
            self._sink.skipped("a watch event", f"its type is {shown(event.type)}")
            return
        if piece.kind != "EndpointSlice":
            self._sink.skipped("a watch event", f"its object is of kind {shown(piece.kind)}")
            return
        if event.type == "DELETED":
            self._sink.delete(piece)
        elif event.type != "BOOKMARK":
            self._sink.upsert(piece)
        if version and not older(version, self.cursor):
            self.cursor = version
        self._expired = self._malformed = self._brief = 0
        if event.type == "BOOKMARK":
            self._good()  # and all that went before it was here before it
        else:
            self._caught_up()
        self._known = self._clock()

    # -- failure and recovery

    def _caught_up(self) -> None:
        """The watch was accepted, or has a first word; after an outage that does not mean that it has said all."""
        if self._failing is not None and self._clock() - self._known > FRESH:
            raise _Behind
        self._good()

    def _good(self) -> None:
        self._unauthorized = self._retried = self._pardoned = self._broke_later = False
        self._forbidden.clear()
        if self._failing is not None:
            self._failing = None
            self._sink.recovered()
        if self._troubled:
            self._troubled = False
            self._comeback.answered(self)

    def _wait(self, trouble: Trouble, *, allowed: bool) -> Generator[Step, Answer, bool]:
        """Tell, and sleep; returns whether somebody ended it to have everything again.

        `allowed` says that this was permitted before, so that a 403 is most often a server's that has not read its
        roles yet.
        """
        self._troubled = True
        self._comeback.fails(self, self._epoch, away=trouble.code in AWAY)
        if trouble.code in {Code.UNAUTHORIZED, Code.CREDENTIALS}:
            self._unauthorized = True
        if trouble.code is Code.UNAUTHORIZED and not self._retried:
            self._retried = True  # most often the token was replaced a moment ago, which is nothing to tell
            return False
        if trouble.code is Code.FORBIDDEN and allowed:
            trouble.cure = revoked(self._query.namespace)
            if not self._pardoned:
                self._pardoned = True
                return (yield from self._sleep(max(self._rng.random(), trouble.wait)))
        self._failing = trouble.code
        self._broke_later = self._accepted
        self._sink.failed(trouble)
        delay = self.backoff.next()
        shared = trouble.code not in LASTING
        if trouble.code is Code.FORBIDDEN and not allowed:
            shared = False
            self._forbidden.append(self._clock())
            if len(self._forbidden) >= 3 and self._forbidden[-1] - self._forbidden[0] >= 5.0:
                delay = self.backoff.cap()
                del self._forbidden[1:-2]
        else:
            self._forbidden.clear()
        if trouble.wait and (yield from self._sleep(trouble.wait)):
            return True
        if not shared:
            return (yield from self._sleep(delay - trouble.wait))
        return (yield from self._sleep(self._comeback.again(delay) - trouble.wait, shared=True))

    def _sleep(self, seconds: float, *, shared: bool = False) -> Generator[Step, Answer, bool]:
        """Returns whether somebody wants everything again. A `shared` wait is ended by a comeback, too."""
        if seconds <= 0:
            return False
        noted, comeback = self._epoch, self._comeback
        answer = yield Sleep(seconds, roused=(lambda: comeback.epoch != noted) if shared else None)
        self._turned = shared
        if answer is ROUSED:
            self._turned = False
            answer = yield Sleep(self._rng.random() * JITTER)
        if answer is RESYNC:
            self._quorum = True
            yield from self._turn()
        return answer is RESYNC

    def _take_turn(self) -> Steps:
        """Wait until this process may ask again: while a server is away its streams ask one after the other."""
        turned, self._turned, comeback = self._turned, False, self._comeback
        while not turned:
            noted = comeback.ramp
            delay = comeback.turn(self._troubled)
            turned = delay <= 0 or (yield Sleep(delay, through=True, roused=_since(comeback, noted))) is not ROUSED
            if not turned:
                yield Sleep(self._rng.random() * JITTER, through=True)
        self._epoch = comeback.epoch

    def _turn(self) -> Steps:
        """Wait until a list that somebody asked for may be made."""
        now = self._clock()
        self._next_turn = max(self._next_turn, now - (BURST - 1) * SHORT)
        if self._next_turn > now:
            yield Sleep(self._next_turn - now, through=True)
        self._next_turn += SHORT

    def _pace(self, since: float) -> Steps:
        """Let a second pass since then."""
        rest = since + SHORT - self._clock()
        if rest > 0:
            yield Sleep(rest, through=True)


def _since(comeback: Comeback, ramp: int) -> Callable[[], bool]:
    return lambda: comeback.ramp != ramp
