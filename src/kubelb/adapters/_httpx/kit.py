"""Kit: httpx or httpx2 with its httpcore, and what their exceptions mean.

What is neither httpcore's nor a socket's error is not known: it blames none, but is no quick success either. An answer
that h11 cannot read is told from a connection that ended by its context, which is h11's.

"Never sent" is what httpcore raises before it writes: connect errors and timeouts (a failed TLS handshake is one of
them) and a wait for the pool, as long as it had not begun to write: a body's producer, or a trace function, may raise
the same of a connection of its own. All else may have been processed. A connection that breaks before the first byte of
an answer blames the endpoint only if it was new: an idle one may have been closed by the server at any time. Nor does
one that breaks while the request is being written: a server that answers early (413) and closes looks like that. One
that its kernel has given up, for the peer's acknowledges nothing, is another matter: that node has vanished. A timeout
is silence, of which `kubelb.core.health.silence` makes what it counts. What ends a stream or a connection of
HTTP/2 says itself what it means (`http2/endings.py`).
"""

from types import ModuleType
from typing import Any

from kubelb.adapters._httpx.body import Body
from kubelb.adapters._httpx.http2.endings import judgement
from kubelb.adapters._httpx.timeouts import Timeouts
from kubelb.adapters.refusals import Refusals
from kubelb.adapters.sockets import gone
from kubelb.lazily import once
from kubelb.model import BAD_ANSWER, Outcome, Sent, Verdict

__all__ = ["Kit"]

# Of the same names in both modules; the most specific ones first.
_EXCEPTIONS = (
    "ConnectTimeout",
    "ReadTimeout",
    "WriteTimeout",
    "PoolTimeout",
    "ConnectError",
    "ReadError",
    "WriteError",
    "ProxyError",
    "LocalProtocolError",
    "RemoteProtocolError",
    "UnsupportedProtocol",
    "TimeoutException",
    "NetworkError",
    "ProtocolError",
)


# httpcore lets some through as they are: asyncio's TLS alerts, for one, when a server wants another client certificate.
_SOCKETS = (Verdict.FAILED, Sent.MAYBE, True, "connection error")


