"""What an option is, before it is compared with anything.

A setting from the environment is text, a division may give NaN, and True is an int to Python. None of these is in any
range, so that the error that names a number out of range names them too: ``if not 0 < number(value) < math.inf``.
"""

import math
from collections.abc import Awaitable
from types import GeneratorType
from typing import Any, TypeGuard, TypeVar

__all__ = ["awaitable", "check_flags", "check_kind", "number", "whole"]

T = TypeVar("T")

OF_A_COROUTINE = 0x100
"""`inspect.CO_ITERABLE_COROUTINE`: a generator that `types.coroutine` has made awaitable."""


def number(value: object) -> float:
    """Return a number as it is, NaN for what is none.

    >>> number(2.5), number("2.5"), number(True)
    (2.5, nan, nan)
    """
    return value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def whole(value: object) -> TypeGuard[int]:
    """Whether it is a whole number; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_flags(options: object, *names: str) -> None:
    """Raise TypeError for a switch that is neither True nor False: the text "false" would be taken for True."""
    for name in names:
        value = getattr(options, name)
        if not isinstance(value, bool):
            raise TypeError(f"{type(options).__name__}({name}={value!r}): give True or False")


def check_kind(name: str, value: object, kind: type) -> None:
    """Raise TypeError for an option that is neither None nor of its kind: a number, a truth value, the class itself."""
    if not isinstance(value, kind | None):
        raise TypeError(f"{name}={value!r}: give a {kind.__module__.partition('.')[0]}.{kind.__name__}(...), or None")


def awaitable(fn: object, made: Awaitable[T]) -> Awaitable[T]:
    """Return what an async function has returned; raises TypeError where it cannot be awaited."""
    generator = isinstance(made, GeneratorType) and made.gi_code.co_flags & OF_A_COROUTINE
    if isinstance(made, Awaitable) or generator:  # as `inspect.isawaitable`, whose module is dear to import
        return made
    name: Any = getattr(fn, "__qualname__", None) or type(fn).__name__
    raise TypeError(
        f"acall({name}): it returned {type(made).__name__}, not an awaitable; give an async function, or call({name})"
    )
