"""The picker while some endpoints are bounded to their fair share (`kubelb.core.health.sinkholes`).

A wrapper that is there only then. What the policy chooses is taken unless that is a bounded endpoint which has had its
share; then a picker over the others decides. The share is counted in picks and not in time, so it holds at any rate,
for callers that wait for each answer as for those that do not, and whatever the policy goes by.
"""

from collections.abc import Collection

from kubelb.core.health.sinkholes import Sinkhole, Sinkholes
from kubelb.core.policies.base import Picker, Wrapping
from kubelb.core.state import EndpointState, Usable
from kubelb.model import Request

__all__ = ["FairSharePicker"]


class FairSharePicker(Wrapping):
    """Wraps a picker over `count` endpoints, some of which are `bounded`; `others` picks among the rest alone."""

    __slots__ = ("_all", "_bounded", "_count", "_others")

    def __init__(
        self, inner: Picker, others: Picker, bounded: Collection[Sinkhole], sinkholes: Sinkholes, count: int
    ) -> None:
        Wrapping.__init__(self, inner)
        self._others = others
        self._bounded = {each.state: each for each in bounded}
        self._all = sinkholes
        self._count = count

    def pick(self, request: Request, now: float) -> EndpointState | None:
        state = self.inner.pick(request, now)
        return state if self._grants(state) else self._others.pick(request, now) or state

    def other(self, request: Request, now: float, fits: Usable) -> EndpointState | None:
        state = self.inner.other(request, now, fits)
        return state if self._grants(state) else self._others.other(request, now, fits) or state

    def _grants(self, state: EndpointState | None) -> bool:
        self._all.picks = picks = self._all.picks + 1
        bound = None if state is None else self._bounded.get(state)
        return bound is None or bound.grants(picks, self._count)
