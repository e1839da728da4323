"""What a policy promises.

A `Policy` is a frozen value without state of its own. For every set of endpoints that may be picked it builds a
`Picker`, outside every lock, so a policy may take its time there; a Picker is asked for each request and must not
block, sleep or raise. Memory lives in `EndpointState`, which outlives both, or passes from a picker to the next one:
`build` is given the picker that the new one replaces.

A policy may choose by another one: it wraps it. Since `build` is the only way that a picker is made, what wraps stays
around what is wrapped through every change of the set.
"""

from collections.abc import Callable, Mapping, Sequence
from random import Random

from kubelb.core.keys import KeySource
from kubelb.core.members import Members
from kubelb.core.state import EndpointState, Usable
from kubelb.model import Request
from kubelb.records import record

__all__ = ["Needs", "Picker", "Policy", "Wrapping"]

DRAWS = 4
"""Times a picker is asked for an endpoint that fits before all of them are looked through."""

_NONE: Mapping[EndpointState, float] = {}


@record(frozen=True, slots=True)
class Needs:
    """What a policy wants of others: of adapters, which read requests, and of the balancer, which keeps statistics.

    - `key`: where adapters look for the key of a request whose caller says none; None: nowhere;
    - `headers`, `body`: whether it reads requests: their method, path, host and headers, and the bytes of their body;
    - `by_load`: whether it is drawn to endpoints that have less in flight or answer sooner. Then one that refuses at
      once what others answer, and so looks empty, gets its fair share and no more (`kubelb.core.health.sinkholes`);
    - `decay`, `failure_penalty`: seconds, the constants of the moving average of latency (`PeakEwma`).

    A policy that wraps another returns the other's needs, and its own with them.
    """

    key: KeySource | None = None
    headers: bool = False
    body: bool = False
    by_load: bool = False
    decay: float = 10.0
    failure_penalty: float = 5.0


NOTHING = Needs()


class Policy:
    """Says how to choose. A policy of your own is one small class:

    >>> from kubelb.core import Balancer
    >>> class First(Policy):
    ...     def build(self, members, rng, before=None):
    ...         return FirstPicker(members.states)
    >>> class FirstPicker(Picker):
    ...     def pick(self, request, now):
    ...         return self.states[0]
    >>> balancer = Balancer(First())

    `kubelb.testing.check_policy` tells whether a policy keeps its promises.
    """

    __slots__ = ()

    @property
    def needs(self) -> Needs:
        """What it wants of adapters and of the balancer; read once, when a balancer is made."""
        return NOTHING

    def build(self, members: Members, rng: Random, before: "Picker | None" = None) -> "Picker":
        """Build a picker for these members, of which `members.states` holds one or more to choose among.

        `rng` is the only source of chance. `before` is the picker that this one replaces, or one for other members of
        the same set: what is dear to make, or was learnt, may be taken over from it. It is not to be altered, as it
        may be in use, and it may be another's: try it by `isinstance`.
        """
        raise NotImplementedError(f"{type(self).__qualname__} has no build(members, rng, before)")

    def among(self, members: Members) -> Members:
        """Return the members that it would ever pick: all of them, unless the policy is a rule.

        Whatever stands in for its picker keeps to these: the probe of an endpoint that was ejected, chance where the
        policy fails, an endpoint that rests where all others are gone. ``among(among(members))`` is ``among(members)``.
        """
        return members


class Picker:
    """Chooses among the endpoints it was built for. `pick` is all that a picker has to have.

    A derived class may have ``__slots__``, with ``states`` among them.
    """

    __slots__ = ()

    states: Sequence[EndpointState] = ()
    """Those it chooses among: where `other` has found none, they are looked through."""

    def __init__(self, states: Sequence[EndpointState] = ()) -> None:
        self.states = states  # type: ignore[misc]  # a derived class has room for it

    def pick(self, request: Request, now: float) -> EndpointState | None:
        """Return one of the states; None where none of them fits the request, which is then refused (see `why`).

        `now` is the balancer's time in seconds, read once for the whole request.
        """
        raise NotImplementedError(f"{type(self).__qualname__} has no pick(request, now)")

    def other(self, request: Request, now: float, fits: Usable) -> EndpointState | None:
        """Return a state of which `fits` is true: for a retry, or a caller that can use only some of them.

        None where a few tries found none; then `states` are looked through in a random order.
        """
        for _ in range(DRAWS):
            state = self.pick(request, now)
            if state is not None and fits(state):
                return state
        return None

    def admits(self, request: Request, state: EndpointState) -> bool:  # noqa: ARG002
        """Return whether `pick` could return this endpoint for this request.

        False for every endpoint where `pick` returns None.

        What is found beside its choice keeps to it: second tries, probes, endpoints that rest.
        """
        return True

    def chance(self, request: Request, draw: int, random: Callable[[], float]) -> float:  # noqa: ARG002
        """Return a number from 0 to below 1, for the draw-th time that slow start asks whether a newcomer takes it."""
        return random()

    def scores(self, request: Request, now: float) -> Mapping[EndpointState, float]:  # noqa: ARG002
        """Return what it compares endpoints by, lesser is better; for an explanation, never on a request's path."""
        return _NONE

    def why(self, request: Request) -> str:  # noqa: ARG002
        """Return why `pick` returns None, in words for an error."""
        return "the policy picks no endpoint for this request"


class Wrapping(Picker):
    """A picker around another one, `inner`, which does all but `pick` and `other`."""

    __slots__ = ("inner", "states")

    def __init__(self, inner: Picker) -> None:
        self.inner = inner
        self.states = inner.states

    def admits(self, request: Request, state: EndpointState) -> bool:
        return self.inner.admits(request, state)

    def chance(self, request: Request, draw: int, random: Callable[[], float]) -> float:
        return self.inner.chance(request, draw, random)

    def scores(self, request: Request, now: float) -> Mapping[EndpointState, float]:
        return self.inner.scores(request, now)

    def why(self, request: Request) -> str:
        return self.inner.why(request)
