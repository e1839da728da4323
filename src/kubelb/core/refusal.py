"""Refusing: the picker of a balancer that has nothing to pick from. It says why, with the numbers behind it.

Being a picker, it costs the ordinary pick no question.
"""

from collections import Counter
from collections.abc import Callable
from typing import NoReturn

from kubelb.core.policies.base import Picker
from kubelb.errors import LoadBalancerError, NoEndpoints, NotReady, UnknownService, Unusable
from kubelb.model import Endpoint, Request, Snapshot

__all__ = ["Refusing", "Unconnected", "refusal"]


class Unconnected(Unusable):
    """The caller can use no endpoint just now: a matter of its connections, which it explains better itself."""


class Refusing(Picker):
    """Raises on every pick what `why` returns; that must not depend on what comes later, such as the first snapshot."""

    __slots__ = ("_why",)

    def __init__(self, why: Callable[[], LoadBalancerError]) -> None:
        self._why = why

    def pick(self, request: Request, now: float) -> NoReturn:  # noqa: ARG002
        raise self._why()


def refusal(service: str, snapshot: Snapshot | None) -> LoadBalancerError:
    """Return the error that says why there is no endpoint: none learnt, no such service, or none that can be used."""
    if snapshot is None:
        return NotReady(service, "no endpoints are known yet")
    if not snapshot.exists:
        return UnknownService(service, snapshot.problem or "no such service")
    counts = {"known": len(snapshot.parked), **Counter(_why(endpoint) for endpoint in snapshot.parked)}
    return NoEndpoints(service, snapshot.problem or "no endpoint can be used", counts)


def _why(endpoint: Endpoint) -> str:
    if endpoint.terminating:
        return "terminating"
    return "elsewhere" if endpoint.ready else "not ready"
