"""``KUBELB_TARGETS``: other addresses for some services, for a laptop, docker compose or a port-forward.

    KUBELB_TARGETS="reviews.prod=127.0.0.1:8080, ratings.prod:grpc=ratings:9090"

An entry is NAME=ADDRESS:PORT, and NAME a service as a target names it, with or without its port. Several entries for
one service, or a list of addresses with `+` between them, are several endpoints. A host name is looked up in DNS and
``/etc/hosts``, and each of its addresses is an endpoint. The service keeps its name everywhere else.
"""

import os
from dataclasses import replace

from kubelb.errors import TargetError
from kubelb.masking import MASK
from kubelb.target import Target, parse_target

__all__ = ["VARIABLE", "mapped"]

VARIABLE = "KUBELB_TARGETS"
SHAPE = "reviews.prod=127.0.0.1:8080, or reviews.prod:http=reviews:8080"


def mapped(target: Target, given: Target, cluster_domain: str) -> Target | None:
    """Return what stands for a target in the variable, None for nothing.

    `given` is the target as it was given, without the own namespace. Raises TargetError that names the entry and the
    cure, for an entry of whatever service.
    """
    entries = [entry.strip() for entry in os.environ.get(VARIABLE, "").split(",")]
    found: list[Target] = []
    for entry in filter(None, entries):
        name, places = _read(entry)
        if target.scheme != "static" and _same(name, target, given, cluster_domain):
            found += places
    if not found:
        return None
    hosts = [place for place in found if place.name]
    if len(found) == 1 or not hosts:
        addresses = tuple(dict.fromkeys(address for place in found for address in place.addresses))
        return replace(found[0], addresses=addresses)
    place = f"{hosts[0].name}:{hosts[0].port}"
    raise TargetError(
        f"{VARIABLE}: {len(found)} addresses for '{target}', and {place!r} among them is a host name; "
        "give one host name alone, or IP addresses"
    )


def _read(entry: str) -> tuple[Target, list[Target]]:
    if "@" in entry:
        raise TargetError(f"{VARIABLE}: entry '{MASK}@': a login has no place here; give {SHAPE}")
    name, sign, places = entry.partition("=")
    if not sign or not name.strip() or not places.strip():
        raise TargetError(f"{VARIABLE}: entry {entry!r}: give NAME=ADDRESS:PORT, as {SHAPE}")
    try:
        service = parse_target(name.strip())
    except TargetError as error:
        raise TargetError(f"{VARIABLE}: entry {entry!r}: {error}") from None
    if service.scheme not in ("", "kube", "dns") or service.addresses:
        raise TargetError(f"{VARIABLE}: entry {entry!r}: {name.strip()!r} is no service; give {SHAPE}")
    return service, [_place(entry, place.strip()) for place in places.split("+")]


def _place(entry: str, place: str) -> Target:
    host, _, port = place.rpartition(":")
    literal = host.strip("[]").replace(".", "").isdigit() or ":" in host
    if "/" in place or not host or not port.isdigit():
        raise TargetError(f"{VARIABLE}: entry {entry!r}: {place!r} is no address with a port; give {SHAPE}")
    try:
        return parse_target(f"static:///{place}" if literal else f"dns:///{place}")
    except TargetError as error:
        raise TargetError(f"{VARIABLE}: entry {entry!r}: {error}; give {SHAPE}") from None


def _same(name: Target, target: Target, given: Target, cluster_domain: str) -> bool:
    if name.port not in ("", target.port):
        return False
    if name.domain and name.domain != cluster_domain:
        return False
    if name.name:
        return name.host_name == target.host_name
    if name.namespace:
        return (name.service, name.namespace) == (target.service, target.namespace)
    return name.service == given.service and not given.namespace
