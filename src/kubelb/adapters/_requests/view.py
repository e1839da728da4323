"""A request of requests' as a policy sees it."""

from typing import Any

from kubelb.model import Request

__all__ = ["View"]


class View(Request):
    """Reads the client's request when it is asked, and keeps nothing of what it has read.

    It lives as long as the call: what picks is given it, and no lease, state or event keeps it.
    """

    __slots__ = ("_authority", "_request", "_url")

    def __init__(
        self,
        request: Any,
        url: str,
        authority: str,
        *,
        key: str | bytes | None,
        idempotent: bool,
        replayable: bool,
    ) -> None:
        super().__init__(key=key, idempotent=idempotent, replayable=replayable)
        self._request = request
        self._url = url
        """What goes on the request line."""
        self._authority = authority
        """What goes into Host, where the caller gives none."""

    @property
    def method(self) -> str:
        return str(self._request.method)

    @property
    def path(self) -> str:
        return self._url.partition("?")[0]

    @property
    def host(self) -> str:
        said: str | bytes = self._request.headers.get("Host", self._authority)
        return said if isinstance(said, str) else said.decode("latin-1")

    def header(self, name: str) -> str | bytes | None:
        if name.lower() == "host":  # which requests leaves to what sends
            return self.host
        value: str | bytes | None = self._request.headers.get(name)
        return value

    def body(self) -> bytes | None:
        body = self._request.body
        if isinstance(body, str):
            return body.encode()  # as urllib3 sends it
        if isinstance(body, bytes | bytearray | memoryview):
            return bytes(body)
        return b"" if body is None else None
