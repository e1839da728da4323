"""List, then watch, for ever: what client-go calls a reflector, as a generator that does no I/O.

    LIST ----synced----> WATCH --ended--> WATCH ...          from the last version that was applied
      ^  newcomers: LIST   |
      +----- expired, refused, malformed twice, silent twice, resync, no working watch for two minutes

It yields Steps (`Get`, `READ`, `Sleep`, `PAUSE`) and is sent Answers; what it learns it tells a Sink. Time and chance
are given, so that a test is the server, the clock and the dice. What a failure means, and when it is over, is
`recovery.py`; how long to wait is `waits.py`; of which services all this is, is `scope.py`.

Rules (after those of client-go, tools/cache/reflector.go, where nothing else is said):
- The first list may be served from the watch cache (resourceVersion=0). A later one is never older than what is known.
  "" asks etcd itself: after a version was not available any more, or not yet, and where a failure was told.
- "Known" is here the newest version that any of the services, or of their neighbours, has come to. The cursor is the
  oldest: right for a watch, but a list from there would bring back what the others know to be gone.
- The version advances only after an event was applied, so that no reconnect can lose one.
- A list older than what is known is another API server that is behind, and is not applied. If the next one, which asks
  etcd, says so too, then history itself was restored from a backup, and it is.
"""

import random
from collections.abc import Callable, Generator

from kubelb.clock import Clock
from kubelb.discovery.kube.comeback import HUNG, Comeback
from kubelb.discovery.kube.diagnose import PROXY, Code, Trouble, failed, refused
from kubelb.discovery.kube.events import apply
from kubelb.discovery.kube.lines import Lines, LineTooLongError
from kubelb.discovery.kube.pages import fetch
from kubelb.discovery.kube.query import Query
from kubelb.discovery.kube.recovery import Behind, Recovery
from kubelb.discovery.kube.scope import Scope, Wide
from kubelb.discovery.kube.sink import Sink
from kubelb.discovery.kube.steps import READ, RESYNC, Answer, Failure, Get, Reply, Sleep, Step
from kubelb.discovery.kube.versions import older
from kubelb.discovery.kube.waits import SHORT, Steps, Waits

__all__ = ["Reflector"]

PAGE = 500
WATCH = 300, 600
"""Seconds that a watch may last, drawn each time so that clients do not come back together."""


