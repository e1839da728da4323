"""Network backends that dial one endpoint, whatever host and port the URL has.

Only the address that is dialled changes: URL, Host, SNI, certificate check, cookies and redirects keep the service's
name, because nothing above the socket ever hears of the pod. (Rewriting the URL's host instead would hand a connection
verified for one service to another on the same ip:port.)

Their streams are httpcore's own but for the timeouts: a `Timeouts` is asked anew for every single read and write, so
that the end of a call holds however slowly bytes come and go. And a connection is secured with the context of now: the
one that a pool was made with may be older than its files. TCP and the TLS handshake have a wait each (`patience.py`).

A connection whose node has vanished is ended by its socket's options (`sockets.py`). httpcore would call that a
timeout, which the client may not even have; it is a broken connection.
"""

from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

from kubelb.adapters._httpx.timeouts import Timeouts
from kubelb.adapters.patience import Patience
from kubelb.adapters.sockets import SocketOption, gone
from kubelb.core.state import EndpointState

__all__ = ["Dial", "Dialling"]

Contexts: TypeAlias = Callable[[], Any]
"""Returns the SSLContext for a connection that is made now."""
PIECE = 1 << 18
"""Bytes: a longer body is written in pieces, each with a timeout of its own."""


class Dialling:
    """What this backend and asyncio's (`adial.py`) are made of; all connections go to the endpoint of `state`."""

    __slots__ = ("_contexts", "_core", "_inner", "_options", "_patience", "_state")

    backend: ClassVar[str]
    """Name of httpcore's own, which does the work."""

    def __init__(
        self,
        core: Any,
        state: EndpointState,
        contexts: Contexts,
        patience: Patience,
        options: tuple[SocketOption, ...],
    ) -> None:
        self._core = core
        self._contexts = contexts
        self._inner = getattr(core, self.backend)()
        self._state = state
        self._patience = patience
        self._options = options


class Dial(Dialling):
    """A network backend for httpcore's ConnectionPool."""

    __slots__ = ()
    backend = "SyncBackend"

    def connect_tcp(self, host: str, port: int, timeout: Any = None, **options: Any) -> Any:  # noqa: ARG002
        """Connect, to our address."""
        ip, real = self._state.endpoint.address
        options["socket_options"] = self._options
        with timeout.tcp(self._patience, self._state, self._core.ConnectTimeout) as seconds:
            inner = self._inner.connect_tcp(ip, real, timeout=seconds, **options)
        return _Stream(self._core, inner, self.secure)

    def secure(self, inner: Any, name: str | None, timeouts: Any) -> Any:
        """Make TLS of one of our connections."""
        context = self._contexts()
        with timeouts.tls(self._patience, self._state, self._core.ConnectTimeout) as seconds:
            secured = inner.start_tls(context, name, seconds)
        return _Stream(self._core, secured, self.secure)

    def sleep(self, seconds: float) -> None:
        """Sleep."""
        self._inner.sleep(seconds)


class _Stream:
    __slots__ = ("_core", "_inner", "_secure", "close", "get_extra_info")

    def __init__(self, core: Any, inner: Any, secure: Any) -> None:
        self._core = core
        self._secure = secure
        self._inner = inner
        self.close = inner.close
        self.get_extra_info = inner.get_extra_info

    def read(self, max_bytes: int, timeout: Any = None) -> bytes:
        if type(timeout) is Timeouts:
            timeout = timeout.left("read")
            if timeout is not None and timeout <= 0:
                raise self._core.ReadTimeout("timed out")
        try:
            data: bytes = self._inner.read(max_bytes, timeout)
        except self._core.ReadTimeout as error:
            if gone(error):
                raise self._core.ReadError(*error.args) from error
            raise
        return data

    def write(self, buffer: bytes, timeout: Any = None) -> None:
        if not buffer:
            return
        if type(timeout) is not Timeouts:
            self._write(buffer, timeout)
            return
        for start in range(0, len(buffer), PIECE):
            seconds = timeout.left("write")
            if seconds is not None and seconds <= 0:
                raise self._core.WriteTimeout("timed out")
            try:
                self._write(buffer[start : start + PIECE], seconds)
            except self._core.WriteError:
                timeout.cut_short = True
                raise

    def _write(self, data: bytes, seconds: float | None) -> None:
        try:
            self._inner.write(data, seconds)
        except self._core.WriteTimeout as error:
            if gone(error):  # after a WriteError httpcore would go on, and read an answer
                raise self._core.ReadError(*error.args) from error
            raise

    def start_tls(
        self,
        ssl_context: Any,  # noqa: ARG002  # the pool's, from when it was made
        server_hostname: str | None = None,
        timeout: Any = None,
    ) -> Any:
        return self._secure(self._inner, server_hostname, timeout)
