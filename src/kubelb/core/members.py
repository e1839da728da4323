"""Members: what a policy builds a picker from.

They are one value, made for one build and never altered: the endpoints to choose among, all that are in use, and where
this process is. What costs something is not computed but asked for: `known` and `out` look when they are called.
"""

from collections.abc import Callable
from typing import NamedTuple

from kubelb.core.state import EndpointState

__all__ = ["Members", "Place"]

States = tuple[EndpointState, ...]


class Place(NamedTuple):
    """Where something is: this process, or an endpoint. "" where that is not known."""

    zone: str = ""
    node: str = ""
    region: str = ""
    cluster: str = ""


NOWHERE = Place()


class Members:
    """The endpoints of one service at one moment, as a policy sees them.

    >>> from kubelb import Endpoint
    >>> from kubelb.core import EndpointState
    >>> states = [EndpointState(Endpoint(f"10.0.0.{n}", 80, zone="ab"[n % 2]), None) for n in range(4)]
    >>> members = Members(states)
    >>> len(members.only(lambda state: state.endpoint.zone == "a").states)
    2
    """

    __slots__ = ("_everyone", "_reasons", "here", "rules", "service", "states", "used")

    def __init__(
        self,
        states: "States | list[EndpointState]",
        used: "States | list[EndpointState] | None" = None,
        here: Place = NOWHERE,
        service: str = "",
        *,
        rules: tuple[str, ...] = (),
        known: Callable[[], States] | None = None,
        reasons: Callable[[EndpointState], tuple[str, ...]] | None = None,
    ) -> None:
        self.states: States = tuple(states)
        """Those to choose among: none of them is ejected, and as a rule none rests or is new."""
        self.used: States = self.states if used is None else tuple(used)
        """All in use, those that are ejected included: what is to stay as it is while one is away stands on these."""
        self.here = here
        """Where the caller is, as it was told: ``Balancer(here=)``, which a LoadBalancer takes from the options of
        discovery or the environment. A zone that is learnt later is not in it."""
        self.service = service
        self.rules = rules
        """What has narrowed these down, in words: ``"in zone 'a'"``."""
        self._everyone = known
        self._reasons = reasons

    @property
    def known(self) -> States:
        """All that discovery knows, those that are not ready or elsewhere included."""
        return self.used if self._everyone is None else self._everyone()

    def out(self, state: EndpointState) -> tuple[str, ...]:
        """Return why an endpoint is not among `states`, in words as of now; nothing where it is.

        Where nothing is wrong with it, and what narrowed these down has left it out, it is told by that: ``"not in
        zone 'a'"``.
        """
        if state in self.states:
            return ()
        reasons = () if self._reasons is None else self._reasons(state)
        if not reasons and self.rules and state not in self.used:
            return (f"not {' and '.join(self.rules)}",)
        return reasons

    def among(self, states: States) -> "Members":
        """Return the same with these to choose among."""
        return self if states is self.states else self._with(states, self.used, self.rules)

    def only(self, keep: Callable[[EndpointState], bool], rule: str = "") -> "Members":
        """Return those of them that `keep` is true of; `rule` says in a refusal which these are."""
        states, used = tuple(filter(keep, self.states)), tuple(filter(keep, self.used))
        return self._with(states, used, (*self.rules, rule) if rule else self.rules)

    def _with(self, states: States, used: States, rules: tuple[str, ...]) -> "Members":
        return Members(states, used, self.here, self.service, rules=rules, known=self._everyone, reasons=self._reasons)

    def __repr__(self) -> str:
        return f"<Members {len(self.states)} of {len(self.used)} {' '.join(self.rules)}>"
