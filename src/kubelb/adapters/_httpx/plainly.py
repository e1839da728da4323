"""What goes past kubelb, or does not belong here: the client's own transport, and clients of another kind."""

from typing import Any

from kubelb.adapters._httpx.checks import Limits
from kubelb.adapters._httpx.kit import Kit
from kubelb.adapters.balancers import Connected
from kubelb.adapters.sockets import SocketOption
from kubelb.adapters.tls import Fresh
from kubelb.runtime.fork import settled
from kubelb.runtime.switch import off

__all__ = ["Plainly"]

FORKS = ("httpx", "httpx2")
"""Modules that there is an adapter for."""


def _module(request: Any) -> str:
    return type(request).__module__.partition(".")[0]


class Plainly(Connected):
    """Base of what both transports share, which sets the rest."""

    kit: Kit
    """Set by the module that names the transports."""
    _own_request: Any
    _plain: list[Any]
    _pool_options: dict[str, Any]
    _server_hostname: str | None
    _socket_options: tuple[SocketOption, ...]
    _tls: Fresh[Any]

    # Clients of another kind

    def _swapped(self, client: str, fitting: str, request: Any = None) -> TypeError:
        """The error of a client that awaits what is not awaited here, or the other way round."""
        mine = self.kit.httpx.__name__
        theirs = mine if request is None or (root := _module(request)) not in FORKS else root
        return TypeError(
            f"kubelb.adapters.{mine}.{type(self).__name__} is in {theirs}.{client}, which calls another kind of "
            f"transport; use that one: from kubelb.adapters.{theirs} import {fitting}"
        )

    def _mixed_up(self, request: Any) -> TypeError:
        """The error of the other module's client: httpx2 is httpx by another name, and its values are not httpx's."""
        mine, theirs, kind = self.kit.httpx.__name__, _module(request), type(self).__name__
        cure = f"give it to a client of {mine}"
        if theirs in FORKS:
            cure = f"in a client of {theirs} use that one: from kubelb.adapters.{theirs} import {kind}"
        return TypeError(f"kubelb.adapters.{mine}.{kind} was given a request of {theirs}, not of {mine}; {cure}")

    # Past kubelb

    _plain_kind = ""

    def plain(self) -> Any:
        """Return the client's own transport, which dials what the URL says: with our options, and through no proxy.

        As our pools it is left alone in a forked child and on a later event loop.
        """
        settled()
        kept = self._plain
        if not kept:  # of two threads at once one appends for nothing, what has opened nothing
            kept.append(getattr(self.kit.httpx, self._plain_kind)(**self._plain_options()))
        return kept[0]

    def _plain_options(self) -> dict[str, Any]:
        protocols = {name: self._pool_options[name] for name in ("http1", "http2")}
        limits = {name: self._pool_options[name] for name in Limits.__annotations__}
        options = {"limits": self.kit.httpx.Limits(**limits), "socket_options": self._socket_options}
        return {"verify": self._tls.get(), **options, **protocols}

    def _plainly(self, request: Any) -> Any:
        """Return what answers where kubelb is switched off."""
        if not isinstance(request, self._own_request):
            raise self._mixed_up(request)
        way = off()
        if hasattr(way, "handle_request") or hasattr(way, "handle_async_request"):
            return way
        if self._server_hostname is not None:
            request.extensions = {**request.extensions, "sni_hostname": self._server_hostname}
        return self.plain()
