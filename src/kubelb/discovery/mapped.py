"""``KUBELB_TARGETS``: other addresses for some services, for a laptop, docker compose or a port-forward.

    KUBELB_TARGETS="reviews.prod=127.0.0.1:8080, ratings.prod:grpc=ratings:9090"

An entry is NAME=ADDRESS:PORT, and NAME a service as a target names it, with or without its port. Several entries for
one service, or a list of addresses with `+` between them, are several endpoints. A host name is looked up in DNS and
``/etc/hosts``, and each of its addresses is an endpoint. The service keeps its name everywhere else.
"""

import os
import re

from kubelb.errors import TargetError
from kubelb.masking import MASK, masked
from kubelb.records import replace
from kubelb.target import Target, parse_target

__all__ = ["VARIABLE", "mapped"]

VARIABLE = "KUBELB_TARGETS"
SHAPE = "reviews.prod=127.0.0.1:8080, or reviews.prod:http=reviews:8080"

BEHIND = r"(?s)(?<=[^:/]/).+|(?<=[?#]).+"
"""What follows the host of a URL: its path and its query may hold a key, under whatever name."""


def mapped(target: Target, given: Target, cluster_domain: str) -> Target | None:
    """Return what stands for a target in the variable, None for nothing.

    `given` is the target as it was given, without the own namespace. Raises TargetError that names the entry and the
    cure, for an entry of whatever service; what may be a secret is hidden in it.
    """
    text = os.environ.get(VARIABLE, "")
    if "@" in text:  # asked of the whole: a comma in a password would show its first half
        raise TargetError(f"{VARIABLE}: entry '{MASK}@': a login has no place here; give {SHAPE}")
    entries = [entry.strip() for entry in text.split(",")]
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
    name, sign, places = (part.strip() for part in entry.partition("="))
    if not sign or not name or not places:
        raise _slip(entry, "", f"give NAME=ADDRESS:PORT, as {SHAPE}")
    try:
        service = parse_target(name)
    except TargetError as error:
        slip = _slip(entry, str(error), "")
    else:
        if service.scheme in ("", "kube", "dns") and not service.addresses:
            return service, [_place(entry, place.strip()) for place in places.split("+")]
        slip = _slip(entry, f"{name!r} is no service")
    raise slip  # outside the handler: the first error, which may repeat anything, must not be its context


def _place(entry: str, place: str) -> Target:
    host, _, port = place.rpartition(":")
    literal = host.strip("[]").replace(".", "").isdigit() or ":" in host
    if any(mark in place and "=" in place for mark in "; \t\n"):
        raise _slip(entry, "entries are separated by commas, addresses of one service by +")
    if "/" in place or not host or not port.isdigit():
        raise _slip(entry, f"{place!r} is no address with a port")
    try:
        return parse_target(f"static:///{place}" if literal else f"dns:///{place}")
    except TargetError as error:
        slip = _slip(entry, str(error))
    raise slip


def _slip(entry: str, why: str, cure: str = f"give {SHAPE}") -> TargetError:
    """What is wrong with an entry; why, which repeats parts of it, only where nothing of it has to be hidden."""
    shown = masked(re.sub(BEHIND, MASK, entry))
    if shown != entry:
        why, cure = "it is not NAME=ADDRESS:PORT", f"give {SHAPE}"
    return TargetError(f"{VARIABLE}: entry {shown!r}: {'; '.join(filter(None, (why, cure)))}")


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
