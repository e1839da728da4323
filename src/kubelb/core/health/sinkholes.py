"""Sinkholes: an endpoint that refuses at once looks like the emptiest and the quickest of all, and draws the traffic.

A pod with a broken configuration answers 404 or 401 to everything, in a millisecond, where its peers work for fifty. A
4xx is an answer and no failure, so nothing ejects it; and whatever goes by requests in flight or by latency prefers it
to those that do the work: of two pods, `least_request` gave it nine requests of ten. Google met this as "sinkholing"
(Site Reliability Engineering, 2016, chapter 20) and counts recent errors as if they were requests in flight. How long a
request would have been in flight, had it been answered well, is not known here, so the share itself is bounded:

    An endpoint that refuses what its peers answer gets no more than its fair share, 1/n of the picks.

Not less either: a 4xx may be the right answer, and peers that do the work of n - 1 pods are not to do that of n. What
is counted is each end that is no success: a 4xx but 408, 501, a status such as NOT_FOUND, a failure, a 429. So a pod
that fails at once and is not ejected (the cap, an observer) is no sinkhole either.

Whether it refuses what others answer is a comparison over one and the same time, since its first refusal:

    chance(its refusals | p) <= SURE      p: the least share of refusals of its peers, or what that may be at the most
    1 - its share <= 0.8 * (1 - p)

with the Chernoff bound, and for `p` the upper end of the 95 % Wilson interval of the best of up to eight peers. So one
peer that answers is enough; where all refuse alike, the caller's own mistake, or all refuse a third of what they
get, there is no such peer; and what is new to all at the same moment is new to the peers, too. Beside peers that have
answered sixty requests meanwhile five refusals in a row suffice, beside ten answers fifteen.

By latency the peers of a sinkhole may get nothing at all, and then there is nothing to compare with. So where it has
had fifty ends and half of its peers not ten each, though their answers do not take that long, the last ten of these
count, whenever they were. If that is wrong, as all have come to refuse since, they get requests now, and refuse them,
and are remembered for that.

Once a second the comparison is made anew, over what happened since, and where it may be chance the bound is lifted. An
endpoint that is well again has its fair share all the time, so that is no hurry.

A success costs nothing: its count is there already. While none is bounded, no pick asks; see `fair_share`.
"""

import math
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from kubelb.core.events import Event, ShareBounded
from kubelb.core.health.shares import wilson
from kubelb.core.health.silence import chance, some_peers
from kubelb.core.state import EndpointState

__all__ = ["Contrast", "Sinkhole", "Sinkholes"]

SURE = 1e-6
"""Chance of so many refusals, were the endpoint like its best peer, from which on it is bounded."""
LIKELY = 0.01
"""The same, above which it is bounded no longer: what is lifted too early is found again."""
FEWEST, SELDOM, OFTEN = 5, 50, 100
"""Refusals between two looks at the peers, with fewer it never is one; and between two after so many that said nothing:
where all refuse a large share for good, a refusal is to cost little."""
MATTERS = 0.8
"""Part of its best peer's share of good ends that an endpoint has at the most, or it is let alone: what ends at once is
in flight for no time, so the draw of a fifth less is a quarter more than its fair share."""
WINDOW = 200
"""Ends after which, and a second, a comparison that has found nothing begins anew."""
ENOUGH = 10
"""Ends since the last look without which a bound is not lifted."""
STARVED = 50
"""Ends of an endpoint after which a peer that has not had `ENOUGH` meanwhile is taken for what it was before."""
FADE = 0.9
"""What is left of an end's weight after one more: about the last ten count, so one that has changed is soon known."""
UNDER_WAY = 50
"""Requests in flight on a peer when a comparison begins, at the most, whose good ends say nothing: they came before
whatever began then, and a refusal overtakes them."""
PACE = 1.0
"""Seconds between two looks at those that are bounded."""
BURST = 10.0
"""Picks that an endpoint may have saved up: what is chosen by chance does not come in equal steps."""


class Contrast(NamedTuple):
    """Where an endpoint and some of its peers stood when a comparison began: ends that were good, and that were not.

    Of a peer, what was under way then is counted as ended well.
    """

    since: float
    good: int
    bad: int
    peers: tuple[tuple[EndpointState, int, int], ...]


class Sinkhole:
    """What an endpoint that is bounded may still be given. Threads may lose a little of it, and gain nothing."""

    __slots__ = ("_by", "_credit", "contrast", "state", "why")

    def __init__(self, state: EndpointState, picks: int, why: str, contrast: Contrast) -> None:
        self.state = state
        self.why = why
        """The numbers behind it, in words."""
        self.contrast = contrast
        """Since the last look. Not the endpoint's own: that is written without a lock."""
        self._by = picks
        self._credit = 0.0

    def grants(self, picks: int, count: int) -> bool:
        """Whether the pick with this number, of all picks among `count` endpoints, may go there; takes it if so."""
        credit = min(self._credit + (picks - self._by) / count, BURST)
        self._by = picks
        granted = credit >= 1.0
        self._credit = credit - granted
        return granted


