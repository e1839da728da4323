"""Silence: a deadline ended and no answer had begun. Is that the endpoint's fault?

One such end says little: the caller may be impatient, the method slow, the whole service busy. What a deadline should
have been cannot be told from latencies, which differ by method as deadlines do. What can be told is how often the peers
of an endpoint are silent under the same traffic. So a silence is a failure like any other, but a streak of failures
that has silences in it ejects only where it is no chance beside the peers:

    p ** streak <= SURE        p: the share of the peers' calls that fail, the larger one of
                                  recently (100 calls of each and of the endpoint itself) and since the streak began

Where peers are silent now and then, p is 1 % and five in a row suffice; where every second deadline is too short it
takes twenty; where all have become silent at the same moment p is near 1 and nothing suffices: none is ejected. What
is not known counts as a fifth, worth two calls: peers that have never been called, and those that are not called now
(a ring with one key), let nine in a row suffice. A share of failures that has silences in it is judged by the same
figure: so many of so many may be no chance beside p (the Chernoff bound, which for all of them is p ** streak).

The peers are up to eight, spread over the set, noted down by the first silence of a streak: judging costs the same for
3 endpoints as for 10 000, and a success costs nothing. `benchmarks/silence.py` has the simulation behind the constants.

Three kinds are no failure at all:
- *ours*: the end was noticed so late that this process was away: a blocked event loop, no CPU;
- *said*: it ended before its time, so it was the endpoint that said so, which is an answer;
- *no chance*: less than a millisecond, what is left of a deadline after other tries.
"""

from collections.abc import Callable, Sequence
from math import exp, log
from typing import NamedTuple, TypeAlias

from kubelb.core.state import EndpointState
from kubelb.model import Verdict

__all__ = [
    "Comparison",
    "Peers",
    "chance",
    "compare_with",
    "improbable",
    "meaning",
    "note_fault",
    "some_peers",
    "usual",
]

SURE = 1e-6
"""Of so many streaks one ejects by chance: at a silence a second, one in days."""
PEERS = 8
"""Peers that are asked."""
FADE = 0.99
"""What is left of a failure's weight after one more call: about the last hundred count."""
DOUBT = 0.4, 2.0
"""Failures and calls that are assumed beside those that were seen: a fifth, worth two calls."""
LEAST = 0.001
"""Seconds; what had less had no chance."""
EARLY = 0.01
"""Seconds; what ended earlier than this before its time did not end by our timer."""
LATE = 0.05, 0.25
"""Seconds, and the part of the time that it had, by which our timer may fire too late."""

Peers: TypeAlias = Callable[[], Sequence[EndpointState]]
"""Returns those that get ordinary traffic."""


class Comparison(NamedTuple):
    """What was known when a streak began."""

    members: tuple[tuple[EndpointState, int, int], ...]
    """Each peer, its successes and its faults by then."""
    faults: float
    """Recent ones, of the peers and of the endpoint itself."""
    calls: float


def meaning(waited: float, overdue: float | None) -> Verdict:
    """Return what a silence counts as: FAILED; CANCELLED where it says nothing, NEUTRAL where it was our own stall.

    >>> meaning(0.3, 0.001), meaning(0.3, -0.2), meaning(1.3, 1.0)
    (<Verdict.FAILED: 'failed'>, <Verdict.CANCELLED: 'cancelled'>, <Verdict.NEUTRAL: 'neutral'>)
    """
    if overdue is not None:
        if overdue < -EARLY:
            return Verdict.CANCELLED
        if overdue > LATE[0] + LATE[1] * (waited - overdue):
            return Verdict.NEUTRAL
    return Verdict.FAILED if waited >= LEAST else Verdict.CANCELLED


def note_fault(state: EndpointState) -> None:
    """Take note of a fault of an endpoint, the last of its calls so far."""
    faults, calls = _recent(state)
    state.recent_calls = faults + 1.0, calls, state.successes + state.failures


def compare_with(state: EndpointState, peers: Sequence[EndpointState]) -> Comparison:
    """Return the peers that the streak which begins with this silence is judged by; it is not remembered yet itself."""
    members = tuple((peer, peer.successes, peer.faults) for peer in some_peers(state, peers, state.faults))
    faults, calls = _recent(state)
    for peer, _, _ in members:
        more = _recent(peer)
        faults += more[0]
        calls += more[1]
    return Comparison(members, faults, calls)


def improbable(comparison: Comparison, streak: int) -> bool:
    """Whether so many failures in a row are no chance beside what the peers do."""
    answers = faults = 0
    for peer, successes, failed in comparison.members:
        answers += peer.successes - successes
        faults += peer.faults - failed
    since = _share(faults, faults + answers)
    recently = _share(comparison.faults + faults, comparison.calls + faults + answers)
    return bool(max(since, recently) ** streak <= SURE)


def usual(state: EndpointState, peers: Sequence[EndpointState]) -> float:
    """Return the share of the peers' recent calls that failed."""
    seen = [_recent(peer) for peer in some_peers(state, peers, state.faults)]
    return _share(sum(faults for faults, _ in seen), sum(calls for _, calls in seen))


def chance(failures: int, requests: int, share: float) -> float:
    """Return a bound for the chance of so many failures or more where `share` of all requests fail.

    >>> round(chance(5, 5, 0.1), 7), chance(1, 20, 0.1)
    (1e-05, 1.0)
    """
    part = min(failures / requests, 1.0)
    if part <= share:
        return 1.0
    rest = (1 - part) * log((1 - part) / (1 - share)) if part < 1 else 0.0
    return exp(-requests * (part * log(part / share) + rest))


def _share(faults: float, calls: float) -> float:
    return (max(faults, 0.0) + DOUBT[0]) / (max(calls, 0.0) + DOUBT[1])


def _recent(state: EndpointState) -> tuple[float, float]:
    """Return the faults and the calls that are remembered; it costs nothing to remember successes."""
    faults, calls, by = state.recent_calls
    kept = FADE ** max(0, state.successes + state.failures - by)
    return faults * kept, calls * kept + (1 - kept) / (1 - FADE)


def some_peers(state: EndpointState, peers: Sequence[EndpointState], turn: int) -> list[EndpointState]:
    """Return up to eight peers other than this one, spread evenly over the set, others at each `turn`."""
    count = len(peers)
    wanted = min(PEERS + 1, count)
    some = [peer for i in range(wanted) if (peer := peers[(turn + i * count // wanted) % count]) is not state]
    return some[:PEERS]
