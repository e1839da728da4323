"""The names a service answers to: an adapter serves these and no others.

A redirect to another host, or a client pointed at the wrong transport, would otherwise deliver a request, with its
cookies and credentials, to a pod of this service.
"""

from collections.abc import Iterable

from kubelb.target import Target

__all__ = ["service_hosts"]


def service_hosts(target: Target, cluster_domain: str, hosts: Iterable[str] | None) -> frozenset[bytes] | None:
    """Return the host names, lower case, as on the wire; None for any (a static list without `hosts`).

    A DNS target also serves the very name that it looks up.
    """
    if hosts is not None:
        if isinstance(hosts, str):
            raise TypeError(f"hosts={hosts!r}: give a list of names, [{hosts!r}]")
        return frozenset(_on_the_wire(host) for host in hosts)
    if not target.host:
        return None
    names = {target.host, target.host_name} - {""}
    if target.service:
        names |= {f"{target.host}.svc", f"{target.host}.svc.{cluster_domain}"}
    return frozenset(name.encode("ascii") for name in names)


def _on_the_wire(host: str) -> bytes:
    text = host.lower().rstrip(".")
    if not text or "/" in text or (":" in text and text.count(":") == 1):
        raise ValueError(f"hosts=[{host!r}]: give bare names, without scheme and port")
    return text.strip("[]").encode("ascii") if text.isascii() else text.encode("idna")
