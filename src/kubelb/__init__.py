"""kubelb: client-side load balancing for Python services on Kubernetes.

Every request picks its own pod, in the calling process, from live EndpointSlices:

    import httpx, kubelb
    from kubelb.adapters.httpx import mounts

    lb = kubelb.LoadBalancer("reviews.prod:http")
    client = httpx.Client(mounts=mounts(lb))
    client.get("http://reviews.prod/ratings/7")

Importing this package loads no client library, no kubernetes package and no event loop.
"""

# First: its hook takes its lock before a fork, which has to come after kubelb's wait for what is being loaded.
import logging as _logging  # noqa: F401

from kubelb import policies
from kubelb.core.health.breaker import CircuitBreaker
from kubelb.core.health.limits import ConcurrencyLimits
from kubelb.core.health.outliers import OutlierDetection
from kubelb.core.health.slow_start import SlowStart
from kubelb.core.retry import FullJitter, Retry, RetryBudget
from kubelb.core.view import EndpointView
from kubelb.discovery.base import Discovery
from kubelb.discovery.options import DiscoveryOptions
from kubelb.errors import (
    Closed,
    DeadlineExceeded,
    LoadBalancerError,
    NeverSent,
    NoEndpoints,
    NotReady,
    Overloaded,
    TargetError,
    UnknownService,
    Unusable,
    WrongHost,
    error_type,
)
from kubelb.itself import __version__ as __version__
from kubelb.loadbalancer import LoadBalancer
from kubelb.model import Attempt, Endpoint, Health, Outcome, Request, Sent, Snapshot, Verdict
from kubelb.policies import *  # noqa: F403 - each of them, without being named here too
from kubelb.runtime.hinting import hints
from kubelb.runtime.switch import disabled
from kubelb.telemetry.options import Telemetry

__all__ = [
    "Attempt",
    "CircuitBreaker",
    "Closed",
    "ConcurrencyLimits",
    "DeadlineExceeded",
    "Discovery",
    "DiscoveryOptions",
    "Endpoint",
    "EndpointView",
    "FullJitter",
    "Health",
    "LoadBalancer",
    "LoadBalancerError",
    "NeverSent",
    "NoEndpoints",
    "NotReady",
    "Outcome",
    "OutlierDetection",
    "Overloaded",
    "Request",
    "Retry",
    "RetryBudget",
    "Sent",
    "SlowStart",
    "Snapshot",
    "TargetError",
    "Telemetry",
    "UnknownService",
    "Unusable",
    "Verdict",
    "WrongHost",
    "disabled",
    "error_type",
    "hints",
    "policies",
]
__all__ += [name for name, value in vars(policies).items() if isinstance(value, type)]
