"""Ejector: the decisions of outlier detection, for one balancer.

    ACTIVE --fails--> EJECTED --time is over--> DUE --picked--> PROBING --success--> ACTIVE, slow start
                         ^-------------------------failure---------'

`kubelb.core.health.outliers` says by which rules, and what is promised. An observer goes from ACTIVE to EJECTED and
back: an endpoint that would be away is served all the same, so its first request after that time stands for its probe.

Pure decisions over states: no clock, no lock, no picker. The Balancer calls it with its lock held and acts afterwards.
An interrupt may cut any of them short: a state enters `away` before its phase changes and leaves it after, and
`advance` drops those that are there for nothing.
"""

import math
import random
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from kubelb.core.events import Ejected, EjectionSpared, Event, Returned
from kubelb.core.health.circuits import trials
from kubelb.core.health.outliers import OutlierDetection
from kubelb.core.health.shares import Peers, recent, wilson
from kubelb.core.health.silence import SURE, chance, compare_with, improbable, usual
from kubelb.core.state import NEVER, EndpointState, Phase

__all__ = ["Ejector", "allowance"]

LOST_PROBE = 1.0
"""Seconds after which a probe that ended without a verdict (cancelled, lost) is given to another request."""
LONGEST = 30.0
"""Seconds that a full endpoint is believed when it says for how long it wants no further probe."""
CONSECUTIVE, SHARE = "consecutive-failures", "failure-share"
FRESH_UP_TO = 100
"""Endpoints of which every judgement takes a new picture, in 0.1 ms."""
GOOD_FOR = 50e-6
"""Seconds for each endpoint that the picture of a larger set is good for: a fiftieth of the time goes into them."""
WITNESS = 3
"""Failures from which on an endpoint whose share is too large, sure or not, fails like the one that is judged: what is
no better is no witness, and a streak of five comes to every endpoint where a quarter of all requests fail."""


class Breach(NamedTuple):
    """The rule that an endpoint breaks, with the numbers, as events have them."""

    rule: str
    failures: int
    requests: int
    bound: float
    median: float
    reason: str
    """The same in words."""

    @property
    def numbers(self) -> tuple[str, int, int, float, float]:
        """What events say beside the reason."""
        return self[:5]


