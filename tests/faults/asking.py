"""What a call is asked to be, and how it ended, in words that are the same for every client."""

from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from enum import Enum
from itertools import count

import kubelb

__all__ = ["Allowed", "Ask", "End", "How"]

_numbers = count(1)


class Allowed(Enum):
    """Whether the call may be sent again although it may have been processed, and who says so."""

    NO = "no"
    """A POST; a method of gRPC of which nobody said anything."""
    YES = "by nature"
    """A GET or PUT; a method that the channel was told to be idempotent; `call(idempotent=True)`."""
    HINT = "by a hint"
    """The first kind, inside `kubelb.hints(idempotent=True)`."""


class How(Enum):
    """How a call ended."""

    ANSWERED = "answered"
    TOLD = "told"
    """The pod's own word: 503, 413, UNAVAILABLE."""
    UNREACHABLE = "unreachable"
    """Nobody to send it to; nothing was sent."""
    LOST = "lost"
    """The connection went before anything of the answer had come."""
    BROKEN = "broken"
    """The connection went in the midst of the answer."""
    LATE = "late"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class End:
    """`own` is the client's own word: the name of its exception, of gRPC's status, or the HTTP status.

    `refusal` is kubelb's class, where it was kubelb that refused; `pod` is who answered; `tries` are the notes on those
    before the last.
    """

    how: How
    own: str = ""
    refusal: type[kubelb.LoadBalancerError] | None = None
    pod: str = ""
    tries: int = 0


class Ask:
    """One call. Pods find its `marker` in the header, or metadata, x-ask.

    `deadline` is kubelb's hint, `timeout` bounds each read (where the client knows such a thing) or the call, both in
    seconds; `body` is what is sent.
    """

    def __init__(
        self,
        allowed: Allowed = Allowed.YES,
        *,
        deadline: float | None = None,
        timeout: float | None = None,
        body: bytes = b"",
    ) -> None:
        self.marker = str(next(_numbers))
        self.allowed = allowed
        self.deadline = deadline
        self.timeout = timeout
        self.body = body

    @property
    def method(self) -> str:
        """The method of HTTP."""
        if self.allowed is Allowed.YES:
            return "PUT" if self.body else "GET"
        return "POST"

    def hints(self) -> AbstractContextManager[object]:
        """What is said around the call."""
        stack = ExitStack()
        if self.deadline is not None:
            stack.enter_context(kubelb.hints(deadline=self.deadline))
        if self.allowed is Allowed.HINT:
            stack.enter_context(kubelb.hints(idempotent=True))
        return stack

    def __repr__(self) -> str:
        return f"<Ask {self.marker} again={self.allowed.value}>"
