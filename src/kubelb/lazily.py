"""Names of a module that are loaded when they are first asked for: for parts that cost many users more than they give.

    if TYPE_CHECKING:
        from kubelb.adapters._httpx.httpx_asyncio import AsyncTransport
    else:
        __getattr__, __dir__ = later(globals(), AsyncTransport="adapters._httpx.httpx_asyncio")

Type checkers and documentation read the first half, and so still refuse a name that is not there. A place is a module
of this package, without the package's own name: a copy that was vendored has another one.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from kubelb.itself import NAME

__all__ = ["later", "once"]


def later(
    namespace: dict[str, Any], every: str = "", **places: str
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the module's `__getattr__` and `__dir__`: it has each name from the module that `places` gives for it.

    `namespace` is its `globals()`, where a name is from its first use on. Of the module `every` all that it exports is
    there too, without being named here: its `__all__` is asked for a name that only it can have, and completes that of
    this module, which is then there when it is asked for.
    """
    listed = namespace.pop("__all__") if every else []

    def getter(name: str) -> Any:
        if name in places:
            found = _found(places[name], name)
        elif every and name == "__all__":
            found = [*listed, *_module(every).__all__]
        elif every and name[:1].isupper() and name in _module(every).__all__:
            found = _found(every, name)
        else:
            raise AttributeError(f"module {namespace['__name__']!r} has no attribute {name!r}")
        namespace[name] = found
        return found

    return getter, lambda: sorted({*namespace, *places, *(getter("__all__") if every else ())})


def _found(place: str, name: str) -> Any:
    module = _module(place)
    return module if place == name else getattr(module, name)


def _module(place: str) -> Any:
    # First, for a thread may be asking, and another one fork: from then on a fork waits until all the rest is loaded.
    import_module(f"{NAME}.process")
    return import_module(f"{NAME}.{place}")


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
