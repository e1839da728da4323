"""Pods with an HTTP handler, and a load balancer that learns them as in a cluster: what every companion stands on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.spelled import spelled

import kubelb
from kubelb.testing import LocalCluster, Service

Handler = Callable[[Any], Any]


@contextmanager
def serving(name: str, handler: Handler | None = None, **options: Any) -> Iterator[tuple[Service, kubelb.LoadBalancer]]:
    """Three pods of the Service `name`, and a balancer that takes them in turn."""
    with LocalCluster() as cluster:
        service = cluster.service(name, replicas=3, handler=handler)
        options = {"policy": "round_robin", **options}
        with kubelb.LoadBalancer(f"{name}:http", **spelled(options, kubeconfig=cluster.kubeconfig)) as lb:
            yield service, lb


def counts(service: Service) -> list[int]:
    """How many requests each pod has had since this was last asked."""
    seen = [pod.requests for pod in service]
    for pod in service:
        pod.clear()
    return seen


def in_flight(lb: kubelb.LoadBalancer) -> int:
    """How many requests the balancer believes to be under way."""
    return sum(view.in_flight for view in lb.endpoints())
