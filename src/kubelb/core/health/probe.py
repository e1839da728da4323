"""Probe picker: the next request goes to an endpoint whose ejection is over, one request each.

A wrapper that is there only while a probe is due, so that the ordinary pick does not have to ask.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress

from kubelb.core.policies.base import Picker
from kubelb.core.state import EndpointState
from kubelb.model import Request

__all__ = ["ProbePicker"]


class ProbePicker:
    """Hands out each due state once, if it can still be claimed, then is the picker it wraps."""

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
