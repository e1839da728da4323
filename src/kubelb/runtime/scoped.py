"""What a `with` block puts in force for its thread or task, and takes back.

One object may be entered inside itself, and by many tasks and threads at once. So what has to be taken back is kept
where it was put, in the context, and not with the object.
"""

from contextvars import ContextVar, Token
from typing import Generic, TypeVar

__all__ = ["Scoped"]

T = TypeVar("T")


class Scoped(Generic[T]):
    """A value that blocks put in force; None outside every block."""

    __slots__ = ("_tokens", "_value", "get")

    def __init__(self, name: str) -> None:
        self._value: ContextVar[T | None] = ContextVar(name, default=None)
        self._tokens: ContextVar[tuple[Token[T | None], ...]] = ContextVar(f"{name}_tokens", default=())
        self.get = self._value.get
        """What is in force. It is asked by every request, so it is the bare method."""

    def enter(self, value: T) -> None:
        """Put it in force, for this context and for those of tasks that begin in the block."""
        self._tokens.set((*self._tokens.get(), self._value.set(value)))

    def leave(self) -> None:
        """Put in force what was before. Raises ValueError in a context in which nothing was entered."""
        tokens = self._tokens.get()
        if not tokens:
            raise ValueError("this block is left in another context than it was entered in")
        self._value.reset(tokens[-1])
        self._tokens.set(tokens[:-1])