class Sinkholes:
    """Those of one balancer. `refuses` needs no lock; all else is called with the balancer's lock held."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.picks = 0
        """While any is bounded, of all endpoints; approximate under threads."""
        self.bounded: dict[EndpointState, Sinkhole] = {}
        self.peers: Callable[[], Sequence[EndpointState]] = tuple
        """Returns those that get ordinary traffic."""
        self._next = math.inf

    def refuses(self, state: EndpointState, now: float) -> bool:
        """Hear that a request ended there and not well; whether that is too much beside what its peers do."""
        remember(state)
        if state in self.bounded or not state.in_use:
            return False
        contrast = state.contrast
        if contrast is None:
            state.contrast = contrast_with(state, self.peers(), now, before=1)
            return False
        bad = state.bad - contrast.bad
        if bad % (FEWEST if bad <= OFTEN else SELDOM):
            return False
        calls = bad + state.good - contrast.good
        if apart(bad, calls, best(contrast, calls, now), SURE):
            return True
        if (calls >= WINDOW and now - contrast.since >= PACE) or not any(peer.in_use for peer, _, _ in contrast.peers):
            state.contrast = None
        return False

    def begin(self, state: EndpointState, now: float) -> list[Event]:
        """Bound an endpoint; returns nothing where it is already."""
        contrast = state.contrast
        if state in self.bounded or not state.in_use or contrast is None:
            return []
        why = _words(state, contrast, now)
        sinkhole = Sinkhole(state, self.picks, why, contrast_with(state, self.peers(), now))
        self.bounded = {**self.bounded, state: sinkhole}
        self._next = min(self._next, now + PACE)
        return [ShareBounded(self.service, state.endpoint.authority, True, why, state.endpoint.pod)]

    def advance(self, now: float) -> list[Event]:
        """Let time pass: lift the bound of those that are like their peers again."""
        if now < self._next:
            return []
        self.settle()
        self._next = now + PACE
        events: list[Event] = []
        kept: list[EndpointState] = []
        for state, sinkhole in self.bounded.items():
            contrast = sinkhole.contrast
            if self._still(sinkhole, contrast, now):
                kept.append(state)
            else:
                why = _words(state, contrast, now)
                events.append(ShareBounded(self.service, state.endpoint.authority, False, why, state.endpoint.pod))
        self._keep(kept)
        return events

    def settle(self) -> None:
        """Forget what has left the set, and what is in use anew."""
        self._keep([state for state in self.bounded if state.in_use and state.contrast is not None])

    def among(self, states: Collection[EndpointState]) -> tuple[Sinkhole, ...]:
        """Return those of `states` that are bounded; none where no other is left to take what they may not."""
        if not self.bounded:
            return ()
        some = frozenset(states)
        found = tuple(each for each in self.bounded.values() if each.state in some)
        return found if len(found) < len(some) else ()

    def wake(self) -> float:
        """Return the time at which `advance` may have something to do."""
        return self._next

    def _still(self, sinkhole: Sinkhole, contrast: Contrast, now: float) -> bool:
        state = sinkhole.state
        bad, good = state.bad - contrast.bad, state.good - contrast.good
        if bad + good < ENOUGH:  # it says little itself; that no peer answers any more says enough
            ends = [(peer.good - well, peer.bad - ill) for peer, well, ill in contrast.peers if peer.in_use]
            return any(well > 0 for well, _ in ends) or all(ill < ENOUGH for _, ill in ends)
        sinkhole.contrast = contrast_with(state, self.peers(), now)
        return apart(bad, bad + good, best(contrast, bad + good, now), LIKELY)

    def _keep(self, states: Collection[EndpointState]) -> None:
        if len(states) < len(self.bounded):
            for state in self.bounded.keys() - states:
                state.contrast = None
            self.bounded = {state: self.bounded[state] for state in states}
        if not self.bounded:
            self._next = math.inf


def _words(state: EndpointState, contrast: Contrast, now: float) -> str:
    bad, good = state.bad - contrast.bad, state.good - contrast.good
    share = best(contrast, bad + good, now)
    return f"{bad} of {bad + good} requests were refused or failed, and at most {share:.1%} of those to its best peer"


def contrast_with(state: EndpointState, peers: Sequence[EndpointState], now: float, before: int = 0) -> Contrast:
    """Return where it and some of its peers stand now; `before`: without as many of its own last refusals."""
    some = some_peers(state, peers, state.bad)
    peers_now = tuple((peer, peer.good + min(len(peer.leases), UNDER_WAY), peer.bad) for peer in some)
    return Contrast(now, state.good, state.bad - before, peers_now)


def apart(bad: int, calls: int, share: float, odds: float) -> bool:
    """Whether so many refusals are a matter, beside a peer of which this share is, and no chance."""
    return bad > 0 and 1 - bad / calls <= MATTERS * (1 - share) and chance(bad, calls, share) <= odds


def best(contrast: Contrast, calls: int, now: float) -> float:
    """Return the share of refusals that the best of the peers has, at the most; 1.0 where none answered.

    `calls` are the endpoint's own ends since the comparison began.
    """
    waited = now - contrast.since
    ends = [
        (peer, max(0, peer.good - good), max(0, peer.bad - bad)) for peer, good, bad in contrast.peers if peer.in_use
    ]
    starved = {
        peer
        for peer, well, ill in ends
        if calls >= STARVED and well + ill < ENOUGH and waited >= min(2 * peer.cost, PACE)
    }
    least = 1.0
    for peer, well, ill in ends:
        good, bad = recent_ends(peer) if peer in starved and len(starved) * 2 >= len(ends) else (well, ill)
        if good > 0:
            least = min(least, 1.0 - wilson(good, good + bad))
    return least


def remember(state: EndpointState) -> None:
    """Take note of an end that was not good, the last one so far."""
    well, ill, by = state.recent_ends
    ends = state.successes + state.failures + state.odd
    if ends - by > 1:
        well, ill = recent_ends(state, 1)
    state.recent_ends = well * FADE, ill * FADE + 1.0, ends


def recent_ends(state: EndpointState, but: int = 0) -> tuple[float, float]:
    """Return the good and the bad ends that are remembered (`but` the last ones, which are bad); good ones for free."""
    well, ill, by = state.recent_ends
    kept = FADE ** max(0, state.good + state.bad - but - by)
    return well * kept + (1 - kept) / (1 - FADE), ill * kept
