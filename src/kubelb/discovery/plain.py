"""The Service's own name in the place of its pods: what there is while kubelb is switched off.

    reviews.prod:8080, or fallback_port=8080    reviews.prod.svc.cluster.local:8080, a single endpoint
    reviews.prod:http                           refused: only the API server knows the number of the Service's port

The operating system looks the name up, whenever it is dialled; gRPC does so itself. HTTP adapters need
none of it: a URL has a port.
"""

from kubelb.errors import NoEndpoints
from kubelb.model import Endpoint
from kubelb.target import Target

__all__ = ["plain_endpoint"]


def plain_endpoint(target: Target, cluster_domain: str, fallback_port: int | None) -> Endpoint:
    """Return where the Service itself is dialled; raises NoEndpoints where its port is known by name alone."""
    host = target.host_name
    if not host:  # a Service of the own namespace that is unknown is found along the search list
        host = f"{target.host}.svc.{cluster_domain}" if target.namespace else target.service
    number = target.port if isinstance(target.port, int) else None
    port = number if target.scheme == "dns" or fallback_port is None else fallback_port
    if port is None:
        cure = "give DiscoveryOptions(fallback_port=...), the number of the Service's own port"
        if target.service:
            name = target.host if target.scheme == "dns+srv" else target  # the name of a Service is what counts there
            cure += f", or set KUBELB_TARGETS='{name}={host}:PORT'"
        raise NoEndpoints(str(target), f"kubelb is switched off, and the port is known by its name alone; {cure}")
    return Endpoint(host, port)
