"""What goes past kubelb, where it is switched off: to what the URL says, by requests' own adapter, with our options."""

import socket
import ssl
from collections.abc import Iterable
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from kubelb.adapters._requests.place import place_of
from kubelb.adapters._requests.tls import Contexts
from kubelb.adapters.sockets import SocketOption, check_options
from kubelb.adapters.tls import Fresh
from kubelb.runtime.fork import settled
from kubelb.runtime.switch import off

__all__ = ["Plainly"]

_AT_ONCE = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
"""urllib3 sets it by default, and httpx always."""


class Plainly(HTTPAdapter):
    """Base of the adapter, which sets the rest."""

    _contexts: Contexts
    _server_hostname: str | None

    def __init__(self, size: int, socket_options: Iterable[SocketOption] | None) -> None:
        self._size = size
        self._options: dict[str, Any] = {
            "maxsize": size,
            "socket_options": [_AT_ONCE, *check_options(socket_options)],
        }
        """Of every pool, as urllib3 has them."""
        super().__init__(pool_maxsize=size)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        """Make the pools by host."""
        options.setdefault("socket_options", self._options["socket_options"])
        super().init_poolmanager(connections, maxsize, block, **options)

    def _plainly(
        self, request: requests.PreparedRequest, stream: bool, timeout: Any, verify: Any, cert: Any
    ) -> requests.Response:
        """Send it as requests does, to what the URL says: with our TLS options, and through no proxy."""
        settled()
        way = off()
        if hasattr(way, "send"):
            answer: requests.Response = way.send(request, stream=stream, timeout=timeout, verify=verify, cert=cert)
            return answer
        return super().send(request, stream, timeout, verify, cert, None)

    def get_connection_with_tls_context(
        self,
        request: requests.PreparedRequest,
        verify: Any,
        proxies: Any = None,  # noqa: ARG002
        cert: Any = None,
    ) -> Any:
        """Return the pool of the URL's own host: what `HTTPAdapter.send` asks for."""
        place = place_of(request)
        if not place.tls:
            return self.poolmanager.connection_from_host(place.name, place.port, "http")
        name = self._server_hostname or place.name
        options = {"ssl_context": self._context(request, verify, cert).get(), "server_hostname": name}
        return self.poolmanager.connection_from_host(place.name, place.port, "https", options)

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Leave the pool as it is: its SSLContext has everything."""

    def _context(self, request: requests.PreparedRequest, verify: Any, cert: Any) -> Fresh[ssl.SSLContext]:
        try:
            return self._contexts.get(verify, cert)
        except ssl.SSLError as error:  # of a session's or a call's own files
            raise requests.exceptions.SSLError(error, request=request) from error
