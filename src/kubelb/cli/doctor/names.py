"""What DNS says, for a target that is a DNS name: asked by a load balancer, so in its words."""

from collections.abc import Iterator

from kubelb import DiscoveryOptions, LoadBalancer
from kubelb.cli.doctor import around
from kubelb.cli.doctor.finding import Finding, bad, good, note
from kubelb.errors import LoadBalancerError, NoEndpoints, UnknownService
from kubelb.service import service_of
from kubelb.target import Target

__all__ = ["ask"]

CURE = "compare the name with kubectl get service,endpointslices --all-namespaces, and the cluster's domain"


def ask(target: Target, cluster_domain: str) -> Iterator[Finding]:
    """The endpoints behind the name, and whether they can be reached; or why there are none."""
    with LoadBalancer(str(target), discovery=DiscoveryOptions(cluster_domain=cluster_domain)) as lb:
        try:
            lb.wait_ready(around.PATIENCE)
        except (NoEndpoints, UnknownService) as error:  # DNS has answered; health() would send the user back to here
            yield bad("DNS", error.reason, CURE)
            return
        except LoadBalancerError as error:
            health = lb.health()
            yield bad("DNS", health.error, health.cure) if health.error else bad("DNS", error.reason, CURE)
            return
        health, snapshot = lb.health(), service_of(lb).balancer.snapshot
    assert snapshot is not None
    if health.error:
        yield note("DNS", health.error, health.cure)
    else:
        yield good("DNS", f"{target.name} has {len(snapshot.endpoints)} endpoints")
    yield from around.reach(snapshot.endpoints)
