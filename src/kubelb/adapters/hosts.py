"""The names a service answers to: an adapter serves these and no others.

A redirect to another host, or a client pointed at the wrong transport, would otherwise deliver a request, with its
cookies and credentials, to a pod of this service.
"""

from collections.abc import Iterable

from kubelb.masking import masked
from kubelb.printable import shown
from kubelb.target import Target

__all__ = ["check_server_hostname", "service_hosts"]


def service_hosts(
    target: Target, cluster_domain: str, hosts: Iterable[str] | None, short: bool = False
) -> frozenset[bytes] | None:
    """Return the host names, lower case, as on the wire; None for any (a static list without `hosts`).

    A DNS target also serves the very name that it looks up; one of the own namespace (`short`) the Service's alone, and
    nothing else for as long as the namespace is unknown.
    """
    if hosts is not None:
        return frozenset(_on_the_wire(f"hosts=[{shown(host)}]", host) for host in _listed(hosts))
    if not target.host:
        return None
    names = {target.host, target.host_name} - {""}
    if short and target.service:
        names.add(target.service)
    if target.namespace:
        names |= {f"{target.host}.svc", f"{target.host}.svc.{cluster_domain}"}
    return frozenset(name.encode("ascii") for name in names)


def _listed(hosts: object) -> Iterable[object]:
    if isinstance(hosts, str):
        raise TypeError(f"hosts={masked(repr(hosts))}: give a list of names, [{masked(repr(hosts))}]")
    if isinstance(hosts, bytes) or not isinstance(hosts, Iterable):
        raise TypeError(f"hosts={masked(repr(hosts))}: give a list of names, such as ['reviews.prod']")
    return hosts


def check_server_hostname(name: str | None) -> str | None:
    """Return the name as certificates have it, None for none; raises ValueError for what is no name."""
    return None if name is None else _on_the_wire(f"server_hostname={shown(name)}", name).decode()


def _on_the_wire(option: str, host: object) -> bytes:
    if not isinstance(host, str):
        raise TypeError(f"{option}: give a name as text")
    text = host.lower().rstrip(".")
    if not text or "/" in text or text.count(":") == 1 or any(sign.isspace() for sign in text):
        raise ValueError(f"{option}: give bare names, without scheme, port and spaces")
    try:
        return text.strip("[]").encode("ascii" if text.isascii() else "idna")
    except UnicodeError as error:
        raise ValueError(f"{option}: no name that DNS could have: {error}") from error
