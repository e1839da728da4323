"""Pickers for those on their way back: a probe or trials of endpoints, trials of the whole service.

Wrappers that are there only while such are due, so that the ordinary pick does not have to ask.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress

from kubelb.core.policies.base import Picker
from kubelb.core.state import EndpointState
from kubelb.errors import LoadBalancerError
from kubelb.model import Request

__all__ = ["GatePicker", "ProbePicker"]


class ProbePicker:
    """Hands out each due state, one for one, if it can still be claimed; then it is the picker it wraps."""

    __slots__ = ("_claim", "_due", "_inner")

    def __init__(self, inner: Picker, due: Iterable[EndpointState], claim: Callable[[EndpointState], bool]) -> None:
        self._inner = inner
        self._due = list(due)
        self._claim = claim

    def pick(self, request: Request, now: float) -> EndpointState:
        with suppress(IndexError):
            while self._due:
                state = self._due.pop()  # atomic: two threads never get the same one
                if self._claim(state):  # else it came back, or left, since this picker was built
                    return state
        return self._inner.pick(request, now)


class GatePicker:
    """Lets as many requests through as can be claimed, and refuses the others with what `why` returns."""

    __slots__ = ("_claim", "_inner", "_why")

    def __init__(self, inner: Picker, claim: Callable[[], bool], why: Callable[[], LoadBalancerError]) -> None:
        self._inner = inner
        self._claim = claim
        self._why = why

    def pick(self, request: Request, now: float) -> EndpointState:
        if not self._claim():
            raise self._why()
        return self._inner.pick(request, now)
