"""Which names to ask for: a complete one as it is, any other along the search list, as resolvers do.

A name of the cluster is complete without a dot at its end. With the ``ndots:5`` of a pod it would go through three or
more names that cannot exist before its own, for each record type and each refresh.
"""

from kubelb.discovery.dns.steps import Config

__all__ = ["candidates", "service_part"]


def candidates(name: str, config: Config, cluster_domain: str) -> tuple[str, ...]:
    """Return complete names, with a dot at the end, in the order in which they are to be tried (resolv.conf(5))."""
    if name.endswith((".", f".svc.{cluster_domain}")):
        return (name.rstrip(".") + ".",)
    searched = [f"{name}.{suffix.rstrip('.')}." for suffix in config.search]
    whole = f"{name}."
    ordered = [whole, *searched] if name.count(".") >= config.ndots else [*searched, whole]
    return tuple(dict.fromkeys(each for each in ordered if len(each) <= 254))


def service_part(name: str) -> str:
    """``_http._tcp.reviews.prod.svc.cluster.local.`` without its first two labels."""
    return name.split(".", 2)[2]
