"""urllib3's connections and pools for one endpoint.

The connections keep to the bounds of the attempt that uses them and note how far it got. A pool dials the address of
its endpoint and nothing else; what the request is called, in Host and SNI, comes from outside.

What looks at a connection of http.client while it sends a request, as tracing does, asks it for host and port, and
makes the URL of these. So a connection has those of the request's URL, except while it is made: then, and in the errors
that this may raise, it has the endpoint's.
"""

import http.client
import ssl
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, ClassVar

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError

from kubelb.adapters._requests.bounds import Bounds, current
from kubelb.adapters._requests.held import Held
from kubelb.adapters._requests.reader import Reading
from kubelb.adapters.defaults import KEEPALIVE
from kubelb.adapters.sockets import aborted, gone
from kubelb.adapters.tls import Fresh
from kubelb.clock import monotonic
from kubelb.model import Address

__all__ = ["plain_pool", "tls_pool"]

PIECE = 1 << 16
"""Bytes: a longer body is written in pieces, each with a timeout of its own."""


class _Bounded:
    """What both kinds of connection share."""

    sock: Any
    timeout: Any
    host: Any
    port: Any
    default_port: ClassVar[int]
    bounds: Bounds
    idle_since: float | None = None
    """When the last response's body ended; set by that response."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._address = self._called = self.host, self.port

    @property
    def is_connected(self) -> bool:
        since = self.idle_since
        fresh = since is None or monotonic() - since < KEEPALIVE
        return fresh and super().is_connected  # type: ignore[misc]

    def connect(self) -> None:
        self._begin().connected = True
        super().connect()  # type: ignore[misc]

    def _begin(self) -> Bounds:
        """Take the bounds of the attempt that is being made here, and the name of its URL."""
        bounds = self.bounds = current.bounds
        place = bounds.place
        called = place.name, place.port or self.default_port
        if called != self._called:  # setting a host is not for nothing
            self._called = self.host, self.port = called
        return bounds

    def _new_conn(self) -> Any:
        self.host, self.port = self._address
        try:
            with self.bounds.tcp(ConnectTimeoutError) as self.timeout:
                return super()._new_conn()  # type: ignore[misc]
        finally:
            self.host, self.port = self._called

    def request(self, *args: Any, **options: Any) -> None:
        self._begin()
        super().request(*args, **options)  # type: ignore[misc]

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        bounds = self.bounds
        for piece in _pieces(data):
            self.sock.settimeout(bounds.left())
            bounds.sent = True
            try:
                super().send(piece)  # type: ignore[misc]
            except TimeoutError as error:
                if gone(error):
                    raise aborted(error) from error
                raise
            except OSError:
                bounds.cut_short = True
                raise

    def response_class(self, sock: Any, *args: Any, **options: Any) -> Any:
        return http.client.HTTPResponse(Reading(sock, self.bounds), *args, **options)  # type: ignore[arg-type]

    def getresponse(self) -> Any:
        sock = self.sock  # gone from here where the server closes after this response
        response = super().getresponse()  # type: ignore[misc]
        sock.settimeout(self.bounds.headers_are_here())
        response.__class__ = Held  # the same layout, so that nothing of urllib3 has to be built again
        return response


def _pieces(data: Any) -> Any:
    if len(data) <= PIECE:
        return (data,)
    view = memoryview(data).cast("B")
    return (view[start : start + PIECE] for start in range(0, len(view), PIECE))


class _Plain(_Bounded, HTTPConnection):  # type: ignore[misc]  # response_class is a method here
    pass


class _Tls(_Bounded, HTTPSConnection):  # type: ignore[misc]
    def __init__(self, *args: Any, contexts: Fresh[ssl.SSLContext], **options: Any) -> None:
        super().__init__(*args, **options)
        self._contexts = contexts

    def connect(self) -> None:
        self.ssl_context = self._contexts.get()
        with ExitStack() as self._handshake:  # entered when TCP has connected
            super().connect()

    def _new_conn(self) -> Any:
        sock = super()._new_conn()
        self.timeout = self._handshake.enter_context(self.bounds.tls(TimeoutError))
        sock.settimeout(self.timeout)
        return sock


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _Tls


def plain_pool(address: Address, options: Mapping[str, Any]) -> Any:
    """Return a pool of plain connections to `address`; `options` are urllib3's."""
    return _PlainPool(address[0], address[1], **options)


def tls_pool(address: Address, options: Mapping[str, Any], contexts: Fresh[ssl.SSLContext], name: str) -> Any:
    """Return a pool of TLS connections to `address`, verified against `name`."""
    secured: dict[str, Any] = {"contexts": contexts, "ssl_context": contexts.get(), "server_hostname": name}
    return _TlsPool(address[0], address[1], **options, **secured)
