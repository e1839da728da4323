"""What a call wants of the balancer: from its method, its kind, its arguments and the hints around it.

gRPC says nothing of whether a method may be repeated, so none may unless its user says so: for a method in the
channel's `idempotent=`, for a block of code in `kubelb.hints`.
"""

from collections.abc import Callable, Collection
from typing import TypeAlias

from kubelb.adapters.http import balanced
from kubelb.model import Request
from kubelb.runtime.hinting import Hinted

__all__ = ["Idempotent", "repeatable", "with_hints"]

Idempotent: TypeAlias = bool | Collection[str]
"""Methods that may be sent again although they may have been processed: full names, ``/pkg.Service/*``, or all."""


def repeatable(idempotent: Idempotent) -> Callable[[str], bool]:
    """Return what says of a full method name whether it is among these; raises ValueError for what is none."""
    if isinstance(idempotent, bool):
        return lambda _: idempotent
    if isinstance(idempotent, str):
        raise TypeError(f"idempotent={idempotent!r}: give a list of methods, [{idempotent!r}]")
    names = frozenset(idempotent)
    for name in names:
        if not name.startswith("/") or name.count("/") != 2:
            raise ValueError(
                f"idempotent=[{name!r}]: give full names such as '/pkg.Service/Method' or '/pkg.Service/*'"
            )
    return lambda method: method in names or f"{method.rpartition('/')[0]}/*" in names


def with_hints(
    hinted: Hinted, idempotent: bool, replayable: bool, timeout: float | None
) -> tuple[Request, float | None]:
    """Return the request and the timeout of a call inside `kubelb.hints`."""
    key, again, timeout = hinted.beside(None, None, timeout)
    idempotent = idempotent if again is None else again
    if key is None:
        return balanced(idempotent, replayable), timeout
    return Request(key=key, idempotent=idempotent, replayable=replayable), timeout
