"""Stream: one request and its response, as far as they have come."""

from typing import Any

from kubelb.adapters._httpx.http2.headers import Fields
from kubelb.adapters.defaults import SMALL

__all__ = ["Stream", "Waiter"]


class Waiter:
    """What is waited for and woken: a stream, or a request that waits to open one. `gate`, `late` are the shell's."""

    __slots__ = ("gate", "late")

    def __init__(self) -> None:
        self.gate: Any = None
        self.late = False


class Stream(Waiter):
    """One request and its response."""

    __slots__ = (
        "alone",
        "begun",
        "chunks",
        "counted",
        "ended",
        "error",
        "expected",
        "fresh",
        "got",
        "headers",
        "id",
        "method",
        "opened",
        "over",
        "sent",
        "status",
        "taken",
    )

    def __init__(self, number: int, method: bytes, opened: float, *, alone: bool) -> None:
        super().__init__()
        self.id = number
        self.method = method
        self.opened = opened
        self.alone = alone
        """Opened on a connection that had been in use before, and was idle."""
        self.begun = False
        """Something of an answer has come, be it a 1xx: so it may be processed, whatever the peer says."""
        self.status = 0
        self.headers: Fields = []
        self.chunks: list[bytes] = []
        self.expected: int | None = None
        self.got = 0
        self.taken = 0
        """Bytes of the body that were taken since the window was opened last."""
        self.fresh = True
        """Nothing of the request's body was taken from its producer."""
        self.sent = False
        """The request is written, its end included."""
        self.ended = False
        """The response is here, its end included."""
        self.over = False
        """To the peer it is over, however it ended."""
        self.counted = True
        self.error: Exception | None = None

    def answered(self) -> bool:
        """Whether there is something to look at: headers or an error."""
        return bool(self.status) or self.error is not None

    def whole(self) -> bool:
        """Whether all that is waited for is here: of a body that is short, the end.

        A response that was handed over cannot be repeated any more, and the end of a connection that many share should
        cost as few of them as can be: hypercorn, when it ends, answers 500 with an empty body, and then not even the
        body's end. A short body is on its way with its headers, so nothing is waited for in vain.
        """
        return self.ended or self.error is not None or self.expected is None or self.expected > SMALL

    def further(self, got: int) -> bool:
        """Whether that, or more of the body than so many bytes, is here."""
        return self.got > got or self.whole()

    def refused(self) -> bool:
        """Whether the answer is that the request was wrong: with or without a body, that is worth knowing."""
        return 400 <= self.status < 500

    def readable(self) -> bool:
        """Whether there is something of the body, its end or an error."""
        return bool(self.chunks) or self.ended or self.error is not None
