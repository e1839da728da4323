"""What a gRPC status means for health and retry.

| status             | verdict   | another endpoint may do better |
| UNAVAILABLE        | FAILED    | yes |
| INTERNAL, UNKNOWN  | FAILED    | no: an answer of the application, or of a bug |
| RESOURCE_EXHAUSTED | BUSY      | where the server said when: by its pushback |
| DEADLINE_EXCEEDED  | SILENT    | no: the call's own time is over |
| CANCELLED, by us   | CANCELLED | no |
| CANCELLED, by it   | NEUTRAL   | yes: it is leaving, as a rule |
| all else           | OK        | no: the caller's fault, and an answer; a refusal |

DEADLINE_EXCEEDED is silence where the call had a deadline and the caller waited for its first message. The time at
which it came tells whether it was that deadline or the server's own word (`kubelb.core.health.silence`). Without a
deadline it is CANCELLED.

Where grpcio makes one of these of what the caller's own code has done, no endpoint is to blame. It says so in words,
and a server can write the same: one that passes on the error of a call of its own does. So the words count only where
core has no account of the end: grpcio keeps core's own string for every status that core has brought, whichever side
made it, and has none, or an empty one, for a status that it has made by itself. That credentials give no token is seen
by core alone, and its words are like a server's. So that is an UNAVAILABLE like any other: it makes all endpoints fail
alike, and then none stays ejected.

"Larger than max" counts whichever side writes it: a limit of size, this channel's or the server's, is no load.

A server's ``grpc-retry-pushback-ms`` (gRFC A6) is a number of milliseconds to wait, or, negative or not a number, the
order not to try again.

No status says that a request was never sent. Core has words for a request that has found no connection, but a server
can write the same, and one that passes on the error of its own upstream does so. Core's debug string has the words in
both cases, and there is nothing else to tell the two apart. The state of the sub-channel does not tell either: two
looks may find no connection, and between them there may have been one, with the call on it. So what has begun may have
been processed. That costs little, for only connections that are ready are picked: of the calls in flight on a pod that
is killed, less than one in ten. gRPC itself repeats what a server says it has not looked at (GOAWAY, a refused stream)
on a connection of its own, so that does not come here.

But a `grpc.Server` that stops answers CANCELLED to what arrives before its GOAWAY has: to calls that it has not begun,
and, after the grace, to calls that it has. Nothing tells the two apart, so such a call may have been processed. Core
has no account of what this process has cancelled either, and there is nothing to repeat. Nor is there anything to
repeat where the channel was closed under the call, or left behind in a fork.
"""

from typing import Any

from grpc import StatusCode
from grpc.aio import AioRpcError

from kubelb.model import Outcome, Sent, Verdict

__all__ = ["BROKEN", "made_here", "outcome_of"]

_TOO_LARGE = "larger than max"
"""Of "Sent message larger than max", "Received message larger than max"."""
_OWN = (
    "Exception serializing request!",
    "Invalid metadata",
    "Exception deserializing response!",
    "Exception iterating requests!",
)
"""What grpcio itself makes INTERNAL or UNKNOWN of: the caller's code raised, or gave what cannot be sent."""
_PUSHBACK = "grpc-retry-pushback-ms"

BROKEN = frozenset({StatusCode.UNAVAILABLE, StatusCode.INTERNAL, StatusCode.UNKNOWN})
"""Failures of the endpoint; those of a connection that broke are among them."""


def outcome_of(error: Any, overdue: float | None = None, *, left: bool = False) -> Outcome:
    """Return the outcome of an attempt that ended with this RpcError, which is also a finished call.

    `overdue` is in seconds since the end of the call's deadline, negative before it; None where there is none. `left`
    says that its channel was closed, or is a parent process's.
    """
    code, details = error.code(), error.details() or ""
    reason = code.name if code is not None else "no status"
    if code in BROKEN and details.startswith(_OWN) and made_here(error):
        return Outcome(Verdict.NEUTRAL, reason=reason, error=error)
    if code is StatusCode.UNAVAILABLE:
        wait, again = _pushback(error)
        return Outcome(Verdict.FAILED, sent=Sent.MAYBE, retryable=again, retry_after=wait, reason=reason, error=error)
    if code is StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE not in details:
        wait, again = _pushback(error)
        return Outcome(Verdict.BUSY, retryable=again and wait is not None, retry_after=wait, reason=reason, error=error)
    if code is StatusCode.CANCELLED and not (left or made_here(error)):
        wait, again = _pushback(error)
        return Outcome(Verdict.NEUTRAL, sent=Sent.MAYBE, retryable=again, retry_after=wait, reason=reason, error=error)
    if code is StatusCode.DEADLINE_EXCEEDED and overdue is not None:
        return Outcome(Verdict.SILENT, sent=Sent.MAYBE, overdue=overdue, reason=reason, error=error)
    if code is StatusCode.CANCELLED or code is StatusCode.DEADLINE_EXCEEDED:
        return Outcome(Verdict.CANCELLED, sent=Sent.MAYBE, reason=reason, error=error)
    if code in BROKEN:
        return Outcome(Verdict.FAILED, reason=reason, error=error)
    return Outcome(refusal=True, reason=reason, error=error)


def made_here(error: Any) -> bool:
    """Whether grpcio has made this status by itself: then it has no account of core's, which no server can bring about.

    A sync call is asked for that privately. Its public question waits, where there is none, for one to come.
    """
    if isinstance(error, AioRpcError):
        return not error.debug_error_string()
    state = getattr(error, "_state", None)
    return state is not None and not getattr(state, "debug_error_string", "unknown")


def _pushback(error: Any) -> tuple[float | None, bool]:
    """Return the seconds that the server asks for, if it does, and whether it allows another try at all."""
    for name, value in error.trailing_metadata() or ():
        if name == _PUSHBACK:
            text = value.decode("latin-1") if isinstance(value, bytes) else value
            if text.isascii() and text.isdigit():
                return int(text[:9]) / 1000, True
            return None, False
    return None, True
