"""What urllib3's exceptions say about an attempt, and which of requests' a user gets for them.

Whether a byte was written is not guessed from the type of an exception but noted by the connection (see `bounds.py`):
an SSLError may be a handshake that failed, or the alert of a server that refuses a client certificate after the first
request. A connection that breaks before the first byte of an answer blames the endpoint only if it was new: an idle one
may have been closed by the server at any time. Nor does one that breaks while the request is being written: a server
that answers early (413) and closes looks like that. One that the kernel has given up, for its peer's acknowledges
nothing, is another matter: that node has vanished. A timeout is silence, of which `kubelb.core.health.silence` makes
what it counts.
"""

from http.client import HTTPException

import requests
import urllib3.exceptions as core

from kubelb.adapters._requests.bounds import Bounds
from kubelb.adapters.sockets import gone
from kubelb.model import BAD_ANSWER, Outcome, Sent, Verdict

__all__ = ["outcome_of"]


def outcome_of(error: Exception, bounds: Bounds, request: requests.PreparedRequest) -> Outcome:
    """Return the outcome of an attempt that raised; its `error` is what the user gets, should it be the last."""
    if not isinstance(error, core.HTTPError | OSError) or isinstance(error, requests.RequestException):
        callers = bounds.producer_failed or isinstance(error, requests.RequestException)
        verdict = Verdict.CANCELLED if callers else Verdict.ODD  # what is not known is no quick success
        return Outcome(verdict, sent=Sent.MAYBE, reason=type(error).__name__, error=error)
    inner: BaseException = error
    if isinstance(error, core.MaxRetryError):
        inner = error.reason or error
        _forget_query(error)
    timed_out = _timed_out(inner)
    mapped = _mapped(error, inner, never_sent=not bounds.sent, timed_out=timed_out)
    mapped.request = request
    mapped.__cause__ = error
    if bounds.producer_failed:
        return Outcome(Verdict.CANCELLED, sent=Sent.MAYBE, reason="body not produced", error=mapped)
    if isinstance(inner, core.ClosedPoolError) and not bounds.sent:  # the adapter was closed meanwhile
        return Outcome(Verdict.NEUTRAL, sent=Sent.NEVER, retryable=True, fresh=True, reason="pool closed", error=mapped)
    if not bounds.sent:
        reason = "connect timeout" if timed_out else "connect error"
        verdict = Verdict.SILENT if timed_out else Verdict.FAILED
        return Outcome(verdict, sent=Sent.NEVER, retryable=True, fresh=True, reason=reason, error=mapped)
    if timed_out:
        reason = "read timeout" if isinstance(inner, core.ReadTimeoutError) else "write timeout"
        overdue = bounds.overdue()
        return Outcome(Verdict.SILENT, sent=Sent.MAYBE, retryable=True, overdue=overdue, reason=reason, error=mapped)
    if _unreadable(inner):
        return Outcome(Verdict.FAILED, sent=Sent.MAYBE, retryable=True, reason=BAD_ANSWER, error=mapped)
    blamed = (bounds.connected and not bounds.cut_short) or gone(inner)
    verdict = Verdict.FAILED if blamed else Verdict.NEUTRAL
    return Outcome(verdict, sent=Sent.MAYBE, retryable=True, reason="disconnected", error=mapped)


def _mapped(error: Exception, inner: BaseException, *, never_sent: bool, timed_out: bool) -> requests.RequestException:
    """Return requests' exception, as its own adapter would raise it but for one case.

    A TLS handshake that times out is a ReadTimeout there; here it is a ConnectTimeout, which its users know to be safe
    to repeat.
    """
    if never_sent and timed_out:
        return requests.exceptions.ConnectTimeout(error)
    if isinstance(inner, core.SSLError):
        return requests.exceptions.SSLError(error)
    if isinstance(inner, core.ReadTimeoutError):
        return requests.exceptions.ReadTimeout(error)
    if isinstance(inner, core.InvalidHeader):
        return requests.exceptions.InvalidHeader(error)
    return requests.exceptions.ConnectionError(error)


def _forget_query(error: core.MaxRetryError) -> None:
    """urllib3's words repeat the URL, and a query holds tokens and signatures as often as not."""
    path, query, _ = (error.url or "").partition("?")
    if query:
        whole, error.url = str(error.url), path
        error.args = tuple(each.replace(whole, path) if isinstance(each, str) else each for each in error.args)
        if "_message" in vars(error):  # urllib3 keeps its words for a copy by pickle
            vars(error)["_message"] = str(vars(error)["_message"]).replace(whole, path)


def _unreadable(inner: BaseException) -> bool:
    """Whether there was an answer, and http.client or urllib3 cannot read it; a connection that ended is an OSError."""
    found = (inner, *inner.args)
    return any(isinstance(each, core.InvalidHeader | HTTPException) and not isinstance(each, OSError) for each in found)


def _timed_out(inner: BaseException) -> bool:
    if isinstance(inner, core.NewConnectionError):  # a subclass of ConnectTimeoutError, and refused
        return False
    return isinstance(inner, core.TimeoutError | TimeoutError) or any(
        isinstance(part, TimeoutError) for part in inner.args
    )
