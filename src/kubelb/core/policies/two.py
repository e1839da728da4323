"""Two candidates where not all endpoints will do: for a second try, or a caller that can use only some of them.

Of a few endpoints all are asked. Of many some random places are looked at, so that it costs the same at any number; two
are found there nearly always where half of them fit, and one is better than none.
"""

from collections.abc import Callable, Sequence

from kubelb.core.state import EndpointState, Usable

__all__ = ["two_that_fit"]

FEW = 8
"""Endpoints that are all asked."""
PLACES = 16
"""Random places that are looked at among more."""


def two_that_fit(
    states: Sequence[EndpointState], random: Callable[[], float], fits: Usable
) -> tuple[EndpointState | None, EndpointState | None]:
    """Return two distinct states that fit, in an order of chance; the second None where there is one, both for none.

    Of many, none where no place had one.
    """
    count = len(states)
    if count <= FEW:
        found = [state for state in states if fits(state)]
        one = found.pop(int(random() * len(found))) if found else None
        return one, found[int(random() * len(found))] if found else None
    one = None
    for _ in range(PLACES):
        state = states[int(random() * count)]
        if state is not one and fits(state):
            if one is not None:
                return one, state
            one = state
    return one, None
