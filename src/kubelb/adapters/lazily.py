"""Names of a module that are loaded when they are first asked for: for parts that cost many users more than they give.

    if TYPE_CHECKING:
        from kubelb.adapters._httpx.httpx_asyncio import AsyncTransport
    else:
        __getattr__, __dir__ = later(globals(), AsyncTransport="kubelb.adapters._httpx.httpx_asyncio")

Type checkers and documentation read the first half, and so still refuse a name that is not there.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = ["later", "once"]


def later(namespace: dict[str, Any], **places: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the module's `__getattr__` and `__dir__`: it has each name from the module that `places` gives for it.

    `namespace` is its `globals()`, where a name is from its first use on.
    """

    def getter(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {namespace['__name__']!r} has no attribute {name!r}")
        found = namespace[name] = getattr(import_module(places[name]), name)
        return found

    return getter, lambda: sorted({*namespace, *places})


class once:  # noqa: N801  # a decorator
    """A property that is made when it is first asked for; of two threads that ask at once, both get the same.

    Without a lock: that of `functools.cached_property` is one for all objects in CPython 3.11, and no fork renews it.
    """

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self.__doc__ = make.__doc__
        self._make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        return instance.__dict__.setdefault(self._name, self._make(instance))
