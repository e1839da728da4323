"""Choosing by the request: what writes goes to the first pod of a StatefulSet, all else to any."""

import random
from dataclasses import dataclass

import httpx

import kubelb
from kubelb import Members, Needs, Picker, Policy, Request
from kubelb.adapters.httpx import Transport
from kubelb.core import EndpointState
from kubelb.testing import LocalCluster, check_policy

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True)
class WritesTo(Policy):
    """What writes, or wants to read what was written last, goes to the pod `primary` or nowhere."""

    primary: str

    @property
    def needs(self) -> Needs:
        return Needs(headers=True)  # without it, a request's method is "" and it has no headers

    def build(self, members: Members, rng: random.Random, before: Picker | None = None) -> "WritesPicker":
        return WritesPicker(members, self.primary, rng)


class WritesPicker(Picker):
    def __init__(self, members: Members, primary: str, rng: random.Random) -> None:
        self.states = members.states
        self.primary = next((state for state in members.states if state.endpoint.pod == primary), None)
        self.rng = rng

    def bound(self, request: Request) -> bool:
        return request.method in WRITES or request.header("x-consistency") == "strong"

    def pick(self, request: Request, now: float) -> EndpointState | None:
        return self.primary if self.bound(request) else self.rng.choice(self.states)

    def admits(self, request: Request, state: EndpointState) -> bool:
        return state is self.primary or not self.bound(request)  # a retry, too, keeps to it

    def why(self, request: Request) -> str:
        return "the pod that takes writes cannot be picked"


def main() -> None:
    check_policy(WritesTo("orders-0"))

    with LocalCluster() as cluster:
        orders = cluster.service("orders.prod", replicas=3)
        found = kubelb.DiscoveryOptions(kubeconfig=cluster.kubeconfig)
        with (
            kubelb.LoadBalancer("kube:///orders.prod:http", policy=WritesTo("orders-0"), discovery=found) as lb,
            httpx.Client(mounts={"http://orders.prod": Transport(lb)}) as client,
        ):
            for _ in range(10):
                client.post("http://orders.prod/orders", json={"book": 7})
                client.get("http://orders.prod/orders/7", headers={"X-Consistency": "strong"})
            print([pod.requests for pod in orders])  # [20, 0, 0]
            for _ in range(30):
                client.get("http://orders.prod/orders/7")
            print([pod.requests for pod in orders])  # those that only read are with all of them


if __name__ == "__main__":
    main()
