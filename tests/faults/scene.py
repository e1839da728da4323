"""The stage for one row: three pods, a load balancer that tries them in their order, one client; and what is left."""

import gc
from collections.abc import Sequence
from random import Random
from typing import Any

from tests.faults.asking import Allowed, Ask, End, How
from tests.faults.by_hand import HAND, Acall, Call
from tests.faults.clients import Client, Going
from tests.faults.over_grpc import RPC, STREAM, AioStream, AioUnary, FutureCall, Gate, Stream, Unary
from tests.faults.over_http import HTTP, AsyncHttpx, AsyncHttpx2, Httpx, Httpx2, Requests
from tests.spelled import spelled
from tests.waiting import until

import kubelb
from kubelb.core.state import EndpointState
from kubelb.model import Request, Snapshot
from kubelb.policies import Members, Picker, Policy
from kubelb.service import service_of
from kubelb.testing import LocalCluster

__all__ = ["ADAPTERS", "CLIENTS", "InOrder", "Scene"]

CLIENTS: tuple[type[Client], ...] = (
    Httpx,
    AsyncHttpx,
    Httpx2,
    AsyncHttpx2,
    Requests,
    Unary,
    FutureCall,
    Stream,
    AioUnary,
    AioStream,
    Call,
    Acall,
)
ADAPTERS: tuple[type[Client], ...] = (Httpx, AsyncHttpx, Requests, Unary, AioUnary, Call, Acall)
"""One client for each adapter and world: for what takes its time."""


