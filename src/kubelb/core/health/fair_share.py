"""The picker while some endpoints are bounded to their fair share (`kubelb.core.health.sinkholes`).

A wrapper that is there only then. What the policy chooses is taken unless that is a bounded endpoint which has had its
share; then a picker over the others decides. The share is counted in picks and not in time, so it holds at any rate,
for callers that wait for each answer as for those that do not, and whatever the policy goes by.
"""

from collections.abc import Collection

from kubelb.core.health.sinkholes import Sinkhole, Sinkholes
from kubelb.core.policies.base import Picker
from kubelb.core.state import EndpointState
from kubelb.model import Request

__all__ = ["FairSharePicker"]


class FairSharePicker:
    """Wraps a picker over `count` endpoints, some of which are `bounded`; `others` picks among the rest alone."""

    __slots__ = ("_all", "_bounded", "_count", "_inner", "_others", "pick_other")

    def __init__(
        self, inner: Picker, others: Picker, bounded: Collection[Sinkhole], sinkholes: Sinkholes, count: int
    ) -> None:
        self._inner = inner
        self._others = others
        self._bounded = {each.state: each for each in bounded}
        self._all = sinkholes
        self._count = count
        self.pick_other = getattr(inner, "pick_other", None)
        """The inner one's: a retry may go to any."""

    def pick(self, request: Request, now: float) -> EndpointState:
        self._all.picks = picks = self._all.picks + 1
        state = self._inner.pick(request, now)
        bound = self._bounded.get(state)
        if bound is None or bound.grants(picks, self._count):
            return state
        return self._others.pick(request, now)
