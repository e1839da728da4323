"""What HTTP means for health and retry, whichever client speaks it.

| status            | verdict | another endpoint may do better |
| 429               | BUSY    | where it gave a Retry-After: at once; two that say so are the caller's own limit |
| 503, Retry-After  | FULL    | yes: at once |
| 502, 503, 504     | FAILED  | yes |
| 501               | OK      | no: no endpoint implements it; a refusal |
| other 5xx         | FAILED  | no: 500 is an answer of the application |
| other 4xx but 408 | OK      | no: the caller's fault, and an answer; a refusal |
| all else          | OK      | no |

A refusal is no failure. But a pod that refuses at once what others answer is not to draw traffic for that
(`Outcome.refusal`).
"""

from collections.abc import Iterable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from kubelb.clock import wall
from kubelb.model import ANY, IDEMPOTENT, Outcome, Request, Verdict

__all__ = ["IDEMPOTENT_METHODS", "PROXY_ONLY", "balanced", "carrying", "for_pods", "judge_status", "retry_after"]

IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""RFC 9110, 9.2.2. Others are repeated only with an Idempotency-Key header, a hint, or proof that nothing was sent."""

PROXY_ONLY = "proxy-authorization"
"""What a proxy on the way is to see, and no pod: there is none on the way to a pod (RFC 9110, 11.7.2).

requests puts it on redirects where the environment or the session has a proxy with a password; httpx carries it to any
host when it follows a redirect. Which of them it was, or a caller that set it by hand, cannot be seen from here.
"""
_PROXY_ONLY = PROXY_ONLY.encode()
_ELSEWHERE = frozenset({502, 503, 504})
_ONCE = Request(replayable=False)
_ONCE_IDEMPOTENT = Request(idempotent=True, replayable=False)


def balanced(idempotent: bool, replayable: bool) -> Request:
    """Return what the balancer needs to know of a request without a key: one of four constants."""
    if replayable:
        return IDEMPOTENT if idempotent else ANY
    return _ONCE_IDEMPOTENT if idempotent else _ONCE


def carrying(headers: Iterable[tuple[bytes, bytes]], carrier: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Return the headers of one attempt: its own trace context in the place of any other. Names are in lower case."""
    own = {name.encode("latin-1"): value.encode("latin-1", "replace") for name, value in carrier.items()}
    return [*(header for header in headers if header[0].lower() not in own), *own.items()]


def for_pods(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the headers without what is a proxy's alone: nearly always the same list."""
    for name, _ in headers:
        if len(name) == 19 and name.lower() == _PROXY_ONLY:  # the length first: 30 ns a header
            return [header for header in headers if header[0].lower() != _PROXY_ONLY]
    return headers


def judge_status(status: int, headers: Iterable[tuple[bytes, bytes]]) -> Outcome | None:
    """Return the outcome of a response with this status, None for an ordinary one: below 400, and 408."""
    if status < 400 or status == 408 or status > 599:
        return None
    if (status < 500 and status != 429) or status == 501:
        return Outcome(refusal=True, reason=str(status), open=True)
    hint = retry_after(headers)
    if status == 429:
        return Outcome(Verdict.BUSY, retryable=hint is not None, retry_after=hint, reason="429", open=True)
    if status == 503 and hint:  # 0 is no word of load: "come again at once" is what a broken one may say for ever
        return Outcome(Verdict.FULL, retryable=True, retry_after=hint, reason="503", open=True)
    return Outcome(Verdict.FAILED, retryable=status in _ELSEWHERE, retry_after=hint, reason=str(status), open=True)


def retry_after(headers: Iterable[tuple[bytes, bytes]]) -> float | None:
    """Return the seconds of a Retry-After header (a number, or a date by the wall clock); None for none or nonsense."""
    for name, value in headers:
        if name.lower() == b"retry-after":
            text = value.decode("latin-1").strip()
            if text.isascii() and text.isdigit():
                return float(text[:9])
            try:
                date = parsedate_to_datetime(text)
                return max(0.0, date.replace(tzinfo=date.tzinfo or UTC).timestamp() - wall())
            except (ValueError, OverflowError):
                return None
    return None