class InOrder(Policy):
    """A policy: the first endpoint always, the next where that one was tried."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = list(addresses)

    def build(self, members: Members, rng: Random, before: Picker | None = None) -> "InOrder.Picker":
        return self.Picker(min(members.states, key=lambda state: self._addresses.index(state.endpoint.authority)))

    class Picker(Picker):
        def __init__(self, state: EndpointState) -> None:
            self._state = state

        def pick(self, request: Request, now: float) -> EndpointState:
            return self._state


class Scene:
    """`pods` are a LocalCluster's; `first` may be something else in the first one's place, with an `address`."""

    def __init__(self, cluster: LocalCluster, kind: type[Client], name: str, replicas: int = 3) -> None:
        self.cluster = cluster
        self.kind = kind
        self.gate = Gate()
        self.speaks_grpc = kind.family in {RPC, STREAM}
        self.service = cluster.service(name, replicas=replicas, grpc=self.gate.register if self.speaks_grpc else False)
        self.pods = self.service.backends
        self.first: Any = self.pods[0]
        self.lb: kubelb.LoadBalancer
        self.client: Client

    def begin(self, *, connected: int | None = None, **options: Any) -> None:
        """Make the load balancer and its client: faults that must be there before come before.

        gRPC then waits for so many connections, one for each pod if nothing is said. What is off by default is on.
        """
        addresses = [self.first.address, *(pod.address for pod in self.pods[1:])]
        options = {
            "policy": InOrder(addresses),
            "retry": kubelb.Retry(wait=kubelb.FullJitter(0.0, 0.0)),
            "limits": kubelb.ConcurrencyLimits(max_requests_per_endpoint=100, max_retries=100),
            "breaker": kubelb.CircuitBreaker(),
            "rng": Random(7),
        } | options
        self.lb = kubelb.LoadBalancer(f"static:///{','.join(addresses)}", **spelled(options))
        self._all = service_of(self.lb).balancer.snapshot.endpoints
        self.states = service_of(self.lb).balancer.states()
        self.client = self.kind(self.lb)
        self.client.connected(len(self.pods) if connected is None else connected)

    def discover(self, **options: Any) -> None:
        """The same by way of EndpointSlices, with everything as it is by default."""
        self.lb = kubelb.LoadBalancer(self.service.address, **spelled(options, kubeconfig=self.cluster.kubeconfig))
        self.client = self.kind(self.lb)
        self.lb.wait_ready(20.0)
        self.client.connected(len(self.pods))

    # What rows do beside the faults of pods

    def hold_answer(self) -> None:
        """The first pod does not begin to answer before `let_go`."""
        self.pods[0].slow(60.0)

    def hold_halfway(self, pod: int = 0) -> None:
        """The pod begins to answer, and does not go on before `let_go`."""
        if self.speaks_grpc:
            self.gate.shut(self.pods[pod])
        else:
            self.pods[pod].drip(1_000_000, 60.0)

    def let_go(self) -> None:
        """What was held goes on."""
        self.gate.open()
        for pod in self.pods:
            if pod.alive and pod.in_flight:  # not a dead one, which would be born again, nor one that refuses
                pod.heal()

    def under_way(self, ask: Ask) -> Going:
        """Begin a call, and wait until the first pod works on it."""
        going = self.client.begin(ask)
        assert until(lambda: self.pods[0].in_flight == 1, 20.0)
        return going

    def publish(self, pods: Sequence[Any]) -> None:
        """Discovery says that these are the endpoints."""
        addresses = {pod.address for pod in pods}
        kept = tuple(endpoint for endpoint in self._all if endpoint.authority in addresses)
        service_of(self.lb)._publish(Snapshot((service_of(self.lb).balancer.version or 0) + 1, kept))

    # What is left

    def delivered(self, ask: Ask) -> tuple[int, ...]:
        """How often each pod was given this call."""
        first = self.first.delivered if self.first is not self.pods[0] else self._seen(self.pods[0], ask)
        return (first, *(self._seen(pod, ask) for pod in self.pods[1:]))

    @staticmethod
    def _seen(pod: Any, ask: Ask) -> int:
        return sum(request.headers.get("x-ask") == ask.marker for request in pod.log)

    def blamed(self) -> tuple[int, ...]:
        """How many failures each pod has been charged with, in the order of `pods`."""
        failures = {view.address: view.failures for view in self.lb.endpoints()}
        return tuple(failures.get(pod.address, 0) for pod in (self.first, *self.pods[1:]))

    def nothing_in_flight(self) -> bool:
        """As far as the load balancer knows, endpoints that are gone included, and its limits."""
        gc.collect()
        limiter = service_of(self.lb).balancer.limiter
        counted = limiter is not None and (limiter.requests or limiter.retries or limiter.pending)
        return not counted and not any(state.in_flight for state in self.states)

    def at_rest(self) -> bool:
        """Nothing is in flight for the load balancer; nor for a pod, once that has stopped waiting by itself."""
        if not until(self.nothing_in_flight, 10.0):
            return False
        self.let_go()
        return until(lambda: not any(pod.in_flight for pod in self.pods), 10.0)

    def usable(self) -> None:
        """All is well again: the client's next call is answered, given to one pod, and no connection is left over."""
        self.gate.open()
        for pod in self.pods:
            pod.heal()
        self.publish([pod for pod in self.pods if pod is self.first or pod is not self.pods[0]])
        self.client.connected(3 if self.first is self.pods[0] else 2)
        ask = Ask(Allowed.NO)
        end: End = self.client.ask(ask)
        if self.speaks_grpc and end.how is How.LOST:  # a connection that has just died is found out by a call on it
            ask = Ask(Allowed.NO)
            end = self.client.ask(ask)
        assert end.how is How.ANSWERED, end
        assert [pod.name for pod in self.pods if self._seen(pod, ask)] == [end.pod]
        most = {HTTP: 1, RPC: 1, STREAM: 1, HAND: 0}[self.kind.family]
        assert until(lambda: max(pod.connections for pod in self.pods) == most, 10.0)

    def end(self) -> None:
        """Close everything; then no connection is left."""
        self.gate.open()
        if hasattr(self, "client"):
            gc.collect()  # a cancelled task keeps its traceback, and that a call of gRPC, and that its connection
            self.client.close()
            self.lb.close()
            assert until(lambda: sum(pod.connections for pod in self.service) == 0, 10.0)
        self.cluster.delete_service(self.service)
