"""A method that may outlive its object: called as long as that is there, and nothing afterwards."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar
from weakref import WeakMethod

__all__ = ["weakly"]

P = ParamSpec("P")
T = TypeVar("T")


def weakly(method: Callable[P, T]) -> Callable[P, T | None]:
    """Return a function that calls a bound method, or returns None once nothing else holds its object."""
    held = WeakMethod(method)

    def call(*args: P.args, **kwargs: P.kwargs) -> T | None:
        bound = held()
        return None if bound is None else bound(*args, **kwargs)

    return call
