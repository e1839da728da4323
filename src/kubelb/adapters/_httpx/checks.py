"""What a user gives to a transport or a request, where nothing else would look at it before it does harm."""

from collections.abc import Mapping
from math import isnan
from typing import Any, Protocol

from kubelb.printable import shown

__all__ = ["HINTS", "Limits", "check_hints", "limiting"]

HINTS = ("key", "idempotent", "deadline")


class Limits(Protocol):
    """What `httpx.Limits` and `httpx2.Limits` have."""

    max_connections: int | None
    max_keepalive_connections: int | None
    keepalive_expiry: float | None


def check_hints(hints: Any) -> None:
    """Refuse what is no hint: nothing else looks at what is in a request's extensions."""
    if not isinstance(hints, Mapping):
        raise TypeError(f"extensions['kubelb'] is of type {type(hints).__name__}: give a dict of {sorted(HINTS)}")
    if unknown := hints.keys() - {*HINTS}:
        raise TypeError(f"extensions['kubelb'] knows {sorted(HINTS)}, not {sorted(unknown, key=str)}")
    if not isinstance(said := hints.get("idempotent"), bool | None):
        raise TypeError(f"extensions['kubelb']: idempotent={shown(said)}: give True or False")
    deadline = hints.get("deadline")
    if deadline is not None and (not isinstance(deadline, int | float) or isnan(deadline)):
        raise TypeError(f"extensions['kubelb']: deadline={shown(deadline)}: give a number of seconds")


def limiting(limits: Limits) -> dict[str, Any]:
    """Return limits as httpcore takes them; refuses those under which no request would ever be sent."""
    try:
        options = {name: getattr(limits, name) for name in Limits.__annotations__}
    except AttributeError:
        raise TypeError(f"limits={limits!r}: give the client's own Limits(...)") from None
    if (most := options["max_connections"]) is not None and (not isinstance(most, int) or most < 1):
        raise ValueError(f"limits={limits!r}: max_connections must be 1 or more, or None")
    return options
