"""A policy that looks into requests: it notes what it reads, and picks the endpoint that it has read the address of."""

from collections.abc import Callable
from random import Random
from typing import Any

from kubelb import Request
from kubelb.core import EndpointState
from kubelb.policies import Members, Needs, Picker, Policy

__all__ = ["EVERYTHING", "HEADERS", "Looking", "everything"]

HEADERS = Needs(headers=True)
EVERYTHING = Needs(headers=True, body=True)


def everything(request: Request) -> Any:
    """Return method, path, host, two spellings of a header that is there, one that is not, and the body."""
    said = [request.header(name) for name in ("X-User", "x-uSER", "x-none")]
    return request.method, request.path, request.host, *said, request.body()


class Looking(Policy, Picker):
    """Policy and picker in one; `seen` is what `read` has returned since it was last asked."""

    def __init__(self, read: Callable[[Request], Any], needs: Needs = HEADERS) -> None:
        self._read = read
        self._needs = needs
        self._seen: list[Any] = []

    @property
    def needs(self) -> Needs:
        return self._needs

    def build(self, members: Members, rng: Random, before: Picker | None = None) -> "Looking":
        self.states = members.states
        return self

    def pick(self, request: Request, now: float) -> EndpointState:
        self._seen.append(found := self._read(request))
        wanted = [state for state in self.states if state.endpoint.authority == found]
        return (wanted or self.states)[0]

    @property
    def seen(self) -> list[Any]:
        seen, self._seen = self._seen, []
        return seen
