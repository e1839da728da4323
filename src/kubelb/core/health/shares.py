"""Failure shares: how large a part of an endpoint's recent requests failed, and what its peers say to that.

A share of few requests is a guess, and the worst guess of many endpoints looks like an outlier: three failures of four
say less than thirty of a hundred. What is compared is therefore not the share but the least that it can be, the lower
end of its Wilson interval (E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA
22, 1927), which unlike the usual +-1.96 standard errors holds for few requests and for shares near 0 and 1:

    (p + z^2/2n - z * sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)          p = failures/n, z = 1.96 for 95 %

The window is made of totals noted down by the first outcome of each tenth of it (`Tracker`): the difference to the
oldest note in it is what happened since. So a success costs one comparison, and nothing runs by itself.
"""

from bisect import bisect_left
from math import sqrt
from typing import NamedTuple

from kubelb.core.state import EndpointState

__all__ = ["NOTES", "Peers", "recent", "wilson"]

NOTES = 10
"""Notes a window: it is counted to within a tenth."""
Z = 1.96
"""Standard normal quantile of a two-sided 95 %."""


def wilson(failures: float, requests: float) -> float:
    """Return the lower end of the 95 % interval of a share; 0.0 where nothing failed.

    >>> round(wilson(10, 20), 3), round(wilson(100, 200), 3)
    (0.299, 0.431)
    """
    if not failures or not requests:
        return 0.0
    share = min(failures / requests, 1.0)  # under threads the two are not read in the same moment
    z2 = Z * Z / requests
    return (share + z2 / 2 - Z * sqrt(share * (1 - share) / requests + z2 / (4 * requests))) / (1 + z2)


def recent(state: EndpointState, window: float, now: float) -> tuple[int, int]:
    """Return the failures and the requests of the last `window` seconds."""
    since = now - window
    for time, requests, faults in state.notes:
        if time > since:
            return state.faults - faults, state.successes + state.failures - requests
    return 0, 0


class Peers(NamedTuple):
    """A picture of all endpoints in use, for judging one of them."""

    shares: list[float]
    """Of those with any requests in the window, in order."""
    failing: int
    """Those that fail, by whatever rule."""
    streaks: int = 0
    """Those of them that fail in a row."""

    def median_without(self, share: float) -> float:
        """Return the median of the others' shares, for an endpoint whose own is one of these; 0.0 without others."""
        count = len(self.shares) - 1
        if count < 1:
            return 0.0
        own = min(bisect_left(self.shares, share), count)
        low, high = (self.shares[i + (i >= own)] for i in ((count - 1) // 2, count // 2))
        return (low + high) / 2
