"""A request of httpx's as a policy sees it."""

from typing import Any

from kubelb.model import Request

__all__ = ["View"]


class View(Request):
    """Reads the client's request when it is asked, and keeps nothing of what it has read.

    It lives as long as the call: what picks is given it, and no lease, state or event keeps it.
    """

    __slots__ = ("_byte_stream", "_request")

    def __init__(
        self, request: Any, byte_stream: Any, *, key: str | bytes | None, idempotent: bool, replayable: bool
    ) -> None:
        super().__init__(key=key, idempotent=idempotent, replayable=replayable)
        self._request = request
        self._byte_stream = byte_stream
        """The client's class of bodies that are bytes."""

    @property
    def method(self) -> str:
        return str(self._request.method)

    @property
    def path(self) -> str:
        target = self._request.extensions.get("target", self._request.url.raw_path)  # the caller's own goes first
        return str(target.partition(b"?")[0].decode("latin-1"))

    @property
    def host(self) -> str:
        return str(self._request.headers.get("host", ""))

    def header(self, name: str) -> str | bytes | None:
        value: str | None = self._request.headers.get(name)
        return value

    def body(self) -> bytes | None:
        stream = self._request.stream  # not `content`: a hook may have put another body in its place
        return b"".join(stream) if type(stream) is self._byte_stream else None
