"""What a call wants of the balancer: from its method, its kind, its arguments and the hints around it.

gRPC says nothing of whether a method may be repeated, so none may unless its user says so: for a method in the
channel's `idempotent=`, for a block of code in `kubelb.hints`.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, TypeAlias

from grpc.aio import Metadata

from kubelb.adapters.http import balanced
from kubelb.model import Request
from kubelb.printable import shown
from kubelb.runtime.hinting import Hinted

__all__ = ["Idempotent", "fresh", "header_in", "lasting", "repeatable", "wanted_by"]

ReadKey: TypeAlias = Callable[[], str | bytes | None]

Idempotent: TypeAlias = bool | Collection[str]
"""Methods that may be sent again although they may have been processed: full names, ``/pkg.Service/*``, or all."""
_METHOD = re.compile(r"/[^/*]+/(\*|[^/*]+)")


def repeatable(idempotent: Idempotent) -> Callable[[str], bool]:
    """Return what says of a full method name whether it is among these; ValueError or TypeError for what is none."""
    if isinstance(idempotent, bool):
        return lambda _: idempotent
    if isinstance(idempotent, str):
        raise TypeError(f"idempotent={shown(idempotent)}: give a list of methods, [{shown(idempotent)}]")
    if not isinstance(idempotent, Iterable):
        raise TypeError(f"idempotent={shown(idempotent)}: give a list of methods, or True for all")
    names = frozenset(idempotent)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"idempotent=[{shown(name)}]: give texts such as '/pkg.Service/Method' or '/pkg.Service/*'")
        if not _METHOD.fullmatch(name):
            raise ValueError(
                f"idempotent=[{shown(name)}]: give full names such as '/pkg.Service/Method' or '/pkg.Service/*'"
            )
    return lambda method: method in names or f"{method.rpartition('/')[0]}/*" in names


def wanted_by(
    hinted: Hinted | None,
    idempotent: bool,
    replayable: bool,
    timeout: float | None,
    read_key: ReadKey | None,
    view: Callable[..., Request] | None,
) -> tuple[Request, float | None]:
    """Return the request and the timeout of a call by the hints around it; `read_key` is asked where they name none.

    `view` makes the request, where the policy looks into calls.
    """
    key: str | bytes | None = None
    if hinted is not None:
        key, again, timeout = hinted.beside(None, None, timeout)
        idempotent = idempotent if again is None else again
    if key is None and read_key is not None:
        key = read_key()
    if view is not None:
        return view(key=key, idempotent=idempotent, replayable=replayable), timeout
    if key is None:
        return balanced(idempotent, replayable), timeout
    return Request(key=key, idempotent=idempotent, replayable=replayable), timeout


def lasting(metadata: Any) -> Any:
    """Return metadata that every try can send: what an iterator gives, it gives once."""
    if metadata is None:  # which the question below takes 0.5 us for
        return None
    return list(metadata) if isinstance(metadata, Iterator) else metadata


def fresh(metadata: Any) -> Any:
    """Return them for one try: its interceptors may change a list in place, and the next try has it as it was."""
    if metadata is None or isinstance(metadata, tuple):
        return metadata
    if isinstance(metadata, list):
        return metadata.copy()
    return Metadata(*metadata) if isinstance(metadata, Metadata) else metadata


def header_in(metadata: Any) -> Callable[[str], str | bytes | None]:
    """Return what looks a header up in a call's metadata: several values of one are joined by a comma (gRFC A42)."""

    def header(name: str) -> str | bytes | None:
        if metadata is None:
            return None
        names = name.lower(), name.lower().encode()  # grpcio takes keys of bytes, too
        try:
            values = [value for key, value in metadata if key in names]
            return None if not values else values[0] if len(values) == 1 else ",".join(values)
        except (TypeError, ValueError):  # grpcio has its own words for what is no metadata
            return None

    return header
