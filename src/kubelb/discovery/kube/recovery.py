"""Where a stream stands between well and failing, and what each trouble demands: a wait, a word, a list.

- A failure never empties anything. It is told once each time, then there is a wait that grows, and that ends when
  another stream of the process hears from the server again (`comeback.py`).
- It is over when everything is known again, and not before: after a list, or a watch's first word. That a watch is
  accepted (200) is no such word: a server that was restarted accepts it, and says a second later that the version is
  too old (seen on 1.37). So after a server was away there is a list first, which costs less than that detour.
- A list that ends a failure that was told asks etcd itself. DNS may have stood in meanwhile, and knows what no version
  tells of: an API server that stood still for a while has a cache as of then, which is not older than what we know.
- What a server says while it starts is no failure yet: a first 403 where it was allowed before (`delays.py`), a first
  watch that is closed at once, a first and a second 410 are followed by another try within a second, without a word.
- Where lists work and watches do not (a role without "watch", a proxy that cuts streams) what is known does not stand
  still: it is listed now and then, and the failure lasts all the same, until a watch works. client-go lists each time.
"""

import random
from collections.abc import Generator

from kubelb.clock import Clock
from kubelb.discovery.kube.comeback import Comeback
from kubelb.discovery.kube.delays import Delays
from kubelb.discovery.kube.diagnose import Code, Trouble, revoked
from kubelb.discovery.kube.scope import Scope
from kubelb.discovery.kube.sink import Sink
from kubelb.discovery.kube.steps import Answer, Step
from kubelb.discovery.kube.waits import SHORT, Waits

__all__ = ["BLIND", "FRESH", "Behind", "Recovery"]

BLIND = 120.0
"""Seconds without a working watch after which a server that answers is asked for a list."""
FRESH = 10.0
"""Seconds for which a version is so young that a watch from it that is accepted, or says its first word, has brought
everything: no server has forgotten it, and nothing else has come into use meanwhile."""
FREE = 2
"""Times in a row that a version may be too old without being a failure: a restarted server says so to every client."""
ANSWERED = {Code.FORBIDDEN, Code.SERVER, Code.SHORT, Code.BROKEN, Code.UNANSWERED}
"""Failures of a watch that say nothing of a list. One that asks to wait (429) or is away is not asked for more."""

AWAY = {Code.UNREACHABLE, Code.UNANSWERED}
"""Failures that end when the server answers any stream."""
NO_ANSWER = {Code.UNREACHABLE, Code.CREDENTIALS}
"""Failures of a request after which the next one is a list."""
REFUSED = {Code.FORBIDDEN, Code.UNAUTHORIZED, Code.SERVER, Code.UNANSWERED}
"""The same, but where watches have worked: where they never do, a list each time would be a burden."""

Wish = Generator[Step, Answer, bool]


class Behind(Exception):
    """The watch is accepted, and that proves nothing: its version is old. Raised and caught by the reflector."""


