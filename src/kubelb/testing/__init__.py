"""kubelb.testing: a small Kubernetes on loopback for tests, without Kubernetes.

    from kubelb.testing import LocalCluster

    with LocalCluster() as cluster:
        svc = cluster.service("reviews.prod", replicas=3)
        svc[0].kill()

`check_policy` tries a policy of your own, `mocked` lets mocks of the client answer.

With pytest the fixture `kubelb_cluster` is there as soon as kubelb is installed. The names below are loaded when they
are first used: pytest imports this package for its plugin in every project that has kubelb installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kubelb.testing.backend import Backend
    from kubelb.testing.cluster import LocalCluster
    from kubelb.testing.control import Api
    from kubelb.testing.dns import Dns
    from kubelb.testing.faults import ApiRequest
    from kubelb.testing.http1 import Received, Reply
    from kubelb.testing.mocking import mocked
    from kubelb.testing.policies import check_policy
    from kubelb.testing.received_call import ReceivedCall
    from kubelb.testing.service import Service

__all__ = [
    "Api",
    "ApiRequest",
    "Backend",
    "Dns",
    "LocalCluster",
    "Received",
    "ReceivedCall",
    "Reply",
    "Service",
    "check_policy",
    "mocked",
]

_HOMES = {
    "Api": "control",
    "ApiRequest": "faults",
    "Backend": "backend",
    "Dns": "dns",
    "LocalCluster": "cluster",
    "Received": "http1",
    "ReceivedCall": "received_call",
    "Reply": "http1",
    "Service": "service",
    "check_policy": "policies",
    "mocked": "mocking",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # on the first use of a name, not when pytest starts

    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
