"""Which endpoint a response came from, told as httpx tells it in `extensions`.

requests has no place for that, so a response gets an attribute. It is pickled and copied by the names in `__attrs__`,
where it looks them up in the object itself: so this one is named there, and so is the list, for the copy's own copies.
Nothing of it needs kubelb where it is unpickled.
"""

from typing import Any, TypedDict, cast

import requests

from kubelb.model import Endpoint
from kubelb.printable import name_shown

__all__ = ["Answered", "answered_by", "tell"]


class Answered(TypedDict):
    """Which endpoint gave a response."""

    endpoint: str
    """Its address, as in "10.0.0.7:8080"."""
    pod: str
    """Name of its pod; "" where discovery knows none."""
    attempts: int
    """How many there were, the one that was answered included."""


_NAMES = [*requests.Response.__attrs__, "kubelb", "__attrs__"]


def tell(response: Any, endpoint: Endpoint, attempts: int) -> None:
    """Put it down in a response."""
    response.kubelb = {"endpoint": endpoint.authority, "pod": name_shown(endpoint.pod), "attempts": attempts}
    response.__attrs__ = _NAMES


def answered_by(response: requests.Response) -> Answered | None:
    """Return which endpoint gave a response, None where kubelb had no part in it.

    It is the response's attribute ``kubelb``, with a type: ``{"endpoint": "10.0.0.7:8080", "pod": "reviews-7f9c",
    "attempts": 1}``. Each hop of a redirect, in ``response.history``, has its own; hooks find it; it is pickled and
    copied with the response.

    >>> answered_by(requests.Response()) is None
    True
    """
    return cast("Answered | None", getattr(response, "kubelb", None))