class Recovery:
    """That of one stream."""

    def __init__(
        self,
        namespace: str,
        scope: Scope,
        sink: Sink,
        waits: Waits,
        *,
        clock: Clock,
        rng: random.Random,
        comeback: Comeback,
    ) -> None:
        self._namespace = namespace
        self._scope = scope
        self._sink = sink
        self._waits = waits
        self._clock = clock
        self._rng = rng
        self._comeback = comeback
        self._delays = Delays(clock, rng)
        self.backoff = self._delays.backoff
        self.quorum = False
        """Whether etcd itself has to be asked, failure or not."""
        self.unauthorized = False
        """Whether the credentials have to be read again."""
        self.troubled = False
        """Whether something went wrong since the last good answer."""
        self.failing: Code | None = None
        """What was told, and is not over."""
        self.events = 0
        """Of the current watch."""
        self.known = clock()
        """When everything was known last: a list was complete, or a watch worked."""
        self._watched = False  # a watch was accepted, at any time
        self._proven = False  # and since the last list
        self._accepted = False  # the watch was answered 200
        self._broke_later = False  # the failure came after a 200, so that another one mends nothing
        self._expired = 0
        self._malformed = 0
        self._silent = 0
        self._brief = 0  # watches that broke or ended at once, in a row
        self._blind = False  # the list stands in for a watch

    @property
    def strict(self) -> bool:
        """Whether the next list has to ask etcd itself."""
        return self.quorum or self.failing is not None

    # -- what went well

    def asking(self) -> None:
        """A list or a watch begins."""
        self.events = 0
        self._accepted = False

    def listed(self) -> None:
        """A list is complete, and told."""
        self._proven = False
        self.known = self._clock()
        if not self._blind:
            self._good()
        self._blind = False

    def adopted(self, trouble: Trouble | None) -> None:
        """The watch is of more services now; one of them may have been told of trouble."""
        if trouble is not None and self.failing is None:
            self.failing = trouble.code

    def accepted(self) -> None:
        """A watch was answered 200. Raises `Behind`."""
        self._accepted = self._watched = self._proven = True
        self._comeback.heard(self)
        if not self._broke_later:
            self._caught_up()

    def received(self) -> None:
        """It says something."""
        self._silent = 0

    def applied(self, bookmark: bool) -> None:
        """An event was applied. Raises `Behind`."""
        self._expired = self._malformed = self._brief = 0
        if bookmark:
            self._good()  # and all that went before it was here before it
        else:
            self._caught_up()
        self.known = self._clock()

    def ended(self) -> None:
        """A watch is over as it should be."""
        self._expired = self._silent = self._brief = 0
        self.known = self._clock()
        self._good()

    def _caught_up(self) -> None:
        """The watch was accepted, or has a first word; after an outage that does not mean that it has said all."""
        if self.failing is not None and self._clock() - self.known > FRESH:
            raise Behind
        self._good()

    def _good(self) -> None:
        self.unauthorized = self._broke_later = False
        self._delays.well()
        if self.failing is not None:
            self.failing = None
            self._sink.recovered()
        if self.troubled:
            self.troubled = False
            self._comeback.answered(self)

    # -- what went wrong

    def after_watch(self, trouble: Trouble, lasted: float) -> Wish:
        """Wait as this trouble demands; returns whether to list again, else the watch goes on where it was."""
        code = trouble.code
        self.troubled = True
        self._silent = self._silent + 1 if code is Code.SILENT else 0
        if code in {Code.BROKEN, Code.SHORT}:
            self._brief += 1
            if lasted >= SHORT or self.events:
                self._brief = 0
                if self.failing is None:  # else it may have been held back, and said nothing of what there is
                    self.known = self._clock()
            if self._brief <= 1:
                # A server restarts a moment after it was asked. Told, this would last for as long as a quiet service
                # says nothing on its next watch, up to a minute, and DNS would stand in for slices that are read.
                return (yield from self.sleep(max(self._rng.random(), SHORT - lasted)))
        else:
            self._brief = 0
        if code is Code.EXPIRED:
            self._expired = 1 if lasted >= FRESH else self._expired + 1
            if self._expired <= FREE:  # said to all clients at once, so none comes back at once
                yield from self.sleep(self._rng.random())
            else:
                yield from self.wait(trouble, allowed=True)
            return True
        if code is Code.SILENT and self._silent == 1:
            return False  # a quiet service and no bookmarks, or a frozen peer: the next connect will tell
        if code is Code.SILENT:
            # Silence twice may be a version from the future, after a restore: such a watch is accepted and never ends.
            self.quorum = True
            yield from self.wait(trouble, allowed=True)
            return True
        if code is Code.TOO_NEW:
            self.quorum = True
        self._malformed = self._malformed + 1 if code is Code.MALFORMED else 0
        resync = yield from self.wait(trouble, allowed=self._watched)
        if resync or code in {Code.TOO_NEW, Code.REJECTED} or self._malformed > 1:
            return True
        if (
            self.failing is not None
            and not self._accepted
            and (code in NO_ANSWER or (code in REFUSED and self._proven))
        ):
            return True
        self._blind = code in ANSWERED and self._clock() - self.known >= BLIND
        return self._blind

    def wait(self, trouble: Trouble, *, allowed: bool) -> Wish:
        """Tell, and sleep; returns whether a resync ended it: everything is wanted again.

        `allowed` says that this was permitted before, so that a 403 is most often a server's that has not read its
        roles yet.
        """
        self.troubled = True
        services = self._scope.count()
        self._comeback.fails(self, self._waits.epoch, away=trouble.code in AWAY, services=services)
        if trouble.code in {Code.UNAUTHORIZED, Code.CREDENTIALS}:
            self.unauthorized = True
        if trouble.code is Code.FORBIDDEN and allowed:
            trouble.cure = revoked(self._namespace)
        pardon = self._delays.pardon(trouble, allowed=allowed)
        if pardon is not None:
            return (yield from self.sleep(pardon))
        self.failing = trouble.code
        self._broke_later = self._accepted
        self._sink.failed(trouble)
        delay, shared = self._delays.after(trouble, allowed=allowed)
        if trouble.wait and (yield from self.sleep(trouble.wait)):
            return True
        if not shared:
            return (yield from self.sleep(delay - trouble.wait))
        return (yield from self.sleep(self._comeback.again(delay) - trouble.wait, shared=True))

    def sleep(self, seconds: float, *, shared: bool = False) -> Wish:
        """Returns whether everything is wanted again; then etcd itself is asked."""
        resync = yield from self._waits.sleep(seconds, shared=shared)
        self.quorum = self.quorum or resync
        return resync
