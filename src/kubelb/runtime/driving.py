"""What the three drivers share: settling attempts, and the verbs that an adapter gives them.

An adapter describes its client by three functions. `send(step)` makes one attempt on `step.lease` and returns its
Outcome; it raises only what means "stop everything" (cancellation, KeyboardInterrupt). `discard(outcome)` throws an
open response away that will not be read. `abort(lease)` ends a running attempt from outside, where the client can.

`settle` is the one place where an attempt's end reaches its lease: released, or observed where the response is still
open and so owns the lease until its body has ended.
"""

from kubelb.core.lease import Lease
from kubelb.model import CANCELLED, Outcome

__all__ = ["settle", "settle_cancelled"]


def settle(lease: Lease, outcome: Outcome) -> Outcome:
    """Report `outcome` to the lease it belongs to; returns it."""
    outcome.lease = lease
    if outcome.open:
        lease.observe(outcome)
    else:
        lease.release(outcome)
    return outcome


def settle_cancelled(lease: Lease) -> None:
    """Release the lease of an attempt that ended because it is not wanted any more."""
    lease.release(CANCELLED)