class Reflector:
    """One stream of slices. `run` may be called again after it was closed or broke: it begins with a list."""

    def __init__(
        self,
        namespace: str,
        scope: Scope,
        sink: Sink,
        *,
        clock: Clock,
        rng: random.Random,
        comeback: Comeback | None = None,
    ) -> None:
        self._namespace = namespace
        self._scope = scope
        self._sink = sink
        self._clock = clock
        self._rng = rng
        comeback = comeback or Comeback(clock)
        self._waits = Waits(clock, rng, comeback)
        self.recovery = Recovery(namespace, scope, sink, self._waits, clock=clock, rng=rng, comeback=comeback)
        self.backoff = self.recovery.backoff
        self.cursor = ""
        """The version from which a watch misses nothing; "" before the first list."""
        self._newest = ""  # the newest one that was read; a list must not be older
        self._doubt = False

    def run(self) -> Steps:
        """The whole life."""
        while True:
            listed = self._clock()
            yield from self._list(self._scope.all)
            yield from self._gather()
            if (yield from self._watch()):
                yield from self._waits.list_turn()
            else:
                yield from self._waits.pace(listed)

    def connected(self, seconds: float) -> Steps:
        """To be run where a request had to connect first, which took so long, before it is sent."""
        if seconds >= HUNG:
            yield from self._waits.turn(self.recovery, self.recovery.troubled)

    def _gather(self) -> Steps:
        """List newcomers, while there are any. The version stays the first list's: a watch from it misses nothing."""
        scope = self._scope
        while True:
            if scope.arrived():
                yield from self._list(scope.unlisted)
            elif (rest := scope.settle()) > 0:
                yield Sleep(rest, through=True, roused=scope.arrived)
            elif not scope.arrived():
                return

    def _list(self, pick: Callable[[], tuple[str, ...]]) -> Steps:
        """Until a complete list was delivered, of what is picked; after a failure that is everything."""
        limit = PAGE
        recovery, sink = self.recovery, self._sink
        recovery.asking()
        while True:
            version = "" if recovery.strict else self._mark() or "0"
            yield from self._waits.turn(recovery, recovery.troubled)
            if recovery.failing is not None:
                pick = self._scope.all
            query = Query(self._namespace, pick())
            if not query.services:
                return  # they have left
            try:
                fresh = recovery.unauthorized
                listed = yield from fetch(query, version, limit, fresh=fresh, sink=sink, clock=self._clock)
            except Trouble as trouble:
                if trouble.code is Code.EXPIRED and trouble.later_page and limit:
                    limit = 0  # the continue token is too old: one full list instead
                elif trouble.code in {Code.EXPIRED, Code.TOO_NEW} and not recovery.strict:
                    recovery.quorum = True
                else:
                    limit = PAGE
                    yield from recovery.wait(trouble, allowed=bool(self.cursor))
                continue
            recovery.quorum = False
            found, mark = listed.version, self._mark()
            if older(found, mark) and not self._doubt:
                self._doubt = recovery.quorum = True
                sink.skipped("a list", f"version {found} is older than {mark}, which was seen before")
                yield from recovery.sleep(recovery.backoff.next())
                continue
            self._doubt, self._newest = False, found
            sink.replace(listed.slices, listed.unread, found)
            if pick != self._scope.unlisted or older(found, self.cursor):
                self.cursor = found
            recovery.listed()
            return

    def _mark(self) -> str:
        """The version that a list must not be older than."""
        others = self._scope.newest()
        return others if older(self._newest, others) or not self._newest else self._newest

    def _watch(self) -> Generator[Step, Answer, bool]:
        """Until another list is needed; returns whether that is for a resync, asked for while all was well."""
        recovery = self.recovery
        while True:
            started = self._clock()
            try:
                resync = yield from self._stream()
            except Behind:
                return False
            except Trouble as trouble:
                if (yield from recovery.after_watch(trouble, self._clock() - started)):
                    return False
                continue
            if resync:
                recovery.quorum = True
                return True
            lasted = self._clock() - started
            if lasted < SHORT and not recovery.events:
                closed = Trouble(Code.SHORT, f"a watch was closed after {lasted:.1f} s with nothing in it", PROXY)
                if (yield from recovery.after_watch(closed, lasted)):
                    return False
                continue
            recovery.ended()
            yield from self._waits.pace(started)

    def _stream(self) -> Generator[Step, Answer, bool]:
        """One watch; returns whether everything is wanted again."""
        recovery = self.recovery
        recovery.asking()
        yield from self._waits.turn(recovery, recovery.troubled)
        wide = self._scope.widen(self.cursor, recovery.known)
        answer = yield self._open(wide)
        if wide.foreign and not _accepted(answer):
            self._scope.aside()
            if isinstance(answer, Reply):  # that much is not allowed, or too old: so little may be
                wide = self._scope.widen(self.cursor, recovery.known)
                answer = yield self._open(wide)
        if isinstance(answer, Failure):
            raise failed(answer)
        assert isinstance(answer, Reply)
        if answer.status != 200:
            raise refused(answer, "watch", self._namespace)
        self._sink.heard()  # of a quiet service nothing else may come for a minute
        if wide.foreign:
            # First, for another stream may widen its own watch as soon as these services are here: it begins where we
            # say, and they have come no further than that.
            self.cursor, recovery.known = wide.version, wide.known
            recovery.adopted(self._scope.adopt(wide))
        recovery.accepted()
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
            recovery.received()
            try:
                whole = lines.feed(answer)
            except LineTooLongError as error:
                raise Trouble(Code.MALFORMED, str(error), PROXY) from None
            for line in whole:
                self._event(line)
                recovery.events += 1

    def _open(self, wide: Wide) -> Get:
        path = Query(self._namespace, wide.services).watch(wide.version, self._rng.randint(*WATCH))
        return Get(path, watch=True, fresh=self.recovery.unauthorized)

    def _event(self, line: bytes) -> None:
        told = apply(line, self._sink, self._namespace)
        if told is None:
            return
        if told.version and not older(told.version, self.cursor):
            self.cursor = told.version
            self._newest = self._newest if older(told.version, self._newest) else told.version
        self.recovery.applied(told.bookmark)


def _accepted(answer: Answer) -> bool:
    return isinstance(answer, Reply) and answer.status == 200
