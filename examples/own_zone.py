"""Policies that choose by another one: only endpoints of a zone, only a few of many, and both."""

import random

import kubelb
from kubelb import Endpoint, Only, Snapshot, Subset
from kubelb.core import Balancer


def main() -> None:
    zones = [Endpoint(f"10.0.{number % 3}.{number}", 80, zone=f"eu-1{'abc'[number % 3]}") for number in range(60)]

    # A rule: no request ever leaves the zone, and where it has no endpoint a request is refused.
    balancer = Balancer(Only("least_request", zone="eu-1a"), rng=random.Random(7))
    balancer.update(Snapshot(1, tuple(zones)))
    print({balancer.pick().endpoint.zone for _ in range(100)})
    balancer.update(Snapshot(2, tuple(endpoint for endpoint in zones if endpoint.zone != "eu-1a")))
    try:
        balancer.pick()
    except kubelb.Unusable as error:
        print(error)

    # A few of many: ten connections in place of sixty, the same ones for as long as they are there.
    balancer = Balancer(Subset("peak_ewma", size=10), rng=random.Random(7))
    balancer.update(Snapshot(1, tuple(zones)))
    print(len({balancer.pick().endpoint.ip for _ in range(1000)}))

    # They can be put into each other, and what the innermost one needs stays what it was. A load balancer takes them
    # as it takes any policy: kubelb.LoadBalancer("reviews.prod:http", policy=policy).
    policy = Subset(Only(kubelb.PeakEwma(decay=5.0), zone="eu-1a"), size=5)
    print(policy.needs.decay)


if __name__ == "__main__":
    main()
