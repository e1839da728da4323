"""One slice -> its endpoints, each with the objects of before wherever nothing about it changed.

An unchanged `Endpoint` stays the same object, so everything after this (the tables, the snapshot, the balancer's diff)
sees at a glance, by `is`, that one of a hundred changed. Only ``addresses[0]`` is used, as kube-proxy does; the API
gives the others no meaning.
"""

import socket
from collections.abc import Callable, Mapping
from typing import Any

from kubelb.discovery.kube.wire import Conditions, Row, Slice
from kubelb.discovery.special import special
from kubelb.model import Address, Endpoint

__all__ = ["Share", "canonical", "read_rows"]

Share = Callable[[Any, Any], Any]
"""``dict.setdefault`` of a pool: ten thousand endpoints name a few nodes, zones and hints."""

FAMILIES = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}
_NIL = Conditions()
_NONE: tuple[Any, ...] = ()
_new = tuple.__new__  # a named tuple's own constructor takes twice the time


def canonical(text: str, family: str) -> str | None:
    """One text for one address, None if it is none.

    >>> canonical("FD00:0:0::1", "IPv6"), canonical("10.0.0.01", "IPv4"), canonical("pod-1", "IPv4")
    ('fd00::1', '10.0.0.1', None)
    """
    code = FAMILIES[family]
    try:
        return socket.inet_ntop(code, socket.inet_pton(code, text))
    except (OSError, ValueError):
        pass
    # Old objects may hold leading zeros, which Kubernetes reads as decimal (ParseIPSloppy) and inet_pton refuses.
    parts = text.split(".")
    if family == "IPv4" and len(parts) == 4 and all(part.isascii() and part.isdigit() for part in parts):
        plain = ".".join(part.lstrip("0") or "0" for part in parts)
        return plain if plain != text and canonical(plain, family) else None
    return None


def read_rows(
    piece: Slice,
    port: tuple[int, str],
    *,
    before: Mapping[Address, Endpoint],
    share: Share,
    skipped: Callable[[str, str], None],
    refused: set[str] | None = None,
) -> dict[Address, Endpoint]:
    """The endpoints of `piece` on one port. `before` is what the same slice held.

    Addresses that are not dialled are left out and put into `refused`; None lets them in.
    """
    number, app_protocol = port
    family = piece.address_type
    rows: dict[Address, Endpoint] = {}
    for row in piece.endpoints or ():
        if not row.addresses:
            continue
        text = row.addresses[0]
        old = before.get((text, number))
        if old is None:
            ip = canonical(text, family)
            if ip is None:
                skipped(f"EndpointSlice {piece.metadata.name}", f"{text!r} is no {family} address")
                continue
            if refused is not None and special(ip):
                refused.add(ip)
                continue
            old = before.get((ip, number))
        else:
            ip = old.ip  # it is a key, so it is canonical
        endpoint = _endpoint(row, ip, number, app_protocol, share)
        if endpoint == old:
            endpoint = old
        address = ip, number
        twin = rows.get(address)
        if twin is None or preferred(endpoint, twin):
            rows[address] = endpoint
    return rows


def preferred(endpoint: Endpoint, twin: Endpoint) -> bool:
    """Of two at one address: the one that runs, then the one that is ready, then the one that was first."""
    return (endpoint.terminating, not endpoint.ready) < (twin.terminating, not twin.ready)


def _endpoint(row: Row, ip: str, number: int, app_protocol: str, share: Share) -> Endpoint:
    ref, hints, conditions = row.target_ref, row.hints, row.conditions or _NIL
    node, zone = row.node_name or "", row.zone or ""
    zones = nodes = _NONE
    if hints is not None:
        if hints.for_zones:
            zones = tuple([hint.name for hint in hints.for_zones])
            zones = share(zones, zones)
        if hints.for_nodes:
            nodes = tuple([hint.name for hint in hints.for_nodes])
            nodes = share(nodes, nodes)
    uid = name = namespace = kind = ""
    if ref is not None:
        uid, name, namespace, kind = ref.uid or "", ref.name or "", ref.namespace or "", ref.kind or ""
    return _new(
        Endpoint,
        (
            ip,
            number,
            uid,
            name,
            share(namespace, namespace),
            share(kind, kind),
            share(node, node),
            share(zone, zone),
            row.hostname or "",
            1.0,
            0,
            conditions.ready is not False,
            conditions.serving is not False,
            conditions.terminating is True,
            app_protocol,
            zones,
            nodes,
            _NONE,
            "",
            "",
        ),
    )
