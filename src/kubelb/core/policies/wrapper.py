"""Wrapper: what policies that choose by another one are derived from.

Most of them are rules: they say among which endpoints the other policy chooses, and add nothing to a pick, since the
picker is the other policy's own, built for fewer. Where a rule leaves no endpoint, a pick is refused and says by which
rule; it never goes elsewhere.
"""

from random import Random
from typing import cast

from kubelb.core.members import Members
from kubelb.core.policies.base import Needs, Picker, Policy
from kubelb.core.policies.named import policy_from
from kubelb.core.state import EndpointState
from kubelb.model import Request

__all__ = ["Wrapper"]


class Wrapper(Policy):
    """A policy that chooses by another one, `of`: that is a policy, or the name of one. A rule of your own has `among`:

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class EvenPort(Wrapper):
    ...     of: Policy | str
    ...     def among(self, members):
    ...         return self.inner.among(members.only(lambda state: state.endpoint.port % 2 == 0, "with an even port"))
    >>> from kubelb.core import Balancer
    >>> balancer = Balancer(EvenPort("least_request"))
    """

    __slots__ = ()

    of: Policy | str

    def __post_init__(self) -> None:
        object.__setattr__(self, "of", policy_from(self.of))

    @property
    def inner(self) -> Policy:
        """The policy that chooses."""
        return cast(Policy, self.of)

    @property
    def needs(self) -> Needs:
        """Those of the policy that chooses."""
        return self.inner.needs

    def among(self, members: Members) -> Members:
        """Return the members that the policy which chooses would ever pick; a rule narrows them down before that."""
        return self.inner.among(members)

    def build(self, members: Members, rng: Random, before: Picker | None = None) -> Picker:
        """Build the picker of the policy that chooses, for those that the rule leaves."""
        left = self.among(members)
        return self.inner.build(left, rng, before) if left.states else Nothing(left.rules)


class Nothing(Picker):
    """Picks none, since a rule has left none. A balancer refuses before it comes to that, with numbers."""

    __slots__ = ("_rules",)

    def __init__(self, rules: tuple[str, ...]) -> None:
        self._rules = rules

    def pick(self, request: Request, now: float) -> EndpointState | None:  # noqa: ARG002
        return None

    def admits(self, request: Request, state: EndpointState) -> bool:  # noqa: ARG002
        return False

    def why(self, request: Request) -> str:  # noqa: ARG002
        return f"there is no endpoint {' and '.join(self._rules)}"
