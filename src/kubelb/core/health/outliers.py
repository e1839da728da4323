"""Outlier detection: endpoints that fail get no traffic for a while.

Two rules say which endpoint fails:
- *consecutive failures*: so many in a row, which a dead endpoint shows within as many requests;
- *failure share*: of `minimum_requests` or more within `window` seconds, more than `failure_share` failed (the lower
  end of the Wilson interval, `kubelb.core.health.shares`), and more than `peer_factor` times what is usual among its
  peers. It stands in place of Envoy's success-rate deviation, which cannot find one bad endpoint of four (z = 1.73 <
  1.9), nor a zone of three, and finds harmless ones where all are well; and of its failure percentage, which knows no
  peers.

What is promised:
- at most `max(1, half)` of the endpoints are away, and never the last one (Envoy's 10 % ejects none below ten hosts);
- where more than half fail at the same time, by whichever rule, the failure is correlated: a bad deploy or a dead
  database is no endpoint's fault, so none is ejected and those that were ejected for it return;
- the way back is one probe and slow start; a probe that fails doubles the time;
- a deadline that is too short for all alike ejects none, by either rule (`kubelb.core.health.silence`);
- a straggler's failure does not punish an endpoint that is already away;
- with `observe` nothing happens but the reports.
"""

import math

from kubelb.core.health.shares import NOTES
from kubelb.core.options import check_flags, number, whole
from kubelb.records import record

__all__ = ["OutlierDetection"]


@record(frozen=True, slots=True)
class OutlierDetection:
    """Eject an endpoint that fails for `base_ejection` seconds (10.0), doubling up to `max_ejection` (300.0).

    It fails after `consecutive_failures` (5); or where, of at least `minimum_requests` (20) in `window` seconds (10.0),
    so many failed that its share is above `failure_share` (0.2) and above `peer_factor` (2.0) times the median of its
    peers, with 95 % confidence. ``failure_share=None`` switches the second rule off.

    A connect error, a reset and a 5xx but 501 are failures; a 4xx, a cancelled call and a 429 are not. A timeout is
    one, and ejects where it is no chance beside the timeouts of the peers (`kubelb.core.health.silence`). Each time is
    drawn from +-`jitter` (0.25) around its value, so that many clients do not return at once.

    With ``observe=True`` none is ejected: the same events say what would have been, with ``observed=True``.

    >>> OutlierDetection().duration(3)
    40.0
    """

    consecutive_failures: int = 5
    base_ejection: float = 10.0
    max_ejection: float = 300.0
    jitter: float = 0.25
    failure_share: float | None = 0.2
    minimum_requests: int = 20
    window: float = 10.0
    peer_factor: float = 2.0
    observe: bool = False

    def __post_init__(self) -> None:
        for name in ("consecutive_failures", "minimum_requests"):
            if not (whole(count := getattr(self, name)) and count >= 1):
                raise ValueError(f"OutlierDetection({name}={count!r}): give a whole number, 1 or more")
        if not 0 < number(self.base_ejection) <= number(self.max_ejection) < math.inf:
            raise ValueError(
                f"OutlierDetection(base_ejection={self.base_ejection!r}, max_ejection={self.max_ejection!r}): "
                "give positive seconds, the base not above the maximum"
            )
        if not 0 <= number(self.jitter) < 1:
            raise ValueError(f"OutlierDetection(jitter={self.jitter!r}): give a share from 0 to below 1")
        if self.failure_share is not None and not 0 <= number(self.failure_share) < 1:
            raise ValueError(
                f"OutlierDetection(failure_share={self.failure_share!r}): give a share from 0 to below 1, "
                "None to switch this rule off"
            )
        if not 0 < number(self.window) < math.inf:
            raise ValueError(f"OutlierDetection(window={self.window!r}): give a positive number of seconds")
        if not 0 <= number(self.peer_factor) < math.inf:
            raise ValueError(
                f"OutlierDetection(peer_factor={self.peer_factor!r}): give a number, 0 to compare with none"
            )
        check_flags(self, "observe")

    @property
    def pace(self) -> float:
        """Seconds between two of the notes that failure shares are counted by; infinity where none are wanted."""
        return math.inf if self.failure_share is None else self.window / NOTES

    def duration(self, times: int) -> float:
        """Return the seconds of the `times`-th ejection in a row, before jitter."""
        return min(self.base_ejection * 2.0 ** min(times - 1, 60), self.max_ejection)