class Kit:
    """What the transports need from the two modules; made once per pair."""

    def __init__(self, httpx: ModuleType, httpcore: ModuleType) -> None:
        self.httpx: Any = httpx
        self.httpcore: Any = httpcore
        self.Body: Any = type("Body", (Body, httpx.SyncByteStream), {"__doc__": Body.__doc__})
        self.Request = _trusting(httpcore)
        self.URL = _known(httpcore)
        self._mapped = [(getattr(httpcore, name), getattr(httpx, name)) for name in _EXCEPTIONS]
        self._outcomes: dict[type, tuple[Verdict, Sent, bool, str]] = {
            httpcore.ConnectError: (Verdict.FAILED, Sent.NEVER, True, "connect error"),
            httpcore.ConnectTimeout: (Verdict.SILENT, Sent.NEVER, True, "connect timeout"),
            httpcore.PoolTimeout: (Verdict.NEUTRAL, Sent.NEVER, True, "pool timeout"),
            httpcore.ReadTimeout: (Verdict.SILENT, Sent.MAYBE, True, "read timeout"),
            httpcore.WriteTimeout: (Verdict.SILENT, Sent.MAYBE, True, "write timeout"),
            httpcore.ReadError: (Verdict.FAILED, Sent.MAYBE, True, "read error"),
            httpcore.WriteError: (Verdict.FAILED, Sent.MAYBE, True, "write error"),
            httpcore.RemoteProtocolError: (Verdict.FAILED, Sent.MAYBE, True, "disconnected"),
        }
        self._callers = httpcore.LocalProtocolError, httpcore.UnsupportedProtocol
        self._broken = {httpcore.ReadError, httpcore.WriteError, httpcore.RemoteProtocolError}
        self.refusal = Refusals(httpx.ConnectError, httpx.TimeoutException, _request=None).of

    # What follows is made when it is first asked for: a sync program, or one without HTTP/2, never needs it.

    @once
    def Http2Pool(self) -> Any:  # noqa: N802  # a class
        """The sync pool whose connections can be of HTTP/2; needs h2."""
        from kubelb.adapters._httpx.http2.pool import sync_pool

        return sync_pool(self.httpcore)

    @once
    def AsyncBody(self) -> Any:  # noqa: N802
        """The body of a response under asyncio, as the stream class that this httpx insists on."""
        from kubelb.adapters._httpx.abody import AsyncBody

        return type("AsyncBody", (AsyncBody, self.httpx.AsyncByteStream), {"__doc__": AsyncBody.__doc__})

    @once
    def AsyncPool(self) -> Any:  # noqa: N802
        """The asyncio pool."""
        from kubelb.adapters._httpx.apool import unhurried

        return unhurried(self.httpcore)

    @once
    def AsyncHttp2Pool(self) -> Any:  # noqa: N802
        """The asyncio pool whose connections can be of HTTP/2."""
        from kubelb.adapters._httpx.http2.apool import async_pool

        return async_pool(self.httpcore, self.AsyncPool)

    def around(self, kind: str, method: str) -> Any:
        """Return what an instrumentation of the whole process has put around the client's own transport, or None.

        OpenTelemetry's wraps the method of a class that this transport does not inherit, and would see none of its
        requests; it is called for them all the same, as (wrapped, instance, args, kwargs).
        """
        return getattr(getattr(getattr(self.httpx, kind), method), "_self_wrapper", None)

    def outcome(self, error: Exception, timeouts: Timeouts) -> Outcome:
        """Return what an exception says about the attempt; what is not httpcore's is the caller's own."""
        if not timeouts.producer_failed and (judged := judgement(error)) is not None:
            return Outcome(**judged._asdict())
        callers = timeouts.producer_failed or isinstance(error, self._callers)
        own = (Verdict.CANCELLED if callers else Verdict.ODD, Sent.MAYBE, False, type(error).__name__)
        if timeouts.producer_failed:
            verdict, sent, retryable, reason = own
        else:
            unknown = _SOCKETS if isinstance(error, OSError) else own
            verdict, sent, retryable, reason = self._outcomes.get(type(error), unknown)
        if type(error) is self.httpcore.RemoteProtocolError and type(error.__context__).__module__.startswith("h11."):
            reason = BAD_ANSWER
        if timeouts.sent and sent is Sent.NEVER:
            sent = Sent.MAYBE
        innocent = timeouts.cut_short or not timeouts.connected
        if type(error) in self._broken and reason != BAD_ANSWER and innocent and not gone(error):
            verdict = Verdict.NEUTRAL
        overdue = timeouts.overdue() if verdict is Verdict.SILENT else None
        fresh = sent is Sent.NEVER
        return Outcome(verdict, sent=sent, retryable=retryable, reason=reason, fresh=fresh, overdue=overdue)

    def mapped(self, error: Exception, request: Any) -> Exception:
        """Return httpx's exception for httpcore's, with the original as its cause."""
        for core, ours in self._mapped:
            if isinstance(error, core):
                mapped: Exception = ours(str(error) or ours.__name__, request=request)
                mapped.__cause__ = error
                return mapped
        if isinstance(error, OSError):
            broken: Exception = self.httpx.ReadError(str(error), request=request)
            broken.__cause__ = error
            return broken
        return error

    def unmapped(self, error: BaseException) -> BaseException:
        """Return the exception that `mapped` has made this one of."""
        return (isinstance(error, self.httpx.TransportError) and error.__cause__) or error


def _trusting(httpcore: Any) -> Any:
    """Return httpcore's Request without its checks of types, 4 us a request: all it is given is httpx's own."""

    class Request(httpcore.Request):  # type: ignore[misc]
        def __init__(self, method: bytes, url: Any, headers: Any, stream: Any, extensions: Any) -> None:
            self.method = method
            self.url = url
            self.headers = headers
            self.stream = stream
            self.extensions = extensions

    return Request


def _known(httpcore: Any) -> Any:
    """Return httpcore's URL for parts that httpx has checked. It is asked for its origin three times a request, and
    would make one each time.
    """

    class URL(httpcore.URL):  # type: ignore[misc]
        origin = None  # in the place of a property

        def __init__(self, scheme: bytes, host: bytes, port: int | None, target: bytes, origin: Any) -> None:
            self.scheme = scheme
            self.host = host
            self.port = port
            self.target = target
            self.origin = origin

    return URL
