"""What a gRPC status means for health and retry.

| status             | verdict   | another endpoint may do better |
| UNAVAILABLE        | FAILED    | yes |
| INTERNAL, UNKNOWN  | FAILED    | no: an answer of the application, or of a bug |
| RESOURCE_EXHAUSTED | BUSY      | where the server said when: by its pushback |
| DEADLINE_EXCEEDED  | SILENT    | no: the call's own time is over |
| CANCELLED, by us   | CANCELLED | no |
| CANCELLED, by it   | NEUTRAL   | yes: it is leaving, as a rule |
| all else           | OK        | no: the caller's fault, and an answer |

DEADLINE_EXCEEDED is silence where the call had a deadline and somebody waited for its first message; when it came tells
whether it was that deadline or the server's own word (`kubelb.core.health.silence`). Without one it is CANCELLED.

Where grpcio makes one of these of what the caller's own code has done, nobody is to blame.

A server's ``grpc-retry-pushback-ms`` (gRFC A6) is a number of milliseconds to wait, or, negative or not a number, the
order not to try again.

No status says that a request was never sent. Core has words for a request that has found no connection, but a server
can write the same, and one that hands on what its own upstream said does so; core's debug string bears them alike, and
there is nothing else to tell the two apart. So what has begun may have been processed. What that costs is little, for
only connections that are ready are picked: of the calls in flight on a pod that is killed, less than one in ten. gRPC
itself repeats what a server says it has not looked at (GOAWAY, a refused stream) on a connection of its own, so that
does not come here.

But a `grpc.Server` that stops answers CANCELLED to what arrives before its GOAWAY has: calls that it has not begun, and
after the grace those that it has, which nothing tells apart. So such a call may have been processed. What this process
cancelled bears grpcio's own words for that, and there is nothing to repeat.
"""

from typing import Any

from grpc import StatusCode

from kubelb.model import Outcome, Sent, Verdict

__all__ = ["BROKEN", "outcome_of"]

_TOO_LARGE = "larger than max"
"""Of "Sent message larger than max", "Received message larger than max": limits of this channel, no load of a pod."""
_OWN = (
    "Exception serializing request!",
    "Invalid metadata",
    "Exception deserializing response!",
    "Exception iterating requests!",
    "Getting metadata from plugin failed",
    "Illegal metadata",
)
"""What grpcio makes INTERNAL, UNKNOWN or UNAVAILABLE of: the caller's code raised, or gave what cannot be sent."""
_HERE = frozenset(
    {
        "Locally cancelled by application!",
        "Cancelled upon garbage collection!",
        "Channel closed!",
        "Channel deallocated!",
        "Call cancelled in fork child",
    }
)
"""grpcio's words for what was cancelled in this process: by `cancel()`, with its call object, with its channel."""
_PUSHBACK = "grpc-retry-pushback-ms"

BROKEN = frozenset({StatusCode.UNAVAILABLE, StatusCode.INTERNAL, StatusCode.UNKNOWN})
"""Failures of the endpoint; those of a connection that broke are among them."""


def outcome_of(error: Any, overdue: float | None = None) -> Outcome:
    """Return the outcome of an attempt that ended with this RpcError, which is also a finished call.

    `overdue` is in seconds since the end of the call's deadline, negative before it; None where there is none.
    """
    code, details = error.code(), error.details() or ""
    reason = code.name if code is not None else "no status"
    if code in BROKEN and details.startswith(_OWN):
        return Outcome(Verdict.NEUTRAL, reason=reason, error=error)
    if code is StatusCode.UNAVAILABLE:
        wait, again = _pushback(error)
        return Outcome(Verdict.FAILED, sent=Sent.MAYBE, retryable=again, retry_after=wait, reason=reason, error=error)
    if code is StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE not in details:
        wait, again = _pushback(error)
        return Outcome(Verdict.BUSY, retryable=again and wait is not None, retry_after=wait, reason=reason, error=error)
    if code is StatusCode.CANCELLED and details not in _HERE:
        wait, again = _pushback(error)
        return Outcome(Verdict.NEUTRAL, sent=Sent.MAYBE, retryable=again, retry_after=wait, reason=reason, error=error)
    if code is StatusCode.DEADLINE_EXCEEDED and overdue is not None:
        return Outcome(Verdict.SILENT, sent=Sent.MAYBE, overdue=overdue, reason=reason, error=error)
    if code is StatusCode.CANCELLED or code is StatusCode.DEADLINE_EXCEEDED:
        return Outcome(Verdict.CANCELLED, sent=Sent.MAYBE, reason=reason, error=error)
    return Outcome(Verdict.FAILED if code in BROKEN else Verdict.OK, reason=reason, error=error)


def _pushback(error: Any) -> tuple[float | None, bool]:
    """Return the seconds that the server asks for, if it does, and whether it allows another try at all."""
    for name, value in error.trailing_metadata() or ():
        if name == _PUSHBACK:
            text = value.decode("latin-1") if isinstance(value, bytes) else value
            if text.isascii() and text.isdigit():
                return int(text[:9]) / 1000, True
            return None, False
    return None, True
