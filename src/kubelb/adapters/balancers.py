"""What every adapter begins with: a LoadBalancer, or a target for one of its own. It keeps the Service behind it."""

from typing import Any, TypeAlias

from kubelb.discovery.base import Discovery
from kubelb.discovery.own import is_discovery
from kubelb.loadbalancer import LoadBalancer
from kubelb.printable import shown
from kubelb.service import Service, service_of

__all__ = ["Connected", "Given", "balancer_of", "looks_into_requests", "owned"]

Given: TypeAlias = LoadBalancer | Discovery | str
"""A load balancer, which stays the caller's; or what one of the adapter's own is made for, and closed with it."""


def owned(lb_or_target: Given | Service) -> bool:
    """Whether the load balancer is the adapter's own."""
    return not isinstance(lb_or_target, LoadBalancer | Service)


def balancer_of(lb_or_target: Given | Service) -> Service:
    """Return the Service of a load balancer; TargetError for a text that is no target, TypeError for anything else."""
    if isinstance(lb_or_target, LoadBalancer):
        return service_of(lb_or_target)
    if isinstance(lb_or_target, Service):
        return lb_or_target
    if not isinstance(lb_or_target, str) and not is_discovery(lb_or_target):
        raise TypeError(f"{shown(lb_or_target)}: give a kubelb.LoadBalancer, or a target such as 'reviews.prod:http'")
    return service_of(LoadBalancer(lb_or_target))


def looks_into_requests(lb: Service) -> bool:
    """Whether its policy reads requests, so that each is a view of the client's own (`Needs.headers`, `Needs.body`).

    It is asked when an adapter is made: for other policies nothing is read, and no view is made.
    """
    needs = lb.balancer.needs
    return needs.headers or needs.body


class Connected:
    """Base of what holds connections, and so is one process's own."""

    def __reduce__(self) -> Any:
        raise TypeError(f"{self!r} cannot be pickled or copied: it holds connections; make one in each process instead")
