"""Whether a failure was a refusal: the host answered, and nothing listens on that port.

That is another thing than a network in which nobody answers, and has another cure. Clients wrap the error of the
socket several times, so the chain of causes is searched.
"""

from collections.abc import Callable
from typing import Any

__all__ = ["refused"]

# What a class of the user's may define anew is not asked: what looks at an error must not fail in place of it.
_cause: Callable[[BaseException], Any] = vars(BaseException)["__cause__"].__get__
_context: Callable[[BaseException], Any] = vars(BaseException)["__context__"].__get__
_args: Callable[[BaseException], tuple[Any, ...]] = vars(BaseException)["args"].__get__

DEEP = 20
"""Errors in a chain that are looked at; a longer one may be a circle."""


def refused(error: BaseException | None) -> bool:
    """Whether a refused connection is at the bottom of it.

    >>> refused(ConnectionRefusedError()), refused(TimeoutError()), refused(None)
    (True, False, False)
    """
    todo = [error]
    for _ in range(DEEP):
        if not todo:
            break
        each = todo.pop(0)
        if issubclass(type(each), ConnectionRefusedError):
            return True
        if each is not None:
            todo += [_cause(each), _context(each)]
            todo += [arg for arg in _args(each) if issubclass(type(arg), BaseException)]
    return False
