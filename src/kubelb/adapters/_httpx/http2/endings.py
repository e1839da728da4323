"""How a stream or a connection ends, and what that says.

| end                                   | verdict        | sent  | elsewhere? |
| REFUSED_STREAM before any answer      | FULL           | never | yes, a POST too |
| above GOAWAY's last stream            | by its code    | never | yes, a POST too |
| RST_STREAM ENHANCE_YOUR_CALM          | BUSY           | maybe | if idempotent |
| RST_STREAM of any other code          | FAILED         | maybe | if idempotent |
| connection ends after GOAWAY          | by its code    | maybe | if idempotent |
| connection ends otherwise             | FAILED         | maybe | if idempotent |
| connection closed by this process     | CANCELLED      | maybe | no |

NO_ERROR and CANCEL are no exception among the resets: before the answer is whole they are the peer's decision not to
give it, whatever its reason, and a pod that does so is no better than one that closes connections of HTTP/1.1. After
the whole answer a reset is no error at all (RFC 9113, 8.1), and nothing of it gets here. GOAWAY's codes:
ENHANCE_YOUR_CALM is BUSY, the others FAILED.

All that ends with one connection bears one `Incident`, and counts once. NO_ERROR makes it a planned one, which the core
believes within bounds, so long as the connection has served anything: a pod that sends every client away at once
counts as one that refuses. It is believed of the streams above GOAWAY's last one, and of one more: where the connection
ends with several that were to be answered, these have an incident of their own, which is a failure.

REFUSED_STREAM is "full", as a 503 with Retry-After is: the peer is there, speaks HTTP/2 and has looked at no more than
the headers. It is what servers say at a limit of streams that this side cannot know yet, when they shed load, and when
they drain. It names no time, so the endpoint rests for a short one (`MOMENT`): one that refuses everything is asked a
few times a second, whatever the policy, and has its traffic back as soon as it takes any.

Where something of an answer has come before, a 1xx too, neither that nor GOAWAY's last stream is believed.
"""

from typing import Any, NamedTuple

from kubelb.model import Incident, Sent, Verdict

__all__ = ["NO_ERROR", "Judged", "code_name", "judgement", "reset", "verdict_of", "with_judgement"]

NO_ERROR, REFUSED_STREAM, ENHANCE_YOUR_CALM = 0x0, 0x7, 0xB
MOMENT = 0.25
"""Seconds; what a call without a deadline waits for, too, where no other endpoint has room."""
_NAMES = (
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
)


class Judged(NamedTuple):
    """What an exception says of the attempt that it ended; in its attribute `judged`."""

    verdict: Verdict
    sent: Sent = Sent.MAYBE
    retryable: bool = True
    reason: str = ""
    fresh: bool = False
    """Nothing of the request's body was taken from its producer."""
    incident: Incident | None = None
    """What it shares with the other streams of its connection."""
    retry_after: float | None = None
    """Seconds for which the endpoint is full."""


def judgement(error: Exception) -> Judged | None:
    """Return what an exception says; None where it is not one of these."""
    judged: Judged | None = getattr(error, "judged", None)
    return judged


def with_judgement(error: Exception, judged: Judged) -> Exception:
    """Return the exception with what it says."""
    error.judged = judged  # type: ignore[attr-defined]
    return error


def code_name(code: int) -> str:
    """Return the name of an error code; a number where it has none."""
    return _NAMES[code] if code < len(_NAMES) else f"error {code:#x}"


def verdict_of(code: int) -> Verdict:
    """Return what GOAWAY with this code says of the peer."""
    return Verdict.BUSY if code == ENHANCE_YOUR_CALM else Verdict.FAILED


def reset(core: Any, code: int, *, answered: bool, fresh: bool) -> Exception:
    """Return the exception for RST_STREAM with this code; `answered`: something of an answer had come before."""
    name = code_name(code)
    if code == REFUSED_STREAM and not answered:
        judged = Judged(Verdict.FULL, Sent.NEVER, reason=name, fresh=fresh, retry_after=MOMENT)
    else:
        judged = Judged(Verdict.BUSY if code == ENHANCE_YOUR_CALM else Verdict.FAILED, reason=name)
    return with_judgement(core.RemoteProtocolError(f"the server reset the stream: {name}"), judged)
