"""What stands behind an error: clients wrap that of the socket several times.

What a class of the user's may define anew is not asked (`args`, `__cause__`, a group's `exceptions`): what looks at an
error must not fail in place of it. Nor is what only says that it is one: agents put proxies around calls of gRPC's,
which are errors, too.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

__all__ = ["arguments", "cause", "chain", "context", "members"]

DEEP = 20
"""Errors in a chain that are looked at; a longer one may be a circle."""

Way: TypeAlias = Callable[[BaseException], Iterable[Any]]

_cause: Callable[[BaseException], Any] = vars(BaseException)["__cause__"].__get__
_context: Callable[[BaseException], Any] = vars(BaseException)["__context__"].__get__
_members: Callable[[BaseException], tuple[Any, ...]] = vars(BaseExceptionGroup)["exceptions"].__get__
arguments: Callable[[BaseException], tuple[Any, ...]] = vars(BaseException)["args"].__get__


def cause(error: BaseException) -> Iterable[Any]:
    """What it was raised from."""
    return (_cause(error),)


def context(error: BaseException) -> Iterable[Any]:
    """What was being handled when it was raised, which may be the caller's own affair."""
    return (_context(error),)


def members(error: BaseException) -> Iterable[Any]:
    """Those of a group."""
    return _members(error) if issubclass(type(error), BaseExceptionGroup) else ()


def chain(error: BaseException | None, *ways: Way) -> list[BaseException]:
    """Return the error and those that are reached from it by these ways, each once, the nearest first."""
    found: list[Any] = [error] if issubclass(type(error), BaseException) else []
    for each in found:
        if len(found) >= DEEP:
            break
        for part in (part for way in ways for part in way(each)):
            if issubclass(type(part), BaseException) and not any(part is one for one in found):
                found.append(part)
    return found
