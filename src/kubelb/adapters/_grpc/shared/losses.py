"""Which calls a lost connection has ended: the `Incident` that they share.

A status does not tell: a server can write into it whatever grpcio writes when a connection is lost. What a server
cannot write is the state of the sub-channel. A call whose sub-channel was seen without a connection after the call
began has lost its own, and all calls that began before the same loss share it:

    no connection    seen by a pick, by a failing call, by the look at open streams: a loss, as of now
    a call failed    the first loss since it began is its own; where there is none, see below

grpcio tells the calls before it tells of the state, in three cuts of four, so the first call to fail may see a
connection that is still READY. Its failure opens a loss on trust: it is shared by the calls that fail within half a
second and began before it, or, where calls run side by side, so soon after it that their connection was READY only
because the state is told last. It is shared for good if the connection is then seen lost. Where it is not, there is no
more trust for ten seconds: a server that ends all its calls by statuses has hidden what failed in one half second of
ten.

A loss is planned where the server has announced it (GOAWAY without an error). The status says so, or does not (before
1.85): then it is known by calls that outlive the loss, for core leaves them on a connection that was announced to end.
Either can be brought about by a server, so the balancer believes it within bounds (`kubelb.core.tracking`).

`start` and `now` are in the balancer's time. Calls come from any thread; what is kept is a tuple, replaced as a whole.
"""

from typing import NamedTuple

from kubelb.core.state import NEVER
from kubelb.model import Incident

__all__ = ["Losses"]

KEPT = 8
"""Losses remembered: a call that began before older ones shares the oldest of these."""
SHARED = 0.5
"""Seconds that a loss which was not seen is shared for."""
LAG = 0.02
"""Seconds by which the state is told later than the calls, on a busy machine."""
TRUST = 10.0
"""Seconds until another such loss is believed in."""
OUTLIVED = 0.25
"""Seconds that a call goes on after its connection was left: then that was announced."""
ANNOUNCED = ("GOAWAY received; Error code: 0;", "max connection age")
"""Core's words for a connection that was announced to end; the second are a server's own of gRPC's, in its status."""


class Loss(NamedTuple):
    """Of one connection."""

    when: float
    incident: Incident
    seen: bool


class Losses:
    """Of one sub-channel."""

    __slots__ = ("_known", "_picks", "_trusted")

    def __init__(self) -> None:
        self._known: tuple[Loss, ...] = ()
        """Oldest first."""
        self._picks = -1
        """Of its endpoint, when a pick last saw it lost: until they are more, it is the same loss."""
        self._trusted = NEVER
        """When a loss was last taken on trust that was not seen afterwards."""

    def passed_over(self, picks: int, now: float) -> None:
        """A pick, or the look at open streams, found no connection; its endpoint was picked so often until now."""
        if picks != self._picks:
            self._picks = picks
            self._see(now)

    def failed(self, start: float, now: float) -> None:
        """A call that began at `start` has failed, and there is no connection now."""
        known = self._known
        if not known or not known[-1].seen or known[-1].when < start:
            self._see(now)

    def _see(self, now: float) -> None:
        known = self._known
        if known and not known[-1].seen and now - known[-1].when < SHARED:  # so the trust was justified
            known, incident = known[:-1], known[-1].incident
            self._trusted = NEVER
        else:
            incident = Incident()
        self._known = (*known[1 - KEPT :], Loss(now, incident, seen=True))

    def of(self, start: float, now: float, details: str, *, trust: bool, among: bool = False) -> Incident | None:
        """Return what a call that began at `start` and failed now has shared; None where it failed alone.

        `trust`: whether its status is one of those that grpcio makes of a lost connection. `among`: whether others are
        in flight with it.
        """
        for loss in self._known:
            lag = LAG if trust and among and not loss.seen else 0.0
            if loss.when + lag >= start and (loss.seen or now - loss.when < SHARED):
                if _announced(details) or (loss.seen and now - loss.when > OUTLIVED):
                    loss.incident.planned = True
                return loss.incident
        if not trust or now - self._trusted < TRUST:
            return None
        self._trusted = now
        incident = Incident(planned=_announced(details))
        self._known = (*self._known[1 - KEPT :], Loss(now, incident, seen=False))
        return incident


def _announced(details: str) -> bool:
    return any(words in details for words in ANNOUNCED)
