"""A connection through a proxy: a tunnel to a server of https, and to one of http by naming it in each request.

The proxy may be spoken to by TLS itself, verified by the authorities of the system. Then what goes through its tunnel
is TLS within TLS, which the ssl module has no socket for: urllib3 has one, and is imported for that alone.
"""

import socket
import ssl
from typing import Any

from kubelb.discovery.kube.access import Access, CredentialsError
from kubelb.discovery.kube.allowance import Metered
from kubelb.discovery.kube.certificates import Material
from kubelb.discovery.kube.connection import Connection, Headers, send, written
from kubelb.discovery.kube.proxy import ProxyHandshakeError, TunnelError, login_of
from kubelb.discovery.kube.site import Site
from kubelb.masking import Hidden

__all__ = ["Proxied"]

SOCKS = ("socks4", "socks4a", "socks5", "socks5h")
"""What kubeconfigs may name and is not spoken here."""


class Proxied(Connection):
    """By way of ``access.proxy``."""

    def __init__(self, access: Access, context: ssl.SSLContext | None, *given: Any) -> None:
        """Raises `CredentialsError` for a proxy of another kind; nothing of its URL is told but that."""
        super().__init__(access, context, *given)
        proxy = access.proxy or ""
        self._near = Site(proxy)
        if self._near.scheme not in {"http", "https"}:
            scheme, separator, _ = proxy.partition("://")
            other = f", not {scheme}" if scheme in SOCKS else ""
            cure = f"give an http or https proxy{other}" if separator else "give http://HOST:PORT"
            raise CredentialsError(f"the proxy of {access.origin} cannot be used", cure)
        self._near_context = Material(verify=access.verify).context() if self._near.tls else None
        login = login_of(proxy)
        self._login: Headers = [("Proxy-Authorization", Hidden(login))] if login else []
        self._beside = self._login if context is None else []
        self._nested: Any = None
        if self._near.tls and context is not None:
            from urllib3.util.ssltransport import SSLTransport

            self._nested = SSLTransport

    def _target(self, path: str) -> str:
        target = super()._target(path)
        return target if self._context is not None else f"http://{self._server.authority}{target}"

    def _secure(self, sock: socket.socket) -> Any:
        if self._near_context is not None:
            try:
                sock = self._shake_hands(sock, self._near_context, self._near.name)
            except ssl.SSLError as error:
                raise ProxyHandshakeError("the proxy's TLS handshake failed") from error
        if self._context is None:
            return sock
        self._tunnel(sock)
        if self._nested is None:
            return super()._secure(sock)
        return self._nested(sock, self._context, server_hostname=self._certified)

    def _tunnel(self, sock: socket.socket) -> None:
        """Raises `TunnelError` where the proxy does not let us through."""
        place = self._server.place
        send(sock, written("CONNECT", place, [("Host", place), *self._login]))
        answer = Metered(sock, method="CONNECT", allowance=self._allowance)
        try:
            answer.begin()
            if answer.status != 200:
                raise TunnelError(answer.status)
        finally:
            answer.close()
