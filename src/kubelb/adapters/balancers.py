"""What every adapter begins with: a LoadBalancer, or a target for one of its own."""

from typing import Any

from kubelb.loadbalancer import LoadBalancer
from kubelb.printable import shown

__all__ = ["Connected", "balancer_of"]


def balancer_of(lb_or_target: LoadBalancer | str) -> LoadBalancer:
    """Return the load balancer; raises TargetError for a text that is no target, TypeError for anything else."""
    if isinstance(lb_or_target, str):
        return LoadBalancer(lb_or_target)
    if not isinstance(lb_or_target, LoadBalancer):
        raise TypeError(f"{shown(lb_or_target)}: give a kubelb.LoadBalancer, or a target such as 'reviews.prod:http'")
    return lb_or_target


class Connected:
    """Base of what holds connections, and so is one process's own."""

    def __reduce__(self) -> Any:
        raise TypeError(f"{self!r} cannot be pickled or copied: it holds connections; make one in each process instead")
