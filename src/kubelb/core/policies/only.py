"""Only: endpoints of one zone, region, node or cluster, and never others.

That is a rule, not a preference: of data that may not leave a region, of traffic between zones that may not be paid
for. It holds for retries, probes and fallbacks alike, and where no endpoint is left requests are refused. What is
wanted as long as it is possible is a matter of topology hints, or of a policy of your own that falls back.
"""

from kubelb.core.members import Members
from kubelb.core.policies.base import Policy
from kubelb.core.policies.wrapper import Wrapper
from kubelb.records import record

__all__ = ["Only"]

FIELDS = ("zone", "region", "node", "cluster")


@record(frozen=True, slots=True)
class Only(Wrapper):
    """`of`, a policy or its name, among the endpoints of this `zone`, `region`, `node` and `cluster` alone.

    Each of those given has to be the endpoint's own (`Endpoint.zone` and so on); one that does not say where it is has
    none. Raises `ValueError` where none is given, or one is no name.

    Outlier detection counts all endpoints in use, so that of a service with three zones a whole zone may be ejected:
    then `Only` refuses with `Unusable` until a probe brings one back.

    >>> import kubelb
    >>> policy = kubelb.policies.Only("least_request", zone="eu-1a")
    >>> balancer = kubelb.core.Balancer(policy)
    >>> here, there = kubelb.Endpoint("10.0.0.1", 80, zone="eu-1a"), kubelb.Endpoint("10.0.0.2", 80, zone="eu-1b")
    >>> _ = balancer.update(kubelb.Snapshot(1, (here, there)))
    >>> {balancer.pick().endpoint.zone for _ in range(20)}
    {'eu-1a'}
    """

    of: Policy | str
    zone: str | None = None
    region: str | None = None
    node: str | None = None
    cluster: str | None = None

    def __post_init__(self) -> None:
        Wrapper.__post_init__(self)
        given: dict[str, object] = {**self._given()}
        if not given:
            raise ValueError("Only(...) has no rule: give zone=, region=, node= or cluster=")
        for name, value in given.items():
            if not (isinstance(value, str) and value):
                raise ValueError(f"Only({name}={value!r}): give the name of a {name}")

    def among(self, members: Members) -> Members:
        """Narrow the members down, and then as the inner policy does."""
        wanted = self._given()
        rule = "in " + ", ".join(f"{name} {value!r}" for name, value in wanted.items())
        if len(wanted) == 1:  # the common case, for up to 10 000 endpoints
            ((name, value),) = wanted.items()
            return self.inner.among(members.only(lambda state: getattr(state.endpoint, name) == value, rule))
        pairs = tuple(wanted.items())
        return self.inner.among(
            members.only(lambda state: all(getattr(state.endpoint, name) == value for name, value in pairs), rule)
        )

    def _given(self) -> dict[str, str]:
        return {name: value for name in FIELDS if (value := getattr(self, name)) is not None}
