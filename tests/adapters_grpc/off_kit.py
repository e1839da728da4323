"""A service whose pod and whose name are two servers: what comes to which tells the way that a call went.

The name is `reviews.prod.svc.localhost`, which gRPC's resolver finds on loopback by itself (RFC 6761).
"""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.spelled import spelled

from kubelb import LoadBalancer

__all__ = ["NAME", "Ways", "ways_to"]

NAME = "reviews.prod.svc.localhost"


class Ways:
    """`pod` is known by the seed alone, for there is no API server; `front` is where the name leads."""

    def __init__(self, server: Any, **options: Any) -> None:
        self.pod, self.front = server(), server(**options)

    def balancer(self, **options: Any) -> LoadBalancer:
        options = {"fallback_port": self.front.port, "seed": [self.pod.address], **options}
        return LoadBalancer(
            "reviews.prod:grpc", **spelled(options, cluster_domain="localhost", kubeconfig="/nonexistent")
        )


@pytest.fixture
def ways_to(server: Any) -> Iterator[Ways]:
    """Of the name nothing may be known, and of a lookup nothing seen."""
    yield Ways(server)
