"""Weights as policies use them: positive numbers, whatever discovery says.

An endpoint's share is its weight over the sum of all. A weight that is zero, negative, infinite or no number at all has
no share; such an endpoint counts as the mean of the others, as in gRFC A58: it serves, and by weight there is no saying
how much. To take an endpoint out of service, discovery leaves it out.
"""

import math
from collections.abc import Iterable, Sequence

from kubelb.core.events import Skipped
from kubelb.core.options import number
from kubelb.core.state import EndpointState

__all__ = ["strange_weights", "weights_of"]

TINY = 1e-9
"""The least weight beside the heaviest."""


def weights_of(states: Sequence[EndpointState]) -> list[float]:
    """Return a positive weight for each state, the largest of them 1.0; so are all where none of them has one.

    >>> from kubelb import Endpoint
    >>> from kubelb.core import EndpointState
    >>> weights_of([EndpointState(Endpoint("10.0.0.1", 80, weight=weight), None) for weight in (4.0, 0.0, 2.0)])
    [1.0, 0.75, 0.5]
    """
    weights = [number(state.endpoint.weight) for state in states]
    heaviest = max((weight for weight in weights if 0 < weight < math.inf), default=1.0)
    # Divided before they are summed: the sum of large ones would be infinite. And a small one is still more than none.
    sane = [max(weight / heaviest, TINY) for weight in weights if 0 < weight < math.inf]
    mean = math.fsum(sane) / len(sane) if sane else 1.0
    return [max(weight / heaviest, TINY) if 0 < weight < math.inf else mean for weight in weights]


def strange_weights(service: str, states: Iterable[EndpointState]) -> list[Skipped]:
    """Return an event for each weight that is no share of anything. Zero is one that DNS may give, and says nothing."""
    return [
        Skipped(
            service,
            f"weight={state.endpoint.weight!r} of {state.endpoint.authority}",
            "the endpoint counts as the mean of the others; give a positive number, or leave the endpoint out",
        )
        for state in states
        if not 0 <= number(state.endpoint.weight) < math.inf
    ]
