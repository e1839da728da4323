"""urllib3's connections, dialled by us: stoppable while the name is looked up, while connecting, and ever after.

A TLS handshake has a bound of its own, which grows where it was not enough: an API server that is overloaded must not
be given handshakes that are all thrown away, by every process, again and again.
"""

import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from kubelb.clock import monotonic
from kubelb.discovery.kube.allowance import Allowance, Metered
from kubelb.discovery.kube.dial import dial
from kubelb.discovery.kube.lifeline import Lifeline
from kubelb.discovery.kube.resolve import forget, resolve
from kubelb.discovery.kube.steps import Phase

__all__ = ["Handshakes", "pool_classes"]

LONGEST = 40.0
"""Seconds for a TLS handshake at most."""

# A peer that vanished without a word is noticed by the read timeout; keep-alives also tell the boxes in between that
# the connection is in use.
_KEEPALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]


class Handshakes:
    """How long one may take: twice as long after each that took too long. `connected` is told how long one took."""

    def __init__(self, seconds: float, connected: Callable[[float], object] = float) -> None:
        self.seconds = seconds
        self.connected = connected

    def took_too_long(self) -> None:
        """Have more patience with the next one; for good, or each reconnect would begin by throwing one away."""
        self.seconds = max(self.seconds, min(2 * self.seconds, LONGEST))


def pool_classes(lifeline: Lifeline, handshakes: Handshakes, allowance: Allowance) -> dict[str, Any]:
    """For `PoolManager.pool_classes_by_scheme`: pools whose connections hang on this lifeline, and whose answers are
    read within this allowance."""
    return {
        "http": partial(_PlainPool, lifeline=lifeline, handshakes=handshakes, allowance=allowance),
        "https": partial(_TlsPool, lifeline=lifeline, handshakes=handshakes, allowance=allowance),
    }


class _Dialled:
    """What both kinds of connection have in common."""

    lifeline: Lifeline
    handshakes: Handshakes
    allowance: Allowance
    host: str
    port: int
    timeout: Any
    sock: Any
    socket_options: Any
    _dns_host: str

    def _new_conn(self) -> socket.socket:
        line = self.lifeline
        line.let_go()
        line.dials += 1
        line.phase = Phase.RESOLVE
        try:
            addresses = resolve(self._dns_host, self.port, self.timeout, line)
        except OSError as error:
            raise NewConnectionError(self, "the name was not found") from error  # type: ignore[arg-type]
        line.phase = Phase.CONNECT
        try:
            sock = dial(addresses, self.timeout, line, self._prepare_socket)
            try:
                line.hold(sock, self)
            except OSError:
                sock.close()
                raise
        except OSError as error:
            failure = error
        else:
            line.phase = Phase.TLS
            return sock
        forget(self._dns_host, self.port)
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(self, f"no answer within {self.timeout:g} s") from failure
        raise NewConnectionError(self, "not connected") from failure  # type: ignore[arg-type]

    def _prepare_socket(self, family: int) -> socket.socket:
        """Raises `OSError`, also where this machine does not speak the family."""
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            for option in (*(self.socket_options or ()), *_KEEPALIVE):
                sock.setsockopt(*option)
        except OSError:
            sock.close()
            raise
        return sock

    def connect(self) -> None:
        began = monotonic()
        super().connect()  # type: ignore[misc]
        self.lifeline.phase = Phase.HEADERS
        self.handshakes.connected(monotonic() - began)
        self.allowance.restart()


class _Plain(_Dialled, HTTPConnection):
    pass


class _Tls(_Dialled, HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        sock.settimeout(self.handshakes.seconds)
        return sock

    def connect(self) -> None:
        try:
            super().connect()
        except TimeoutError:  # of the handshake, or of a proxy before it: what TCP raises is urllib3's own
            self.handshakes.took_too_long()
            raise
        self.is_verified = True  # or the user said not to; urllib3 would warn of it at every connection


class _Pool:
    """What both kinds of pool have in common."""

    def __init__(self, *args: Any, lifeline: Lifeline, handshakes: Handshakes, allowance: Allowance, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self._allowance = allowance
        self._lifeline = lifeline
        self._handshakes = handshakes

    def _new_conn(self) -> Any:
        connection = super()._new_conn()  # type: ignore[misc]
        connection.lifeline = self._lifeline
        connection.handshakes = self._handshakes
        connection.allowance = self._allowance
        connection.response_class = partial(Metered, allowance=self._allowance)
        return connection


class _PlainPool(_Pool, HTTPConnectionPool):
    ConnectionCls = _Plain


class _TlsPool(_Pool, HTTPSConnectionPool):
    ConnectionCls = _Tls
