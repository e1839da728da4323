"""A call of gRPC's as a policy sees it."""

from typing import Any

from kubelb.adapters._grpc.shared.requesting import header_in
from kubelb.model import Request

__all__ = ["View"]


class View(Request):
    """Reads the call's metadata when it is asked, and keeps nothing of what it has read.

    It lives as long as the call: what picks is given it, and no lease, state or event keeps it. There is no `body`:
    messages become bytes on the connection of the endpoint that was picked.
    """

    __slots__ = ("_calling", "_metadata")

    def __init__(
        self, calling: Any, metadata: Any, *, key: str | bytes | None, idempotent: bool, replayable: bool
    ) -> None:
        super().__init__(key=key, idempotent=idempotent, replayable=replayable)
        self._calling = calling
        """The method, over every endpoint (`Calling`)."""
        self._metadata = metadata

    @property
    def method(self) -> str:
        return "POST"

    @property
    def path(self) -> str:
        return str(self._calling.method)

    @property
    def host(self) -> str:
        return str(self._calling.channel.authority)

    def header(self, name: str) -> str | bytes | None:
        return header_in(self._metadata)(name)
