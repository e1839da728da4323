"""Outlier detection: endpoints that fail time and again get no traffic for a while.

    ACTIVE --consecutive failures--> EJECTED --time is over--> DUE --picked--> PROBING --success--> ACTIVE, slow start
                                        ^-----------------------failure-----------'

What it promises:
- at most `max(1, half)` of the endpoints are away, and never the last one (Envoy's 10 % ejects nobody below ten hosts);
- where more than half breach the rule at the same time the failure is correlated: a bad deploy or a dead database is
  no endpoint's fault, so nobody is ejected and those that were ejected for it return;
- a straggler's failure does not punish an endpoint that is already away.

Pure decisions over states: no clock, no lock, no picker. The Balancer calls it with its lock held and acts afterwards.
An interrupt may cut any of them short: a state enters `away` before its phase changes and leaves it after, and
`advance` drops those that are there for nothing.
"""

import math
import random
from collections.abc import Collection
from dataclasses import dataclass

from kubelb.core.events import Ejected, EjectionSpared, Event, Returned
from kubelb.core.state import EndpointState, Phase

__all__ = ["Ejector", "OutlierDetection"]

LOST_PROBE = 1.0
"""Seconds after which a probe that ended without a verdict (cancelled, lost) is given to another request."""


@dataclass(frozen=True, slots=True)
class OutlierDetection:
    """Eject after `consecutive_failures` (5) for `base_ejection` seconds (10.0), doubling up to `max_ejection` (300.0).

    A connect error, a reset, a timeout and a 5xx but 501 are failures; a 4xx, a cancelled call and a 429 are not. Each
    time is drawn from +-`jitter` (0.25) around its value, so that many clients do not return at once.

    >>> OutlierDetection().duration(3)
    40.0
    """

    consecutive_failures: int = 5
    base_ejection: float = 10.0
    max_ejection: float = 300.0
    jitter: float = 0.25

    def __post_init__(self) -> None:
        if self.consecutive_failures < 1:
            raise ValueError(f"OutlierDetection(consecutive_failures={self.consecutive_failures!r}): give 1 or more")
        if not 0 < self.base_ejection <= self.max_ejection < math.inf:
            raise ValueError(
                f"OutlierDetection(base_ejection={self.base_ejection!r}, max_ejection={self.max_ejection!r}): "
                "give positive seconds, the base not above the maximum"
            )
        if not 0 <= self.jitter < 1:
            raise ValueError(f"OutlierDetection(jitter={self.jitter!r}): give a share from 0 to below 1")

    def duration(self, times: int) -> float:
        """Return the seconds of the `times`-th ejection in a row, before jitter."""
        return min(self.base_ejection * 2.0 ** min(times - 1, 60), self.max_ejection)


class Ejector:
    """The decisions of one balancer. `away` holds every state that is not ACTIVE."""

    def __init__(self, service: str, config: OutlierDetection, rng: random.Random) -> None:
        self.service = service
        self.config = config
        self.away: list[EndpointState] = []
        self._random = rng.random

    def breached(self, state: EndpointState, failures: int) -> bool:
        """Whether the n-th failure in a row calls for `decide`: at the threshold, and at each multiple of it after."""
        return state.phase is Phase.PROBING or failures % self.config.consecutive_failures == 0

    def decide(self, state: EndpointState, in_use: Collection[EndpointState], start: float, now: float) -> list[Event]:
        """Judge a failure that breached, of an attempt begun at `start`; alters phases and returns what happened."""
        if state.phase is Phase.PROBING and start >= state.until:
            return [self._eject(state, now, "its probe failed")]
        threshold = self.config.consecutive_failures
        if state.phase is not Phase.ACTIVE or not state.in_use or state.consecutive < threshold:
            return []  # a straggler's, or a success came between
        breaching = sum(1 for other in in_use if other.consecutive >= threshold)
        name = state.endpoint.authority
        if len(in_use) == 1:
            return self._spare(state, "it is the last endpoint")
        if breaching * 2 > len(in_use):
            events: list[Event] = [
                Returned(self.service, other.endpoint.authority, "correlated") for other in self._return_all(now)
            ]
            return events + self._spare(state, f"{breaching} of {len(in_use)} fail alike, so {name} is not to blame")
        if len(self.away) >= allowance(len(in_use)):
            return self._spare(state, f"{len(self.away)} of {len(in_use)} are away already")
        return [self._eject(state, now, f"{state.consecutive} failures in a row")]

    def claim(self, state: EndpointState) -> bool:
        """Make a request the probe of a state that is due; False where it no longer is."""
        due = state.phase is Phase.DUE
        if due:
            state.phase = Phase.PROBING
        return due

    def succeeded(self, state: EndpointState, start: float, now: float) -> list[Event]:
        """A request on a state that was not ACTIVE ended well: its probe, or one sent before the ejection."""
        if state.phase is not Phase.PROBING or start < state.until:
            return []
        self._bring_back(state, now)
        state.consecutive = 0
        return [Returned(self.service, state.endpoint.authority, "probe")]

    def advance(self, now: float) -> None:
        """Let time pass: ejections end, lost probes are due again."""
        self.away = [state for state in self.away if state.phase is not Phase.ACTIVE]
        for state in self.away:
            if (state.phase is Phase.EJECTED and now >= state.until) or (
                state.phase is Phase.PROBING and not state.leases
            ):
                state.phase = Phase.DUE

    def settle(self, in_use: Collection[EndpointState], now: float) -> list[Event]:
        """After a change of the set: forget who left it, and keep to the allowance of what remains."""
        for state in [state for state in self.away if not state.in_use]:
            self._bring_back(state, now)
        self.away.sort(key=lambda state: state.until)
        surplus = len(self.away) - allowance(len(in_use))
        back = self.away[: max(0, surplus)]
        for state in back:
            self._bring_back(state, now)
        return [Returned(self.service, state.endpoint.authority, "too few are left") for state in back]

    def wake(self, now: float) -> float:
        """Return the time at which `advance` may have something to do."""
        times = (state.until if state.phase is Phase.EJECTED else now + LOST_PROBE for state in self.away)
        return min(times, default=math.inf)

    def _eject(self, state: EndpointState, now: float, reason: str) -> Ejected:
        if state.phase is Phase.ACTIVE:
            # Each healthy stretch as long as the base takes back one doubling (gRPC A50 does so per interval).
            healthy = (now - state.until) / self.config.base_ejection
            state.ejections = max(0, state.ejections - int(min(healthy, 1e6)))
            if state not in self.away:
                self.away.append(state)
        state.ejections += 1
        spread = 1 + self.config.jitter * (2 * self._random() - 1)
        duration = min(self.config.duration(state.ejections) * spread, self.config.max_ejection)
        state.until = now + duration
        state.phase = Phase.EJECTED
        return Ejected(self.service, state.endpoint.authority, reason, duration, state.ejections)

    def _spare(self, state: EndpointState, reason: str) -> list[Event]:
        # Said once a streak, not once a request.
        if state.consecutive != self.config.consecutive_failures:
            return []
        return [EjectionSpared(self.service, state.endpoint.authority, reason)]

    def _bring_back(self, state: EndpointState, now: float) -> None:
        state.phase = Phase.ACTIVE
        state.until = now
        self.away.remove(state)

    def _return_all(self, now: float) -> list[EndpointState]:
        back = list(self.away)
        for state in back:
            self._bring_back(state, now)
        return back


def allowance(count: int) -> int:
    """Return how many of `count` endpoints may be away at a time: max(1, half), and none of one."""
    return max(1, count // 2) if count > 1 else 0
