"""What a policy promises.

A `Policy` is a frozen value without state of its own. For every set of endpoints that may be picked it builds a
`Picker`, outside every lock, so a policy may take its time there; a Picker is asked for each request and must not
block, sleep or raise. Memory lives in `EndpointState`, which outlives both.
"""

from collections.abc import Sequence
from random import Random
from typing import Protocol, runtime_checkable

from kubelb.core.state import EndpointState
from kubelb.model import Request

__all__ = ["Picker", "Policy"]


class Picker(Protocol):
    """Chooses among the endpoints it was built for."""

    def pick(self, request: Request, now: float) -> EndpointState:
        """Return one of the states. `now` is the balancer's time in seconds, read once for the whole request."""
        ...


@runtime_checkable
class Policy(Protocol):
    """Says how to choose. A policy of your own is one small class:

    >>> from dataclasses import dataclass
    >>> class First:
    ...     def build(self, states, rng):
    ...         return self.Picker(states[0])
    ...     @dataclass
    ...     class Picker:
    ...         state: object
    ...         def pick(self, request, now):
    ...             return self.state
    >>> from kubelb.core import Balancer
    >>> balancer = Balancer(First())
    """

    def build(self, states: Sequence[EndpointState], rng: Random) -> Picker:
        """Build a picker for these states: a tuple of one or more. `rng` is the only source of chance."""
        ...