class Ejector:
    """The decisions of one balancer. `away` holds every state that is not ACTIVE."""

    def __init__(self, service: str, config: OutlierDetection, rng: random.Random) -> None:
        self.service = service
        self.config = config
        self.away: list[EndpointState] = []
        self.eligible: Callable[[], Sequence[EndpointState]] = tuple
        """Returns those that get ordinary traffic: the peers of one that is silent."""
        self._random = rng.random
        self._peers = Peers([], 0)
        self._looked = NEVER

    @property
    def enforces(self) -> bool:
        """Whether a decision changes what is picked."""
        return not self.config.observe

    def bars(self, state: EndpointState) -> bool:
        """Whether an endpoint gets no traffic now, its probe aside."""
        return self.enforces and state.phase is not Phase.ACTIVE

    def breached(self, state: EndpointState, failures: int, start: float, now: float) -> bool:
        """Whether the n-th failure in a row, of an attempt begun at `start`, calls for `decide`. Needs no lock.

        It does when it is a probe's; at the threshold and at each multiple of it after; as soon as a streak with
        silences in it is no chance; and, like that, once a `pace` where too large a share failed.
        """
        if state.phase is not Phase.ACTIVE:
            return self.probed(state, start)
        if not state.in_use:
            return False
        if state.silent and state.comparison is None:
            state.comparison = compare_with(state, self.eligible())
        due = failures % self.config.consecutive_failures == 0
        if (due or (state.silent and now >= state.judged)) and self._in_a_row(state, failures):
            return True
        return now >= state.judged and self._share_of(state, now) is not None

    def probed(self, state: EndpointState, start: float) -> bool:
        """Whether an attempt begun at `start` tells how a state that is not ACTIVE stands: not one from before."""
        return (state.phase is Phase.PROBING or not self.enforces) and start >= state.until

    def decide(self, state: EndpointState, in_use: Collection[EndpointState], start: float, now: float) -> list[Event]:
        """Judge a failure that breached, of an attempt begun at `start`; alters phases and returns what happened."""
        if state.phase is not Phase.ACTIVE:
            return [self._eject(state, now, self._probe_failed(state))] if self.probed(state, start) else []
        if not state.in_use:
            return []
        state.judged = now + self.config.pace
        in_a_row = self._in_a_row(state, state.consecutive)
        seen = None if in_a_row else self._share_of(state, now)
        if not in_a_row and seen is None:
            return []  # a success came between
        peers = self._look(in_use, now)
        breach = self._breach(state, seen, peers)
        # One that is silent by the odds was compared with its peers: some of these may be silent now and then, too.
        failing = (
            peers.streaks
            if in_a_row and not self._too_many_without_silence(state, state.consecutive)
            else peers.failing
        )
        if failing * 2 > len(in_use) > 1:
            reason = f"{failing} of {len(in_use)} fail alike, so {state.endpoint.authority} is not to blame"
            return [*self._return_all(now), *self._spare(state, breach, reason, now)]
        if seen is not None and breach.bound <= self.config.peer_factor * breach.median:
            return []  # no outlier: its peers are not much better
        if len(in_use) == 1:
            return self._spare(state, breach, "it is the last endpoint", now)
        if len(self.away) >= allowance(len(in_use)):
            return self._spare(state, breach, f"{len(self.away)} of {len(in_use)} are away already", now)
        return [self._eject(state, now, breach)]

    def claim(self, state: EndpointState) -> bool:
        """Make a request the probe of a state that is due; False where it no longer is."""
        due = state.phase is Phase.DUE
        if due:
            state.phase = Phase.PROBING
        return due

    def succeeded(self, state: EndpointState, start: float, now: float) -> list[Event]:
        """A request on a state that was not ACTIVE ended well: its probe, or one sent before the ejection."""
        if state.phase is Phase.ACTIVE or not self.probed(state, start):
            return []
        self._bring_back(state, now)
        state.consecutive = 0
        state.forget_share()
        return [Returned(self.service, state.endpoint.authority, "probe", self.config.observe, state.endpoint.pod)]

    def postpone(self, state: EndpointState, seconds: float, now: float) -> None:
        """Its probe was answered, but said no more than that it is full: try it again when it may have room.

        That is load, so its ejections are not doubled. It is believed for `LONGEST`; and no probe is made before
        `base_ejection` is over, however long that is, as each is a user's call.
        """
        if state.phase is Phase.PROBING:
            state.until = now + max(self.config.base_ejection, min(seconds, LONGEST))
            state.phase = Phase.EJECTED

    def advance(self, now: float) -> None:
        """Let time pass: ejections end, lost probes are due again."""
        self.away = [state for state in self.away if state.phase is not Phase.ACTIVE]
        if not self.enforces:
            return
        for state in self.away:
            if (state.phase is Phase.EJECTED and now >= state.until) or (
                state.phase is Phase.PROBING and not trials((state,), state.until)  # a stream from before is no probe
            ):
                state.phase = Phase.DUE

    def settle(self, in_use: Collection[EndpointState], now: float) -> list[Event]:
        """After a change of the set: forget what left it, and keep to the allowance of what remains."""
        for state in [state for state in self.away if not state.in_use]:
            self._bring_back(state, now)
        self.away.sort(key=lambda state: state.until)
        surplus = len(self.away) - allowance(len(in_use))
        back = self.away[: max(0, surplus)]
        return [self._returned(state, "too few are left", now) for state in back]

    def drop(self, states: Collection[EndpointState], now: float) -> list[Returned]:
        """Bring back those of these that are due a probe, which none will make."""
        due = [state for state in self.away if state.phase is Phase.DUE and state in states]
        return [self._returned(state, "the policy picks others", now) for state in due]

    def wake(self, now: float) -> float:
        """Return the time at which `advance` may have something to do."""
        times = (state.until if state.phase is Phase.EJECTED else now + LOST_PROBE for state in self.away)
        return min(times, default=math.inf) if self.enforces else math.inf

    def _in_a_row(self, state: EndpointState, failures: int) -> bool:
        """Whether so many failures in a row are too many: by their number, or where some were silence by the odds."""
        if failures < self.config.consecutive_failures:
            return False
        comparison = state.comparison
        return comparison is None or self._too_many_without_silence(state, failures) or improbable(comparison, failures)

    def _too_many_without_silence(self, state: EndpointState, failures: int) -> bool:
        """Whether so many failures in a row are too many without the silences among them."""
        return failures - state.silent >= self.config.consecutive_failures

    def _share_of(self, state: EndpointState, now: float) -> tuple[int, int, float] | None:
        """Return failures, requests and bound where too large a share failed of enough requests; else None."""
        config = self.config
        if config.failure_share is None:
            return None
        failures, requests = recent(state, config.window, now)
        if requests < config.minimum_requests or (bound := wilson(failures, requests)) <= config.failure_share:
            return None
        if now - state.silent_at < config.window and chance(failures, requests, usual(state, self.eligible())) > SURE:
            return None
        return failures, requests, bound

    def _look(self, in_use: Collection[EndpointState], now: float) -> Peers:
        """Take a picture of all, or of a large set the one taken a moment ago."""
        if len(in_use) > FRESH_UP_TO and now - self._looked < len(in_use) * GOOD_FOR:
            return self._peers
        config = self.config
        limit = 1.0 if config.failure_share is None else config.failure_share
        shares: list[float] = []
        failing = streaks = 0
        for state in in_use:
            failures, requests = recent(state, config.window, now)
            if requests:
                shares.append(failures / requests)
            in_a_row = state.consecutive >= config.consecutive_failures
            streaks += in_a_row
            failing += (
                in_a_row
                or (failures >= WITNESS and failures > limit * requests)
                or (state.phase is not Phase.ACTIVE and state.rule == SHARE)
            )
        self._looked, self._peers = now, Peers(sorted(shares), failing, streaks)
        return self._peers

    def _breach(self, state: EndpointState, seen: tuple[int, int, float] | None, peers: Peers) -> Breach:
        if seen is None:
            count = state.consecutive
            words = f", {state.silent} of them without an answer" if state.silent else ""
            return Breach(CONSECUTIVE, count, count, 0.0, 0.0, f"{count} failures in a row{words}")
        failures, requests, bound = seen
        median = peers.median_without(failures / requests)
        reason = (
            f"{failures} of {requests} requests failed within {self.config.window:g} s, {bound:.1%} at the least, "
            f"and {median:.1%} is the median of its peers"
        )
        return Breach(SHARE, failures, requests, bound, median, reason)

    def _probe_failed(self, state: EndpointState) -> Breach:
        return Breach(state.rule, state.consecutive, state.consecutive, 0.0, 0.0, "its probe failed")

    def _eject(self, state: EndpointState, now: float, breach: Breach) -> Ejected:
        if state.phase is Phase.ACTIVE:
            # Each healthy stretch as long as the base takes back one doubling (gRPC A50 does so per interval).
            healthy = (now - state.until) / self.config.base_ejection
            state.ejections = max(0, state.ejections - int(min(healthy, 1e6)))
            if state not in self.away:
                self.away.append(state)
        state.ejections += 1
        # A mere observer draws nothing: the next pick is to be what it would have been.
        spread = 1 + self.config.jitter * (2 * self._random() - 1) if self.enforces else 1.0
        duration = min(self.config.duration(state.ejections) * spread, self.config.max_ejection)
        state.until = now + duration
        state.rule, state.why = breach.rule, breach.reason
        state.phase = Phase.EJECTED
        where, pod, observed = state.endpoint.authority, state.endpoint.pod, self.config.observe
        numbers = breach.numbers
        return Ejected(self.service, where, breach.reason, duration, state.ejections, *numbers, observed, pod)

    def _spare(self, state: EndpointState, breach: Breach, reason: str, now: float) -> list[Event]:
        # Said once a streak or once a window, not once a request.
        if breach.rule == CONSECUTIVE and not state.silent:
            if state.consecutive != self.config.consecutive_failures:
                return []
        elif now - state.spared < self.config.window:
            return []
        state.spared = now
        where, pod = state.endpoint.authority, state.endpoint.pod
        return [EjectionSpared(self.service, where, reason, *breach.numbers, self.config.observe, pod)]

    def _bring_back(self, state: EndpointState, now: float) -> None:
        state.phase = Phase.ACTIVE
        state.until = now
        self.away.remove(state)

    def _returned(self, state: EndpointState, why: str, now: float) -> Returned:
        self._bring_back(state, now)
        return Returned(self.service, state.endpoint.authority, why, self.config.observe, state.endpoint.pod)

    def _return_all(self, now: float) -> list[Event]:
        return [self._returned(state, "correlated", now) for state in list(self.away)]


def allowance(count: int) -> int:
    """Return how many of `count` endpoints may be away at a time: max(1, half), and none of one."""
    return max(1, count // 2) if count > 1 else 0
