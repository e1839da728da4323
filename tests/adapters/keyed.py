"""A policy that writes down the key of each request it is asked for: what adapters read from requests."""

from random import Random
from typing import Any

from kubelb import KeySource, Request
from kubelb.core import EndpointState
from kubelb.policies import Members, Needs, Picker, Policy

__all__ = ["Recording"]


class Recording(Policy, Picker):
    """Policy and picker in one; `keys` is what it has seen since it was last asked."""

    def __init__(self, **source: Any) -> None:
        self._needs = Needs(key=KeySource(**source) if source else None)
        self._seen: list[Request] = []

    @property
    def needs(self) -> Needs:
        return self._needs

    def build(self, members: Members, rng: Random, before: Picker | None = None) -> "Recording":
        self.states = members.states
        return self

    def pick(self, request: Request, now: float) -> EndpointState:
        self._seen.append(request)
        return self.states[0]

    @property
    def keys(self) -> list[str | bytes | None]:
        seen, self._seen = self._seen, []
        return [request.key for request in seen]
