"""Whether traffic reaches any of a set of endpoints: what discovery asks where it cannot tell which is alive.

Read from what leases have reported, now and then and never on the path of a request.
"""

from collections.abc import Iterable

from kubelb.core.state import EndpointState

__all__ = ["LATELY", "SUCCESS", "reached"]

SUCCESS = 3.0
"""Seconds for which a success says that an endpoint is there."""
LATELY = 10.0
"""Seconds for which a failure says that it is not."""
WITNESSES = 3
FAILURES = 5
"""So many endpoints (all, where there are fewer) and so many failures it takes to say that none is there."""


def reached(states: Iterable[EndpointState], now: float, *, any_failure: bool = False) -> bool | None:
    """True: one of them has just answered. False: none has, and the last tries could not connect. None: not known.

    With `any_failure` other failures count, too: resets, silence, 5xx.
    """
    known = witnesses = failures = 0
    for state in states:
        known += 1
        cut_off = state.cut_off
        if not (state.consecutive or cut_off):
            # While a charge is held its stamp is older; but the success came after the failure that it is for.
            if now - max(state.stamp, state.charged) < SUCCESS:
                return True
        elif now - state.charged < LATELY:
            count = cut_off + (state.consecutive if any_failure else min(state.unsent, state.consecutive))
            witnesses += count > 0
            failures += count
    return False if known and witnesses >= min(known, WITNESSES) and failures >= FAILURES else None
