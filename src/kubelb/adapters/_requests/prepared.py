"""What a call is, as far as requests can say: its headers, its hints, and whether its body can be sent twice.

Nothing here changes the PreparedRequest. It is the caller's: sessions keep it in `history`, send it again for
authentication and resolve redirects against its URL.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from requests.utils import rewind_body

from kubelb.adapters._requests.bounds import Bounds, Limits
from kubelb.adapters._requests.place import Place
from kubelb.adapters._requests.tls import Secured
from kubelb.adapters._requests.view import View
from kubelb.adapters.http import IDEMPOTENT_METHODS, PROXY_ONLY, balanced
from kubelb.adapters.patience import Patience
from kubelb.clock import Clock
from kubelb.core.keys import KeySource
from kubelb.core.state import EndpointState
from kubelb.model import Request
from kubelb.runtime.door import Exchange
from kubelb.runtime.hinting import current

__all__ = ["Call"]

BLOCK = 1 << 16
"""Bytes that are read from a file at once."""


class Call(Exchange):
    """One request of the client's, for however many attempts."""

    __slots__ = ("_limits", "_produced", "_rewinds", "chunked", "headers", "place", "request", "secured", "url")

    def __init__(self, request: Any, url: str, place: Place, limits: Limits, secured: Secured | None) -> None:
        self.request = request
        self.place = place
        self.url = url
        """What goes on the request line."""
        self._limits = limits
        self.seen = None
        self.secured = secured
        """None for a plain connection."""
        headers = request.headers
        body = request.body
        self.chunked = not (body is None or "Content-Length" in headers)
        # A copy, with Host, which http.client would make of the pod's address.
        self.headers = dict(headers.items()) if "Host" in headers else {"Host": place.authority, **headers}
        for name in self.headers:
            if len(name) == len(PROXY_ONLY) and _lower(name) == PROXY_ONLY:
                self.headers = {name: value for name, value in self.headers.items() if _lower(name) != PROXY_ONLY}
                break
        self._produced = not (body is None or isinstance(body, bytes | str) or _is_buffer(body))
        self._rewinds = self._produced and isinstance(request._body_position, int) and hasattr(body, "seek")  # noqa: SLF001

    def prepare(self, key_source: KeySource | None, views: bool) -> None:
        """Read what the balancer needs to know: the hints around the call, a key where one is asked for, its limits.

        `views` says that its policy looks into requests.
        """
        request, headers = self.request, self.request.headers
        idempotent = request.method in IDEMPOTENT_METHODS or "Idempotency-Key" in headers
        replayable = not self._produced or self._rewinds
        key = deadline = None
        limit = self._limits.in_all
        if (hinted := current()) is not None:
            key, said, deadline = hinted.beside(None, None, None)
            idempotent = idempotent if said is None else said
            if deadline is not None:
                limit = deadline if limit is None else min(limit, deadline)
        if key is None and key_source is not None:
            key = key_source.read(headers.get, lambda: self.url)
        self.deadline, self.limit = deadline, limit
        if views:
            authority = self.place.authority
            self.wanted = View(request, self.url, authority, key=key, idempotent=idempotent, replayable=replayable)
        elif key is None:
            self.wanted = balanced(idempotent, replayable)
        else:
            self.wanted = Request(key=key, idempotent=idempotent, replayable=replayable)

    def bounds(self, clock: Clock, patience: Patience, state: EndpointState, number: int) -> Bounds:
        """Return the bounds of an attempt that begins now."""
        deadline = self.deadline
        over = None if deadline is None else self.start + deadline
        return Bounds(self._limits, self.ends, over, clock, patience, state, number, self.place)

    def carrying(self, carrier: Mapping[str, str]) -> dict[str, str]:
        """Return the headers of one attempt: its own trace context in the place of any other."""
        kept = {name: value for name, value in self.headers.items() if name.lower() not in carrier}
        return {**kept, **carrier}

    def body(self, bounds: Bounds, number: int) -> Any:
        """Return the body for attempt `number`, a file from where requests found it.

        Raises requests' UnrewindableBodyError.
        """
        body = self.request.body
        if not self._produced:
            return body
        if number > 1 and self._rewinds:
            rewind_body(self.request)
        return _produce(body, bounds)


def _lower(name: str | bytes) -> str:
    return (name if isinstance(name, str) else name.decode("latin-1")).lower()


def _is_buffer(body: Any) -> bool:
    try:
        memoryview(body)
    except TypeError:
        return False
    return True


def _produce(body: Any, bounds: Bounds) -> Iterator[Any]:
    """Yield the parts of a file or an iterable; its errors are the caller's, and no endpoint is blamed for them."""
    try:
        if hasattr(body, "read"):
            while part := body.read(BLOCK):
                yield part
        else:
            yield from body
    except Exception:
        bounds.producer_failed = True
        raise
