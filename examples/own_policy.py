"""A policy of your own: one class that builds pickers. This one prefers endpoints of a zone while they are quick."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import kubelb
from kubelb import Endpoint, Request, Snapshot
from kubelb.core import Balancer, EndpointState


@dataclass(frozen=True)
class PreferZone:
    """Those of `zone`, unless all of them are slower than `limit` seconds; then whoever."""

    zone: str
    limit: float = 0.5

    def build(self, states: Sequence[EndpointState], rng: random.Random) -> "ZonePicker":
        near = [state for state in states if state.endpoint.zone == self.zone]
        return ZonePicker(near, list(states), self.limit, rng)


@dataclass(frozen=True)
class ZonePicker:
    near: list[EndpointState]
    everybody: list[EndpointState]
    limit: float
    rng: random.Random

    def pick(self, request: Request, now: float) -> EndpointState:
        quick = [state for state in self.near if state.cost <= self.limit]
        return self.rng.choice(quick or self.everybody)


def main() -> None:
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
