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
    """Chooses among the endpoints it was built for.

    `pick` is all there has to be. Three more methods are used where a picker has them; one that goes by a key and a
    table needs them, most do not:

    - ``rebuild(states, rng)`` returns a picker for another set, in place of the policy's `build`, for a table that is
      dear to make and mostly the same;
    - ``pick_other(request, now, fits)`` returns a state for which ``fits(state)`` holds, or None: for a retry, where
      `pick` would return the same again;
    - ``chance(request, draw)`` returns a number from 0 to below 1 for the draw-th time that slow start asks whether a
      newcomer takes a request, in place of chance.
    """

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

    One that goes by a key may have a `key_source` as well, a `KeySource`: then adapters look into each request for the
    key of which its caller says nothing. One that prefers endpoints with less in flight or quicker answers says so by
    ``by_load = True``: then an endpoint that refuses at once what others answer, and so looks empty, gets its fair
    share and no more (`kubelb.core.health.sinkholes`). `kubelb.testing.check_policy` tells whether a policy keeps its
    promises.
    """

    def build(self, states: Sequence[EndpointState], rng: Random) -> Picker:
        """Build a picker for these states: a tuple of one or more. `rng` is the only source of chance."""
        ...
