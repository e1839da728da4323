"""kubelb: client-side load balancing for Python services on Kubernetes.

Every request picks its own pod, in the calling process, from live EndpointSlices:

    import httpx, kubelb
    from kubelb.adapters.httpx import mounts

    lb = kubelb.LoadBalancer("reviews.prod:http")
    client = httpx.Client(mounts=mounts(lb))
    client.get("http://reviews.prod/ratings/7")

Importing this package loads no client library, no kubernetes package and no event loop; and of kubelb itself next to
nothing, until one of its names is asked for.
"""

from typing import TYPE_CHECKING

from kubelb.itself import __version__ as __version__
from kubelb.lazily import later

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
"""And each of `kubelb.policies`, without being named here too."""

if TYPE_CHECKING:
    from kubelb import core as core
    from kubelb import errors as errors
    from kubelb import events as events
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
    from kubelb.loadbalancer import LoadBalancer
    from kubelb.model import Attempt, Endpoint, Health, Outcome, Request, Sent, Snapshot, Verdict
    from kubelb.policies import *  # noqa: F403
    from kubelb.runtime.hinting import hints
    from kubelb.runtime.switch import disabled
    from kubelb.telemetry.options import Telemetry
else:
    # A program imports kubelb where it begins, and many of its processes never balance anything. What a load balancer
    # is made of is loaded with the first of these names; with `LoadBalancer` all that there is.
    __getattr__, __dir__ = later(
        globals(),
        every="core.policies",
        core="core",
        errors="errors",
        events="events",
        policies="policies",
        CircuitBreaker="core.health.breaker",
        ConcurrencyLimits="core.health.limits",
        OutlierDetection="core.health.outliers",
        SlowStart="core.health.slow_start",
        **dict.fromkeys(("FullJitter", "Retry", "RetryBudget"), "core.retry"),
        EndpointView="core.view",
        Discovery="discovery.base",
        DiscoveryOptions="discovery.options",
        **dict.fromkeys(
            (
                *("Closed", "DeadlineExceeded", "LoadBalancerError", "NeverSent", "NoEndpoints", "NotReady"),
                *("Overloaded", "TargetError", "UnknownService", "Unusable", "WrongHost", "error_type"),
            ),
            "errors",
        ),
        LoadBalancer="loadbalancer",
        **dict.fromkeys(
            ("Attempt", "Endpoint", "Health", "Outcome", "Request", "Sent", "Snapshot", "Verdict"), "model"
        ),
        hints="runtime.hinting",
        disabled="runtime.switch",
        Telemetry="telemetry.options",
    )
