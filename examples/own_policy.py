"""A policy of your own: one class that builds pickers. This one prefers endpoints of a zone while they are quick."""

import random
from dataclasses import dataclass

import kubelb
from kubelb import Endpoint, Members, Picker, Policy, Request, Snapshot
from kubelb.core import Balancer, EndpointState
from kubelb.testing import check_policy


@dataclass(frozen=True)
class PreferZone(Policy):
    """Those of `zone`, unless the one drawn there is slower than `limit` seconds; then any."""

    zone: str
    limit: float = 0.5

    def build(self, members: Members, rng: random.Random, before: Picker | None = None) -> "ZonePicker":
        return ZonePicker(members, self.zone, self.limit, rng)


class ZonePicker(Picker):
    def __init__(self, members: Members, zone: str, limit: float, rng: random.Random) -> None:
        self.states = members.states
        self.near = [state for state in members.states if state.endpoint.zone == zone] or members.states
        self.limit = limit
        self.rng = rng

    def pick(self, request: Request, now: float) -> EndpointState:
        state = self.rng.choice(self.near)
        return state if state.cost <= self.limit else self.rng.choice(self.states)


def main() -> None:
    check_policy(PreferZone("zone-a"))  # one line in your tests; raises AssertionError and says what is wrong

    balancer = Balancer(PreferZone("eu-1a"), rng=random.Random(7))
    here, there = Endpoint("10.0.0.1", 80, zone="eu-1a"), Endpoint("10.0.1.1", 80, zone="eu-1b")
    balancer.update(Snapshot(1, (here, there)))
    for _ in range(3):
        lease = balancer.pick()
        print(lease.endpoint.authority, lease.endpoint.zone)
        lease.release()

    # The same policy in a load balancer:
    with kubelb.LoadBalancer("static:///127.0.0.1:80", policy=PreferZone("eu-1a")) as lb:
        print(lb)


if __name__ == "__main__":
    main()
