"""Pods that speak a companion's protocol: scripted servicers behind a LocalCluster's addresses, and their balancer."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from tests.companions.pods import in_flight
from tests.spelled import spelled
from tests.waiting import until

import kubelb
from kubelb.service import service_of
from kubelb.testing import Backend, LocalCluster, Service

Handlers = dict[str, Any]
Register = Callable[[grpc.Server, Backend], None]


def serves(**services: Callable[[Backend], Handlers]) -> Register:
    """Return what registers these services on each pod; underscores stand for the dots of their names."""

    def register(server: grpc.Server, backend: Backend) -> None:
        for name, handlers in services.items():
            made = grpc.method_handlers_generic_handler(name.replace("_", "."), handlers(backend))
            server.add_generic_rpc_handlers((made,))

    return register


@contextmanager
def serving(grpc: Register | bool, replicas: int = 3, **options: Any) -> Iterator[tuple[Service, kubelb.LoadBalancer]]:
    """Pods, and a balancer that takes them in turn. At the end nothing may be in flight."""
    with LocalCluster() as cluster:
        service = cluster.service("companion.prod:grpc", replicas=replicas, grpc=grpc)
        with kubelb.LoadBalancer(target(service), policy="round_robin", **spelled(options)) as lb:
            yield service, lb
            gc.collect()
            assert until(lambda: in_flight(lb) == 0), service_of(lb).balancer.states()


def target(service: Service) -> str:
    return "static:///" + ",".join(pod.address for pod in service)
