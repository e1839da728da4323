"""A policy that writes down the key of each request it is asked for: what adapters read from requests."""

from collections.abc import Sequence
from random import Random
from typing import Any

from kubelb import KeySource, Request
from kubelb.core import EndpointState

__all__ = ["Recording"]


class Recording:
    """Policy and picker in one; `keys` is what it has seen since it was last asked."""

    def __init__(self, **source: Any) -> None:
        self.key_source = KeySource(**source) if source else None
        self._seen: list[Request] = []

    def build(self, states: Sequence[EndpointState], rng: Random) -> "Recording":
        self._states = states
        return self

    def pick(self, request: Request, now: float) -> EndpointState:
        self._seen.append(request)
        return self._states[0]

    @property
    def keys(self) -> list[str | bytes | None]:
        seen, self._seen = self._seen, []
        return [request.key for request in seen]
