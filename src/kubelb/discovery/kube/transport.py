"""`Get` and `READ` over HTTP, with an answer for every way in which they can end.

One connection at a time: the list's is kept for the watch. Nothing is tried again here, and no redirect followed;
whether and when to try again is the reflector's business. Timeouts are for each wait: connecting
`connect_timeout`, the TLS handshake the same and more where that was not enough, the rest `read_timeout`, which a
bookmark a minute resets. The whole of an answer, from the request to the last trailer, has an allowance of seconds and
bytes (`allowance.py`), and so has each piece of a watch.
"""

import http.client
import ssl
from collections.abc import Callable, Iterator

from kubelb.discovery.kube.access import Access, CredentialsError, Issued, Locator
from kubelb.discovery.kube.allowance import Allowance, UnreadableError
from kubelb.discovery.kube.body import LARGEST, ZIPPED, beginning, decodable, pieces, whole
from kubelb.discovery.kube.connection import Connection, Handshakes, Headers
from kubelb.discovery.kube.lifeline import Lifeline
from kubelb.discovery.kube.steps import Failure, Get, Phase, Reply
from kubelb.discovery.kube.wording import certificate_refused, why
from kubelb.masking import Hidden, remember
from kubelb.records import replace

__all__ = ["CONNECT_TIMEOUT", "READ_TIMEOUT", "Transport"]

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 70.0
"""Longer than the minute between two bookmarks, shorter than the 75 s of history that a watch cache keeps at least."""

HEADER = 1 << 20
"""Bytes of all that comes before the body."""
AROUND = 1 << 24
"""Bytes for a piece of a watch, with all that is around it, such as trailers."""
LONGEST = 300.0
"""Seconds for the whole of an answer, or for each piece of a watch: one that drips is never silent for long."""
_ERRORS = (UnreadableError, OSError, http.client.HTTPException, ValueError)


class Transport:
    """One stream's way to the API server."""

    def __init__(
        self,
        locator: Locator,
        lifeline: Lifeline,
        warn: Callable[[str], None],
        *,
        connected: Callable[[float], object] = float,
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
    ) -> None:
        """`connected` is called where a request had to connect, with the seconds that it took, before it is sent."""
        self._locator = locator
        self._line = lifeline
        self._warn = warn
        self._handshakes = Handshakes(connect_timeout, connected)
        self._allowance = Allowance()
        self._timeouts = connect_timeout, read_timeout
        self._dials = 0  # of the lifeline, when the last request was made
        self._access: Access | None = None
        self._context: ssl.SSLContext | None = None
        self._connection: Connection | None = None
        self._pieces: Iterator[bytes] | None = None

    @property
    def server(self) -> str:
        """Where to, "" while that is unknown."""
        return self._access.server.partition("://")[2].partition("/")[0] if self._access else ""

    def get(self, step: Get) -> Reply | Failure:
        """Ask, and read the answer unless it is a stream."""
        return self._ask(step, None)

    def post(self, path: str, body: bytes) -> Reply | Failure:
        """Ask by an object that is made for the question: an access review."""
        return self._ask(Get(path), body)

    def _ask(self, step: Get, posted: bytes | None) -> Reply | Failure:
        self.hang_up(keep=True)
        self._line.phase = Phase.CREDENTIALS
        try:
            access, connection, header = self._prepare(step.fresh)
        except CredentialsError as error:
            return Failure(Phase.CREDENTIALS, error.reason, error.cure, missing_extra=error.missing_extra)
        headers: Headers = [("Accept", "application/json"), ("User-Agent", "kubelb"), *access.impersonate]
        # A list of 10 000 endpoints is 3.6 MB, zipped 0.5; the server zips only if asked, and never a watch.
        headers.append(("Accept-Encoding", "identity" if step.watch else "gzip"))
        if header:
            headers.append(("Authorization", header))
        if posted is not None:
            headers += [("Content-Type", "application/json"), ("Content-Length", str(len(posted)))]
        self._line.phase = Phase.HEADERS
        self._dials = self._line.dials
        self._allowance.begin("its header", LONGEST, HEADER, spent=step.spent)
        try:
            answer = connection.ask("GET" if posted is None else "POST", step.path, headers, posted or b"")
            stream = step.watch and answer.status == 200
            self._line.phase = Phase.STREAM if stream else Phase.BODY
            self._allowance.part("it", LARGEST)
            if answer.status == 200:
                decodable(answer, () if step.watch else ZIPPED)
            if stream:
                self._pieces = pieces(answer)
                body = b""
            else:
                body = whole(answer) if answer.status == 200 else beginning(answer)
        except _ERRORS as error:
            return self._failure(error)
        return Reply(answer.status, body, _seconds(answer.getheader("Retry-After")), access.server, access.origin)

    def read(self) -> bytes | Failure:
        """The next bytes of the watch, b"" at its end."""
        assert self._pieces is not None
        self._allowance.begin("a piece of it", LONGEST, AROUND)
        try:
            piece = next(self._pieces, b"")
        except _ERRORS as error:
            return self._failure(error)
        if not piece:
            self.hang_up()
        return piece

    def hang_up(self, *, keep: bool = False) -> None:
        """End what is open. `keep` the connection if its last answer was read to the end."""
        self._pieces = None
        if self._connection is not None and not (keep and self._connection.kept):
            self._connection.close()

    def close(self) -> None:
        """Leave nothing behind."""
        self.hang_up()
        self._connection = self._access = self._context = None

    def _prepare(self, fresh: bool) -> tuple[Access, Connection, str]:
        access = self._open(fresh)
        header, warning = access.credentials.header(fresh=fresh)
        remember(header)  # servers, and proxies in between, repeat it in their errors
        header = Hidden(header)
        if warning:
            self._warn(warning)
        access.check()
        context = access.ssl_context()
        before = self._access
        same = before is not None and replace(access, credentials=before.credentials) == before
        if self._connection is None or not same or context is not self._context:
            self.hang_up()
            given = access, context, self._line, self._handshakes, self._allowance, self._timeouts
            self._connection, self._context = way_of(access)(*given), context
        self._access = access
        return access, self._connection, header

    def _open(self, fresh: bool) -> Access:
        """What is known of the way in, read again if it was refused or has changed."""
        known = self._access
        if known is None:
            return self._locator.open()
        if not fresh and not known.outdated:
            return known
        if fresh and isinstance(known.credentials, Issued):
            known.credentials.refuse()
        try:
            return (known.again or self._locator).open()
        except CredentialsError as error:
            if fresh:
                raise
            # Half written, perhaps. What was known still works, or the server will say that it does not.
            self._warn(f"{error.reason}; what was read before stays in use")
            return known

    def _failure(self, error: Exception) -> Failure:
        phase = self._line.phase
        self.hang_up()
        assert self._access is not None
        new = self._line.dials != self._dials and phase is Phase.HEADERS
        issued = self._access.credentials
        if isinstance(issued, Issued) and issued.certificate() and certificate_refused(error, new=new):
            issued.refuse()
        reason, cure, silent = why(error, phase, self._access)
        return Failure(phase, reason, cure, silent, malformed=isinstance(error, UnreadableError))


def way_of(access: Access) -> type[Connection]:
    """What to reach its server by. Of a proxy nothing is imported where there is none."""
    if access.proxy is None:
        return Connection
    from kubelb.discovery.kube.proxied import Proxied

    return Proxied


def _seconds(text: str | None) -> float:
    """Retry-After in seconds. API servers send a number; a date is a proxy's, and the backoff serves it well enough."""
    return float(text) if text and text.isascii() and text.isdigit() and len(text) < 7 else 0.0
