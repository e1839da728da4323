"""What the three drivers share: settling attempts.

`send(step)` makes one attempt on `step.lease` and returns its Outcome; it raises only what means "stop everything"
(cancellation, KeyboardInterrupt). `discard(outcome)` throws an open response away that will not be read. `abort(lease)`
ends a running attempt from outside, where the client can. `left(lease)` hears of an attempt that has ended on an
endpoint that is gone.

`settle` is the one place where an attempt's end reaches its lease: released, or observed where the response is still
open and so owns the lease until its body has ended.
"""

from collections.abc import Callable

from kubelb.core.lease import Lease
from kubelb.model import CANCELLED, Outcome

__all__ = ["settle", "settle_cancelled", "stay"]


def stay(lease: Lease) -> None:
    """For clients that keep nothing for an endpoint."""


def settle(lease: Lease, outcome: Outcome, left: Callable[[Lease], None] = stay) -> Outcome:
    """Report `outcome` to the lease it belongs to; returns it."""
    outcome.lease = lease
    if outcome.open:
        lease.observe(outcome)
        return outcome
    lease.release(outcome)
    if lease.state.removed:
        left(lease)
    return outcome


def settle_cancelled(lease: Lease, left: Callable[[Lease], None] = stay) -> None:
    """Release the lease of an attempt that ended because it is not wanted any more."""
    try:
        lease.release(CANCELLED)
    finally:
        if lease.state.removed:
            left(lease)
