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

__all__ = ["later"]


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
