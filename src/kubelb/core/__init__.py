"""Decisions without I/O: which endpoint, how it is doing, whether to try again."""

from kubelb.core.balancer import Balancer
from kubelb.core.lease import Lease
from kubelb.core.state import EndpointState, Phase

__all__ = ["Balancer", "EndpointState", "Lease", "Phase"]
