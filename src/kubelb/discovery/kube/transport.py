"""`Get` and `READ` over urllib3, with an answer for every way in which they can end.

One connection at a time: the list's is kept for the watch. urllib3 retries nothing here, redirects nowhere, and reads
no environment; whether and when to try again is the reflector's business. Timeouts are for each wait: connecting
`connect_timeout`, the TLS handshake the same and more where that was not enough, the rest `read_timeout`, which a
bookmark a minute resets. The whole of an answer, from the request to the last trailer, has an allowance of seconds and
bytes (`allowance.py`), and so has each piece of a watch.
"""

import http.client
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import DecodeError, HTTPError

from kubelb.discovery.kube.access import Access, CredentialsError, Issued, Locator
from kubelb.discovery.kube.allowance import Allowance, UnreadableError
from kubelb.discovery.kube.body import LARGEST, ZIPPED, beginning, decodable, pieces, whole
from kubelb.discovery.kube.connection import Handshakes, pool_classes
from kubelb.discovery.kube.lifeline import Lifeline
from kubelb.discovery.kube.proxy import login_of
from kubelb.discovery.kube.steps import Failure, Get, Phase, Reply
from kubelb.discovery.kube.wording import certificate_refused, why
from kubelb.masking import Hidden, remember

__all__ = ["CONNECT_TIMEOUT", "READ_TIMEOUT", "Transport"]

SOCKS = ("socks4", "socks4a", "socks5", "socks5h")
"""What kubeconfigs may name and urllib3 cannot use."""
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 70.0
"""Longer than the minute between two bookmarks, shorter than the 75 s of history that a watch cache keeps at least."""

HEADER = 1 << 20
"""Bytes of all that comes before the body."""
AROUND = 1 << 24
"""Bytes for a piece of a watch, with all that is around it, such as trailers."""
LONGEST = 300.0
"""Seconds for the whole of an answer, or for each piece of a watch: one that drips is never silent for long."""
_ERRORS = (HTTPError, OSError, http.client.HTTPException, ValueError)


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
        self._timeout = urllib3.Timeout(connect=connect_timeout, read=read_timeout)
        self._dials = 0  # of the lifeline, when the last request was made
        self._access: Access | None = None
        self._context: ssl.SSLContext | None = None
        self._manager: urllib3.PoolManager | None = None
        self._response: urllib3.BaseHTTPResponse | None = None
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
            access, manager, header = self._prepare(step.fresh)
        except CredentialsError as error:
            return Failure(Phase.CREDENTIALS, error.reason, error.cure, missing_extra=error.missing_extra)
        headers = urllib3.HTTPHeaderDict({"Accept": "application/json", "User-Agent": "kubelb"})
        for name, value in access.impersonate:
            headers.add(name, value)  # a group is a header of its own
        # A list of 10 000 endpoints is 3.6 MB, zipped 0.5; the server zips only if asked, and never a watch.
        headers["Accept-Encoding"] = "identity" if step.watch else "gzip"
        if header:
            headers["Authorization"] = header
        if posted is not None:
            headers["Content-Type"] = "application/json"
        self._line.phase = Phase.HEADERS
        self._dials = self._line.dials
        self._allowance.begin("its header", LONGEST, HEADER, spent=step.spent)
        try:
            response = self._response = manager.request(
                "GET" if posted is None else "POST",
                access.server + step.path,
                body=posted,
                headers=headers,
                timeout=self._timeout,
                preload_content=False,
                retries=False,
                redirect=False,
            )
            stream = step.watch and response.status == 200
            self._line.phase = Phase.STREAM if stream else Phase.BODY
            self._allowance.part("it", LARGEST)
            if response.status == 200:
                decodable(response, () if step.watch else ZIPPED)
            if stream:
                self._pieces = pieces(response)
                body = b""
            else:
                body = whole(response) if response.status == 200 else beginning(response)
        except _ERRORS as error:
            return self._failure(error)
        return Reply(response.status, body, _seconds(response.headers.get("Retry-After")), access.server, access.origin)

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
        response, self._response, self._pieces = self._response, None, None
        if response is not None:
            if keep and response.closed:
                return
            response.close()
        if self._manager is not None and not keep:
            self._manager.clear()
            self._line.let_go()

    def close(self) -> None:
        """Leave nothing behind."""
        self.hang_up()
        self._manager = self._access = self._context = None

    def _prepare(self, fresh: bool) -> tuple[Access, urllib3.PoolManager, str]:
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
        if self._manager is None or not same or context is not self._context:
            self.hang_up()
            self._manager, self._context = _manager(access, context), context
            self._manager.pool_classes_by_scheme = pool_classes(self._line, self._handshakes, self._allowance)
        self._access = access
        return access, self._manager, header

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
        malformed = isinstance(error, UnreadableError | DecodeError)
        return Failure(phase, reason, cure, silent, malformed=malformed)


class _Proxies(urllib3.ProxyManager):
    def _set_proxy_headers(self, url: str, headers: Mapping[str, str] | None = None) -> Mapping[str, str]:
        """urllib3 makes a plain dict of them, and one header of several groups."""
        return urllib3.HTTPHeaderDict({"Host": urlsplit(url).netloc}) | (headers or {})


def _manager(access: Access, context: ssl.SSLContext | None) -> urllib3.PoolManager:
    options: dict[str, object] = {"num_pools": 1, "maxsize": 1}
    if context is not None:
        options["ssl_context"] = context
        if access.server_name:
            options["server_hostname"] = access.server_name
    try:
        if access.proxy is None:
            return urllib3.PoolManager(**options)  # type: ignore[arg-type]
        auth = urlsplit(access.proxy)
        login = login_of(access.proxy)
        if login is not None:
            options["proxy_headers"] = {"Proxy-Authorization": Hidden(login)}
        proxy = f"{auth.scheme}://{auth.netloc.rpartition('@')[2]}"
        return _Proxies(proxy, **options)  # type: ignore[arg-type]
    except (HTTPError, ValueError):
        scheme, separator, _ = (access.proxy or "").partition("://")
        other = f", not {scheme}" if scheme in SOCKS else ""  # of anything else nothing is told: a password, perhaps
        cure = f"give an http or https proxy{other}" if separator else "give http://HOST:PORT"
        raise CredentialsError(f"the proxy of {access.origin} cannot be used", cure) from None


def _seconds(text: str | None) -> float:
    """Retry-After in seconds. API servers send a number; a date is a proxy's, and the backoff serves it well enough."""
    return float(text) if text and text.isascii() and text.isdigit() and len(text) < 7 else 0.0
