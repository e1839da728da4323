"""A connection to an API server: dialled when it is needed, kept while it can be used again, one at a time.

It can be stopped while the name is looked up, while connecting, and ever after (`lifeline.py`). A TLS handshake has a
bound of its own, which grows where it was not enough: an API server that is overloaded must not be given handshakes
that are all thrown away, by every process, again and again.

The request is written here, and the answer is http.client's: nothing is imported that an HTTP client does not import
anyway, and nothing is used that mocks, tracers and debug switches of an application take hold of.
"""

import contextlib
import selectors
import socket
import ssl
from collections.abc import Callable
from typing import Any

from kubelb.clock import monotonic
from kubelb.discovery.kube.access import Access
from kubelb.discovery.kube.allowance import Allowance, Metered
from kubelb.discovery.kube.dial import dial
from kubelb.discovery.kube.lifeline import Lifeline
from kubelb.discovery.kube.resolve import forget, resolve
from kubelb.discovery.kube.site import Site
from kubelb.discovery.kube.steps import Phase

__all__ = ["Connection", "Handshakes", "Headers", "send", "written"]

LONGEST = 40.0
"""Seconds for a TLS handshake at most."""
Headers = list[tuple[str, str]]

# No delay by Nagle's algorithm. A peer that vanished without a word is noticed by the read timeout; keep-alives also
# tell the boxes in between that the connection is in use.
_OPTIONS = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1))


class Handshakes:
    """How long one may take: twice as long after each that took too long. `connected` is told how long one took."""

    def __init__(self, seconds: float, connected: Callable[[float], object] = float) -> None:
        self.seconds = seconds
        self.connected = connected

    def took_too_long(self) -> None:
        """Have more patience with the next one; for good, or each reconnect would begin by throwing one away."""
        self.seconds = max(self.seconds, min(2 * self.seconds, LONGEST))


class Connection:
    """Straight to the server; `Proxied` goes through a proxy."""

    def __init__(
        self,
        access: Access,
        context: ssl.SSLContext | None,
        lifeline: Lifeline,
        handshakes: Handshakes,
        allowance: Allowance,
        timeouts: tuple[float, float],
    ) -> None:
        """`context` is None for http. `timeouts` are for one wait, in seconds: to connect, and to read."""
        self.sock: socket.socket | None = None
        """What a forked child closes."""
        self._server = self._near = Site(access.server)
        self._certified = (access.server_name or self._server.name).strip("[]").partition("%")[0].rstrip(".")
        self._context = context
        self._lifeline = lifeline
        self._handshakes = handshakes
        self._allowance = allowance
        self._connect_timeout, self._read_timeout = timeouts
        self._stream: Any = None  # what is written to and read from, through as many layers as there are
        self._answer: Metered | None = None
        self._beside: Headers = []

    @property
    def kept(self) -> bool:
        """Whether it can be used again, as far as the last answer tells: it was read to its end, and does not close."""
        answer = self._answer
        return self.sock is not None and (answer is None or (answer.isclosed() and not answer.will_close))

    def ask(self, method: str, path: str, headers: Headers, body: bytes = b"") -> Metered:
        """Send a request, and return the answer with its header read. The one before must have been read, or is lost.

        Raises `OSError`, `HTTPException`, `UnreadableError`, and `ValueError` for a header that cannot be written.
        """
        if not self.kept or _readable(self.sock):  # at its end, or with something that was not asked for
            self.close()
            self._connect()
        stream = self._stream
        headers = [("Host", self._server.authority), *self._beside, *headers]
        send(stream, written(method, self._target(path), headers, body))
        answer = self._answer = Metered(stream, method=method, allowance=self._allowance)
        answer.begin()
        return answer

    def close(self) -> None:
        """Leave nothing open; the next request dials."""
        answer, self._answer = self._answer, None
        sock, self.sock, self._stream = self.sock, None, None
        if answer is not None:
            answer.close()
        if sock is not None:
            sock.close()
        self._lifeline.let_go()

    def _target(self, path: str) -> str:
        return self._server.prefix + path

    def _connect(self) -> None:
        began = monotonic()
        self.sock = sock = self._dial(self._near.host, self._near.port)
        sock.settimeout(self._handshakes.seconds)
        try:
            self._stream = stream = self._secure(sock)
        except TimeoutError:
            self._handshakes.took_too_long()
            raise
        stream.settimeout(self._read_timeout)
        self._lifeline.phase = Phase.HEADERS
        self._handshakes.connected(monotonic() - began)
        self._allowance.restart()

    def _secure(self, sock: socket.socket) -> Any:
        """What the request is to be written to."""
        if self._context is None:
            return sock
        return self._shake_hands(sock, self._context, self._certified)

    def _shake_hands(self, sock: socket.socket, context: ssl.SSLContext, name: str) -> ssl.SSLSocket:
        """By TLS. It takes long, and what wraps the socket has taken it over: a fork must find it there meanwhile."""
        self.sock = secured = context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
        secured.do_handshake()
        return secured

    def _dial(self, host: str, port: int) -> socket.socket:
        line = self._lifeline
        line.let_go()
        line.dials += 1
        line.phase = Phase.RESOLVE
        addresses = resolve(host, port, self._connect_timeout, line)
        line.phase = Phase.CONNECT
        try:
            sock = dial(addresses, self._connect_timeout, line, _socket)
            try:
                line.hold(sock, self)
            except OSError:
                sock.close()
                raise
        except OSError:
            forget(host, port)
            raise
        line.phase = Phase.TLS
        return sock


def written(method: str, target: str, headers: Headers, body: bytes = b"") -> bytes:
    """The bytes of a request. Raises `ValueError` for a header that would be two; its value is not told.

    >>> written("GET", "/version", [("Host", "api.test")])
    b'GET /version HTTP/1.1\\r\\nHost: api.test\\r\\n\\r\\n'
    """
    for name, value in headers:
        if "\r" in value or "\n" in value:
            raise ValueError(f"the header {name} has a line end in it")
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body


def send(stream: Any, request: bytes) -> None:
    """Write a request, as far as the peer takes it: one that has closed may have said why, and that is read next.

    An alert of TLS 1.3, say, that the client certificate is refused: it comes after our side of the handshake.
    """
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
        stream.sendall(request)


def _socket(family: int) -> socket.socket:
    """Raises `OSError`, also where this machine does not speak the family."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        for option in _OPTIONS:
            sock.setsockopt(*option)
    except OSError:
        sock.close()
        raise
    return sock


def _readable(sock: Any) -> bool:
    """Whether something has come, the end perhaps. By poll where there is one: select takes no number above 1023."""
    with getattr(selectors, "PollSelector", selectors.SelectSelector)() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(0))
